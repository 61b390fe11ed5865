"""Queries of pipelines, their snapshots and the catalogue of steps. Definitions have batches of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, Text, bindparam, select
from sqlalchemy.dialects.postgresql import ARRAY

from db.core.batch import rows_by_key, rows_by_parent
from db.core.criteria import Equals, Filters, Orders
from db.core.listing import Listing
from db.core.page import Sort
from db.core.policy import is_shipped, visible, visible_or_shipped
from db.core.prepared_rows import PreparedRows
from db.core.sql import Rows
from db.core.viewer import SYSTEM, Viewer
from db.core.work import Database
from db.queries.tags import has_tags
from db.tables import Pipeline, PipelineInput, PipelineSnapshot, StepDefinition, Tagging

COLUMNS = (
    Pipeline.id,
    Pipeline.owner_id,
    Pipeline.created_by_id,
    Pipeline.name,
    Pipeline.description,
    Pipeline.modality,
    Pipeline.status,
    Pipeline.version,
    Pipeline.is_template,
    Pipeline.task_key,
    Pipeline.created_at,
    Pipeline.updated_at,
    Pipeline.validated_at,
    Pipeline.deleted_at,
    Pipeline.purged_at,
)


def with_deleted(viewer: Viewer) -> Rows:
    """The pipelines a viewer may see, deleted ones included, since edges still lead to them, and the templates that ship."""
    return select(*COLUMNS).where(visible_or_shipped(Pipeline, viewer))


def pipelines(viewer: Viewer) -> Rows:
    """The pipelines that lookups by id find: those not deleted."""
    return with_deleted(viewer).where(Pipeline.deleted_at.is_(None))


def listed(viewer: Viewer) -> Rows:
    """The pipelines that lists show. The templates that ship are listed by their tasks alone."""
    return select(*COLUMNS).where(visible(Pipeline, viewer), Pipeline.deleted_at.is_(None), ~is_shipped(Pipeline))


def _shipped(_viewer: Viewer) -> Rows:
    return select(*COLUMNS).where(is_shipped(Pipeline), Pipeline.deleted_at.is_(None))


by_id = rows_by_key(with_deleted, Pipeline.id)
live_by_id = rows_by_key(pipelines, Pipeline.id)
templates_of_task = rows_by_parent(_shipped, Pipeline.task_key, Pipeline.name, Pipeline.id)


def _has_step(condition: Equals) -> Iterator[ColumnElement[bool]]:
    """A node of the definition runs this step."""
    yield Pipeline.step_keys.contains(bindparam(None, [condition.value], type_=ARRAY(Text), unique=True))


listing = Listing(listed, Orders(Pipeline), Filters(Pipeline, step_key=_has_step, tags=has_tags(Tagging.pipeline_id, Pipeline.id)))
of_owner = listing.under(Pipeline.owner_id)


def _with_inputs(viewer: Viewer) -> Rows:
    return listed(viewer).join(PipelineInput, PipelineInput.pipeline_id == Pipeline.id)


_FIRST_RUN = Sort("run_at", PipelineInput.created_at, PipelineInput.pipeline_id)

of_dataset = Listing(_with_inputs, lambda _: _FIRST_RUN, parent=PipelineInput.dataset_id)
"""The pipelines that were run on a version of the dataset, or joined one, by the first time."""


def _definitions(viewer: Viewer) -> Rows:
    return select(Pipeline.id, Pipeline.definition).where(visible_or_shipped(Pipeline, viewer))


definition_of_pipeline = rows_by_key(_definitions, Pipeline.id)


def snapshots(viewer: Viewer) -> Rows:
    """The snapshots a viewer may see. They outlive their pipeline."""
    columns = (PipelineSnapshot.id, PipelineSnapshot.pipeline_id, PipelineSnapshot.sha256, PipelineSnapshot.created_at)
    return select(*columns).where(visible(PipelineSnapshot, viewer))


def _snapshot_definitions(viewer: Viewer) -> Rows:
    return select(PipelineSnapshot.id, PipelineSnapshot.definition).where(visible(PipelineSnapshot, viewer))


NEWEST_SNAPSHOT = Sort("created_at", PipelineSnapshot.created_at, PipelineSnapshot.id)

snapshot_by_id = rows_by_key(snapshots, PipelineSnapshot.id)
snapshots_of_pipeline = Listing(snapshots, lambda _: NEWEST_SNAPSHOT, parent=PipelineSnapshot.pipeline_id)
definition_of_snapshot = rows_by_key(_snapshot_definitions, PipelineSnapshot.id)


def _steps(_viewer: Viewer) -> Rows:
    return select(StepDefinition.__table__).where(StepDefinition.retired_at.is_(None))


_ALL_STEPS = PreparedRows(lambda viewer: _steps(viewer).order_by(StepDefinition.position, StepDefinition.key))


async def steps(database: Database) -> Sequence[Row[Any]]:
    """The catalogue of steps in its order; the same for everyone."""
    return await _ALL_STEPS(database, SYSTEM)


step_by_key = rows_by_key(_steps, StepDefinition.key)
"""Steps by key, without retired ones."""
