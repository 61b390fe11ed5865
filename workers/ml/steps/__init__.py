"""The steps that a pipeline can be made of. Importing this stays light: what does the work is imported where it is done."""

from workers.ml.steps.registry import DEFINITIONS, STEPS

__all__ = ["DEFINITIONS", "STEPS"]
