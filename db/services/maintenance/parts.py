"""What is a part of versions, of models, of runs and of studies, by selects of their ids: each table before what it refers to.

A purge deletes it, in this order. Everything is found by an index on the key to what it is a part of.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, exists, select

from db.core.base import Table
from db.core.sql import Rows
from db.queries.artifacts import IS_OF_RUN
from db.tables import (
    Artifact,
    ArtifactUpload,
    DatasetItem,
    DatasetProfile,
    DatasetVersion,
    Explanation,
    Export,
    JobOutput,
    LoggedModel,
    MetricPoint,
    ModelVersion,
    Run,
    RunInput,
    RunMetric,
    RunParameter,
    SchemaProposal,
    StudyEvent,
    Tagging,
    Trial,
    TrialRung,
    Upload,
)

Parts = Iterator[tuple[Any, ColumnElement[bool]]]


def of_dataset_versions(versions: Rows) -> Parts:
    """Files, also those of exports and of explanations on these versions, items, profiles, proposals and uploads."""
    yield Artifact, Artifact.dataset_version_id.in_(versions)
    yield Artifact, Artifact.export_id.in_(select(Export.id).where(Export.dataset_version_id.in_(versions)))
    yield Artifact, Artifact.explanation_id.in_(select(Explanation.id).where(Explanation.dataset_version_id.in_(versions)))
    yield DatasetItem, DatasetItem.version_id.in_(versions)
    yield DatasetProfile, DatasetProfile.version_id.in_(versions)
    yield SchemaProposal, SchemaProposal.version_id.in_(versions)
    yield Upload, Upload.version_id.in_(versions)


def of_model_versions(versions: Rows) -> Parts:
    """Files, also those of exports, and explanations with theirs."""
    yield Artifact, Artifact.model_version_id.in_(versions)
    yield Artifact, Artifact.export_id.in_(select(Export.id).where(Export.model_version_id.in_(versions)))
    yield Artifact, Artifact.explanation_id.in_(select(Explanation.id).where(Explanation.model_version_id.in_(versions)))
    yield Explanation, Explanation.model_version_id.in_(versions)


def of_runs(runs: Rows) -> Parts:
    """Points, metrics, parameters, inputs, logged models, tags, and the files that are a part of nothing else."""
    yield Artifact, Artifact.run_id.in_(runs) & IS_OF_RUN
    for table in (MetricPoint, RunMetric, RunParameter, RunInput, LoggedModel, Tagging, ArtifactUpload):
        yield table, table.run_id.in_(runs)


def of_studies(studies: Rows) -> Parts:
    """Events, trials with what they have at rungs, and tags. The runs of the trials are a part of their experiment."""
    for table in (StudyEvent, TrialRung, Trial, Tagging):
        yield table, table.study_id.in_(studies)


def is_referred_to(table: Any) -> ColumnElement[bool]:
    """Whether lineage points to a row: a key that forbids its deletion, an output of a job, or a model version that came from the run."""
    columns = table.__table__.c
    keys = [key for other in Table.metadata.sorted_tables for key in other.foreign_keys if key.column is columns.id]
    referring = [select(key.parent).where(key.parent == columns.id) for key in keys if key.ondelete == "RESTRICT"]
    if table is Run:
        referring.append(select(ModelVersion.run_id).where(ModelVersion.run_id == Run.id))
    if table in {DatasetVersion, ModelVersion}:  # the outputs that a deletion does not take along
        referring.append(select(JobOutput.target_id).where(JobOutput.kind == table.output_kind, JobOutput.target_id == columns.id))
    condition = exists(referring[0])
    for each in referring[1:]:
        condition |= exists(each)
    return condition
