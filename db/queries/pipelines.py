"""What can be asked of pipelines, their snapshots and the catalogue of steps. Definitions are read only when asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, select

from db.core.batch import rows_by_key
from db.core.criteria import Period, TextMatch, named_sort
from db.core.listing import Listing
from db.core.page import Sort
from db.core.policy import visible
from db.core.sql import Rows, equals_any
from db.core.viewer import Viewer
from db.core.work import Database
from db.tables import Pipeline, PipelineSnapshot, StepDefinition
from db.tables.datasets import Modality
from db.tables.pipelines import PipelineStatus

COLUMNS = (
    Pipeline.id,
    Pipeline.owner_id,
    Pipeline.name,
    Pipeline.description,
    Pipeline.modality,
    Pipeline.status,
    Pipeline.version,
    Pipeline.is_template,
    Pipeline.created_at,
    Pipeline.updated_at,
    Pipeline.validated_at,
    Pipeline.deleted_at,
)


@dataclass(frozen=True, slots=True)
class PipelineFilter:
    """Which pipelines a list holds; what is None does not restrict, an empty tuple matches nothing."""

    name: TextMatch | None = None
    modality: tuple[Modality, ...] | None = None
    status: tuple[PipelineStatus, ...] | None = None
    is_template: bool | None = None
    created_at: Period | None = None
    owner_id: UUID | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        allowed_values = ((Pipeline.modality, self.modality), (Pipeline.status, self.status))
        return [
            *(self.name.conditions(Pipeline.name) if self.name is not None else ()),
            *(equals_any(column, members) for column, members in allowed_values if members is not None),
            *((Pipeline.is_template == self.is_template,) if self.is_template is not None else ()),
            *(self.created_at.conditions(Pipeline.created_at) if self.created_at is not None else ()),
            *((Pipeline.owner_id == self.owner_id,) if self.owner_id is not None else ()),
        ]


NO_FILTER = PipelineFilter()


class PipelineOrderField(StrEnum):
    """What a list of pipelines is sorted by."""

    CREATED_AT = "created_at"
    UPDATED_AT = "updated_at"
    NAME = "name"


def with_deleted(viewer: Viewer) -> Rows:
    """The pipelines a viewer may see, deleted ones too: edges still lead to them."""
    return select(*COLUMNS).where(visible(Pipeline, viewer))


def pipelines(viewer: Viewer, criteria: PipelineFilter | None = None) -> Rows:
    """The pipelines that lists and look-ups by id find."""
    return with_deleted(viewer).where(Pipeline.deleted_at.is_(None), *((criteria or NO_FILTER).conditions()))


by_id = rows_by_key(with_deleted, Pipeline.id)
live_by_id = rows_by_key(pipelines, Pipeline.id)

listing = Listing(pipelines, partial(named_sort, Pipeline))
of_owner = listing.under(Pipeline.owner_id)


def _definitions(viewer: Viewer) -> Rows:
    return select(Pipeline.id, Pipeline.definition).where(visible(Pipeline, viewer))


definition_of_pipeline = rows_by_key(_definitions, Pipeline.id)


def snapshots(viewer: Viewer, _criteria: None = None) -> Rows:
    """The snapshots a viewer may see. They outlive the pipeline that they were made of."""
    columns = (PipelineSnapshot.id, PipelineSnapshot.pipeline_id, PipelineSnapshot.sha256, PipelineSnapshot.created_at)
    return select(*columns).where(visible(PipelineSnapshot, viewer))


def _snapshot_definitions(viewer: Viewer) -> Rows:
    return select(PipelineSnapshot.id, PipelineSnapshot.definition).where(visible(PipelineSnapshot, viewer))


NEWEST_SNAPSHOT = Sort("created_at", PipelineSnapshot.created_at, PipelineSnapshot.id)

snapshot_by_id = rows_by_key(snapshots, PipelineSnapshot.id)
snapshots_of_pipeline = Listing(snapshots, lambda _: NEWEST_SNAPSHOT, PipelineSnapshot.pipeline_id)
definition_of_snapshot = rows_by_key(_snapshot_definitions, PipelineSnapshot.id)


def _steps() -> Rows:
    return select(StepDefinition.__table__).where(StepDefinition.retired_at.is_(None))


async def steps(database: Database) -> Sequence[Row[Any]]:
    """The catalogue of steps, in its own order; the same for everyone."""
    return await database.rows(_steps().order_by(StepDefinition.position, StepDefinition.key))


async def step_by_key(database: Database, _viewer: Viewer, keys: Sequence[str], /) -> Mapping[str, Row[Any]]:
    """Steps by key; those that have left the catalogue are left out."""
    rows = await database.rows(_steps().where(equals_any(StepDefinition.key, keys)))
    return {row.key: row for row in rows}
