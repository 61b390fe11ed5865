"""The words of experiments, runs and lineage, published. `graph` imports them from here, so that none is used without a description."""

from __future__ import annotations

from enum import StrEnum

from db.queries.lineage import LineageDirection, LineageKind, LineageRelation
from db.tables.experiments import RunStatus
from graph.core.enums import describe

__all__ = [
    "Goal",
    "LineageDirection",
    "LineageKind",
    "LineageRelation",
    "RunOrderField",
    "RunStatus",
]


class RunOrderField(StrEnum):
    CREATED_AT = "created_at"
    NUMBER = "number"


class Goal(StrEnum):
    MAXIMIZE = "maximize"
    MINIMIZE = "minimize"


describe(Goal, "Which values of a metric are good.", MAXIMIZE="Great ones, as of accuracy.", MINIMIZE="Small ones, as of an error.")
describe(
    RunStatus,
    "Where a run stands: it follows its job.",
    PENDING="Its job waits.",
    RUNNING="Its job runs.",
    COMPLETED="Its job completed, and its model version is there.",
    FAILED="Its job failed; what was measured until then stays.",
    CANCELLED="Its job was stopped; what was measured until then stays.",
)
describe(
    RunOrderField,
    "What a list of runs can be ordered by, apart from metrics.",
    CREATED_AT="When it was requested.",
    NUMBER="Its number within its experiment.",
)
describe(
    LineageDirection,
    "Which way to go from the start.",
    UPSTREAM="To what it came of.",
    DOWNSTREAM="To what came of it.",
    BOTH="To both; not to what else came of its causes.",
)
describe(
    LineageKind,
    "What a node of a lineage is.",
    DATASET_VERSION="A version of a dataset.",
    PIPELINE_SNAPSHOT="A frozen definition of a pipeline.",
    JOB="A job that ran.",
    RUN="A run of an experiment.",
    MODEL_VERSION="A version of a model.",
    EXPORT="Data or a model written in another form.",
)
describe(
    LineageRelation,
    "How the source of an edge led to its target.",
    INPUT_OF="The job read the version.",
    USED_BY="The job ran the snapshot.",
    EXECUTED_AS="The run is the job's training.",
    PRODUCED="The run made the model version, or the job the version.",
    DERIVED_FROM="The target was made of the source: both are versions.",
    EXPORTED_AS="The target is the source in another form.",
)
