"""Computations on the samples of signals and seismic gathers: pure functions of arrays, without files, items or pipelines.

Samples are float64 with time along the last axis: channels × samples, or traces × samples of a gather.
"""
