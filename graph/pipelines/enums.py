"""The enums of pipelines, published in the schema. `graph` imports them from here, so that none is used without a description."""

from __future__ import annotations

from db.services.ml_tasks import MlTaskType
from db.tables.pipelines import PipelineStatus, StepType
from graph.core.enums import describe

__all__ = ["MlTaskType", "PipelineStatus", "StepType"]

describe(
    PipelineStatus,
    "Whether a pipeline can run.",
    DRAFT="Its definition is valid but incomplete.",
    VALIDATED="Its definition is valid and complete: it can run.",
    ARCHIVED="It is archived: it cannot run, and its definition cannot change.",
)
describe(
    StepType,
    "The function of a step in a pipeline.",
    DATASET="Reads the dataset version; every pipeline has exactly one.",
    TRANSFORM="Changes columns; it is fitted on training rows only.",
    FILTER="Removes rows.",
    AUGMENT="Adds training rows made of others.",
    SPLIT="Sets rows aside for validation and test.",
    TRAIN="Trains a model; a pipeline has at most one.",
    EVALUATE="Evaluates the model.",
    EXPLAIN="Explains what the predictions of the model depend on.",
    EXPORT="Exports the result, as files in a format of other programs.",
)
describe(
    MlTaskType,
    "What a task learns.",
    CLASSIFICATION="Which of several classes something is of.",
    REGRESSION="A number.",
    CLUSTERING="Groups of what is alike, none of which are known before.",
    RECONSTRUCTION="What is missing in a signal or an image.",
    ANOMALY_DETECTION="What differs from most.",
    NER="The names in a text, and what they are names of.",
    OBJECT_DETECTION="Where things are in an image, and which.",
    SEGMENTATION="Which parts of an image, or of a signal, belong together.",
)
