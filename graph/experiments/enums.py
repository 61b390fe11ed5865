"""The enums of experiments, runs and lineage, published in the schema. `graph` imports them from here, so that none is used without a description."""

from __future__ import annotations

from enum import StrEnum

from db.queries.goals import Goal
from db.queries.lineage import LineageDirection
from db.queries.lineage_relations import LineageKind, LineageRelation
from db.tables.experiments import RunSource, RunStatus
from graph.core.enums import describe

__all__ = [
    "Goal",
    "LineageDirection",
    "LineageKind",
    "LineageRelation",
    "RunOrderField",
    "RunSource",
    "RunStatus",
]


class RunOrderField(StrEnum):
    CREATED_AT = "created_at"
    NUMBER = "number"
    STARTED_AT = "started_at"
    COMPLETED_AT = "completed_at"
    DURATION = "duration"
    NAME = "name"


describe(
    Goal, "Which values of a metric are better.", MAXIMIZE="Greater values, as of an accuracy.", MINIMIZE="Smaller values, as of an error."
)
describe(
    RunStatus,
    "The status of a run, which follows that of its job; of an external run, what its code said.",
    PENDING="Its job is waiting.",
    RUNNING="Its job, or the code that logs to it, is running.",
    COMPLETED="Its job completed, and its model version exists; or its code said so.",
    FAILED="Its job failed, or its code said so or was not heard of any more; the metrics recorded until then are kept.",
    CANCELLED="Its job was cancelled, or its code said so; the metrics recorded until then are kept.",
)
describe(
    RunSource,
    "What makes a run.",
    JOB="A job of Trellis, which trains.",
    EXTERNAL="Code elsewhere, which logs to it through the API.",
)
describe(
    RunOrderField,
    "The fields that a list of runs can be ordered by, besides metrics and hyperparameters.",
    CREATED_AT="When it was requested.",
    NUMBER="Its number within its experiment.",
    STARTED_AT="When a worker first claimed its job; runs that have not started come last.",
    COMPLETED_AT="When it ended; runs that have not come last.",
    DURATION="The time from its first start to its end; runs that have not ended come last.",
    NAME="Its name, ignoring case; runs without one come last.",
)
describe(
    LineageDirection,
    "The direction to follow lineage edges from the start.",
    UPSTREAM="To its causes.",
    DOWNSTREAM="To its effects.",
    BOTH="To causes and to effects, but not to other effects of its causes.",
)
describe(
    LineageKind,
    "The kind of a lineage node.",
    DATASET_VERSION="A version of a dataset.",
    PIPELINE_SNAPSHOT="A snapshot of a pipeline's definition.",
    JOB="A job that ran.",
    RUN="A run of an experiment.",
    MODEL_VERSION="A version of a model.",
    EXPORT="A version of a dataset or a model, written in another format.",
)
describe(
    LineageRelation,
    "The relation of the source of an edge to its target.",
    INPUT_OF="The job or external run (target) read the version (source), or predicted with it.",
    USED_BY="The job (target) ran the snapshot (source).",
    EXECUTED_AS="The run (target) records the training of the job (source).",
    PRODUCED="The run produced the model version, or the job produced the dataset version.",
    DERIVED_FROM="The target was derived from the source; both are versions.",
    SCORED_BY="The target, a dataset version, holds predictions by the source, a model version.",
    EXPORTED_AS="The export (target) has the version (source) in another format.",
)
