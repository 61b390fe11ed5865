"""What leads to what: the kinds of nodes of lineage, and the relations between them.

Edges point from cause to effect:

    version  INPUT_OF     job            the job read it
    version  INPUT_OF     run            the external run said that it read it
    model version INPUT_OF job           the job predicted with it
    snapshot USED_BY      job            the job ran this frozen definition
    job      EXECUTED_AS  run            the run is the job's training
    job      PRODUCED     version        an ingest's version, or a derived one
    run      PRODUCED     model version  (the job itself where there is no run)
    version  EXPORTED_AS  export         and a model version likewise
    job      PRODUCED     export
    version  DERIVED_FROM version        from the version read to the one made of it; reported between nodes, never followed
    model version SCORED_BY version      from the model to the version with its predictions; reported between nodes, never followed
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import aliased

from db.core.policy import visible
from db.core.sql import Column, Rows
from db.core.viewer import Viewer
from db.tables import (
    Dataset,
    DatasetVersion,
    Experiment,
    Export,
    Job,
    JobInput,
    JobOutput,
    Model,
    ModelVersion,
    PipelineSnapshot,
    Run,
    RunInput,
)
from db.tables.datasets import DatasetSource
from db.tables.jobs import JobKind


class LineageKind(StrEnum):
    """The kind of a node."""

    DATASET_VERSION = "dataset_version"
    PIPELINE_SNAPSHOT = "pipeline_snapshot"
    JOB = "job"
    RUN = "run"
    MODEL_VERSION = "model_version"
    EXPORT = "export"


class LineageRelation(StrEnum):
    """How the source of an edge led to its target."""

    INPUT_OF = "input_of"
    USED_BY = "used_by"
    EXECUTED_AS = "executed_as"
    PRODUCED = "produced"
    DERIVED_FROM = "derived_from"
    SCORED_BY = "scored_by"
    EXPORTED_AS = "exported_as"


VERSION, SNAPSHOT, JOB, RUN, MODEL, EXPORT = (
    LineageKind.DATASET_VERSION,
    LineageKind.PIPELINE_SNAPSHOT,
    LineageKind.JOB,
    LineageKind.RUN,
    LineageKind.MODEL_VERSION,
    LineageKind.EXPORT,
)


def _version(viewer: Viewer) -> Rows:
    return select(DatasetVersion.id).where(visible(DatasetVersion, viewer))


def _model(viewer: Viewer) -> Rows:
    return select(ModelVersion.id).where(visible(ModelVersion, viewer))


def _job(viewer: Viewer) -> Rows:
    return select(Job.id).where(visible(Job, viewer))


def _run(viewer: Viewer) -> Rows:
    return select(Run.id).where(visible(Run, viewer))


def _snapshot(viewer: Viewer) -> Rows:
    return select(PipelineSnapshot.id).where(visible(PipelineSnapshot, viewer))


def _export(viewer: Viewer) -> Rows:
    return select(Export.id).where(visible(Export, viewer))


NeighbourSelect = Callable[[Viewer, Column], Rows]


@dataclass(frozen=True, slots=True)
class Relation:
    """From a cause to its effects (`down`) and back (`up`): each selects the ids of the neighbours of an id."""

    name: LineageRelation
    cause: LineageKind
    effect: LineageKind
    down: NeighbourSelect
    up: NeighbourSelect


RELATIONS = (
    Relation(
        LineageRelation.INPUT_OF,
        VERSION,
        JOB,
        lambda viewer, id_: _job(viewer).join(JobInput, JobInput.job_id == Job.id).where(JobInput.dataset_version_id == id_),
        lambda viewer, id_: _version(viewer).join(JobInput, JobInput.dataset_version_id == DatasetVersion.id).where(JobInput.job_id == id_),
    ),
    Relation(
        LineageRelation.INPUT_OF,
        VERSION,
        RUN,
        lambda viewer, id_: _run(viewer).join(RunInput, RunInput.run_id == Run.id).where(RunInput.dataset_version_id == id_),
        lambda viewer, id_: _version(viewer).join(RunInput, RunInput.dataset_version_id == DatasetVersion.id).where(RunInput.run_id == id_),
    ),
    Relation(
        LineageRelation.INPUT_OF,
        MODEL,
        JOB,
        lambda viewer, id_: _job(viewer).where(Job.model_version_id == id_),
        lambda viewer, id_: _model(viewer).join(Job, Job.model_version_id == ModelVersion.id).where(Job.id == id_),
    ),
    Relation(
        LineageRelation.USED_BY,
        SNAPSHOT,
        JOB,
        lambda viewer, id_: _job(viewer).where(Job.snapshot_id == id_),
        lambda viewer, id_: _snapshot(viewer).join(Job, Job.snapshot_id == PipelineSnapshot.id).where(Job.id == id_),
    ),
    Relation(
        LineageRelation.EXECUTED_AS,
        JOB,
        RUN,
        lambda viewer, id_: _run(viewer).where(Run.job_id == id_),
        lambda viewer, id_: _job(viewer).join(Run, Run.job_id == Job.id).where(Run.id == id_),
    ),
    Relation(
        LineageRelation.PRODUCED,
        JOB,
        VERSION,
        lambda viewer, id_: _version(viewer).where(DatasetVersion.produced_by_id == id_),
        lambda viewer, id_: _job(viewer).join(DatasetVersion, DatasetVersion.produced_by_id == Job.id).where(DatasetVersion.id == id_),
    ),
    Relation(
        LineageRelation.PRODUCED,
        JOB,
        VERSION,
        lambda viewer, id_: (
            _version(viewer)
            .join(JobOutput, JobOutput.target_id == DatasetVersion.id)
            .where(JobOutput.kind == DatasetVersion.output_kind, JobOutput.job_id == id_)
        ),
        lambda viewer, id_: (
            _job(viewer)
            .join(JobOutput, JobOutput.job_id == Job.id)
            .where(JobOutput.kind == DatasetVersion.output_kind, JobOutput.target_id == id_)
        ),
    ),
    Relation(
        LineageRelation.PRODUCED,
        RUN,
        MODEL,
        lambda viewer, id_: _model(viewer).where(ModelVersion.run_id == id_),
        lambda viewer, id_: _run(viewer).join(ModelVersion, ModelVersion.run_id == Run.id).where(ModelVersion.id == id_),
    ),
    Relation(
        LineageRelation.PRODUCED,
        JOB,
        MODEL,
        lambda viewer, id_: _model(viewer).where(ModelVersion.job_id == id_, ModelVersion.run_id.is_(None)),
        lambda viewer, id_: (
            _job(viewer).join(ModelVersion, ModelVersion.job_id == Job.id).where(ModelVersion.id == id_, ModelVersion.run_id.is_(None))
        ),
    ),
    Relation(
        LineageRelation.EXPORTED_AS,
        VERSION,
        EXPORT,
        lambda viewer, id_: _export(viewer).where(Export.dataset_version_id == id_),
        lambda viewer, id_: _version(viewer).join(Export, Export.dataset_version_id == DatasetVersion.id).where(Export.id == id_),
    ),
    Relation(
        LineageRelation.EXPORTED_AS,
        MODEL,
        EXPORT,
        lambda viewer, id_: _export(viewer).where(Export.model_version_id == id_),
        lambda viewer, id_: _model(viewer).join(Export, Export.model_version_id == ModelVersion.id).where(Export.id == id_),
    ),
    Relation(
        LineageRelation.PRODUCED,
        JOB,
        EXPORT,
        lambda viewer, id_: _export(viewer).where(Export.job_id == id_),
        lambda viewer, id_: _job(viewer).join(Export, Export.job_id == Job.id).where(Export.id == id_),
    ),
)


def derived_from(viewer: Viewer, id_: Column) -> Rows:
    """The versions that a derived version was made of."""
    derived = aliased(DatasetVersion)
    statement = _version(viewer).join(JobInput, JobInput.dataset_version_id == DatasetVersion.id)
    statement = statement.join(derived, derived.produced_by_id == JobInput.job_id)
    return statement.where(derived.id == id_, derived.source == DatasetSource.DERIVED)


def scored_by(viewer: Viewer, id_: Column) -> Rows:
    """The model version that predicted what a derived version holds."""
    statement = (
        _model(viewer).join(Job, Job.model_version_id == ModelVersion.id).join(DatasetVersion, DatasetVersion.produced_by_id == Job.id)
    )
    return statement.where(DatasetVersion.id == id_, Job.kind == JobKind.PREDICT)


START_ROWS: dict[LineageKind, Callable[[Viewer], Rows]] = {
    VERSION: lambda viewer: (
        _version(viewer)
        .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
        .where(Dataset.deleted_at.is_(None), DatasetVersion.deleted_at.is_(None))
    ),
    SNAPSHOT: _snapshot,
    JOB: _job,
    RUN: lambda viewer: (
        _run(viewer).join(Experiment, Experiment.id == Run.experiment_id).where(Experiment.deleted_at.is_(None), Run.deleted_at.is_(None))
    ),
    MODEL: lambda viewer: (
        _model(viewer).join(Model, Model.id == ModelVersion.model_id).where(Model.deleted_at.is_(None), ModelVersion.deleted_at.is_(None))
    ),
    EXPORT: _export,
}
KEYS: dict[LineageKind, Column] = {
    VERSION: DatasetVersion.id,
    SNAPSHOT: PipelineSnapshot.id,
    JOB: Job.id,
    RUN: Run.id,
    MODEL: ModelVersion.id,
    EXPORT: Export.id,
}
