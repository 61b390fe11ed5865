"""The words of the pipelines, published. The graph takes them from here, so that none is used before it is described."""

from __future__ import annotations

from db.tables.pipelines import PipelineStatus, StepType
from graph.core.enums import describe

__all__ = ["PipelineStatus", "StepType"]

describe(
    PipelineStatus,
    "Whether a pipeline can run.",
    DRAFT="Its definition is sound but not complete.",
    VALIDATED="Its definition is complete: it can run.",
    ARCHIVED="Put away: it cannot run, and its definition stays as it is.",
)
describe(
    StepType,
    "What a step does to the data that passes through it.",
    DATASET="Brings the dataset version in; every pipeline has one.",
    TRANSFORM="Changes columns; what it learns, it learns from training rows alone.",
    FILTER="Leaves rows out.",
    AUGMENT="Adds rows made of others.",
    SPLIT="Sets rows aside for validation and test.",
    TRAIN="Trains a model; a pipeline has at most one.",
    EVALUATE="Measures the model.",
    EXPLAIN="Says what the model goes by.",
    EXPORT="Writes what came out as a file.",
)
