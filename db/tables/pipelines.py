"""Pipelines, snapshots of definitions that ran, and the catalogue of steps."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Computed, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import Text

from db.core.base import (
    Table,
    created_by_column,
    enum_column,
    filter_index,
    listing_indexes,
    now_column,
    unique_name_index,
    uuid_primary_key,
)
from db.core.policy import Owned, Shared, Through
from db.tables.datasets import Modality


class PipelineStatus(StrEnum):
    """The status of a pipeline; only VALIDATED ones can run."""

    DRAFT = "draft"
    VALIDATED = "validated"
    ARCHIVED = "archived"


class StepType(StrEnum):
    """The type of a step."""

    DATASET = "dataset"
    TRANSFORM = "transform"
    FILTER = "filter"
    AUGMENT = "augment"
    SPLIT = "split"
    TRAIN = "train"
    EVALUATE = "evaluate"
    EXPLAIN = "explain"
    EXPORT = "export"


class Pipeline(Table, policy=Owned()):
    """An editable graph of steps. `definition` is {"nodes": [{key, step, parameters}], "links": [{source, target}]}.

    The templates that ship belong to the SYSTEM account; their `version` is that of the code, and `task_key` is their task in `db.services.ml_tasks`,
    which copies keep.

    `step_keys`, the steps of its nodes, is for filters alone. PostgreSQL knows how frequent each is: it walks the list's own index for a frequent step, and
    the index of the steps for a rare one.
    """

    __tablename__ = "pipelines"
    __table_args__ = (
        unique_name_index("pipelines"),
        *listing_indexes("pipelines"),
        *(filter_index("pipelines", column, deletable=True) for column in ("modality", "status", "is_template")),
        Index("ix_pipelines_step_keys", "step_keys", postgresql_using="gin", postgresql_where=text("deleted_at IS NULL")),
        CheckConstraint("version > 0", name="version_is_positive"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"), index=True)
    name: Mapped[str]
    description: Mapped[str | None]
    modality: Mapped[Modality] = enum_column("modality", Modality)
    status: Mapped[PipelineStatus] = enum_column("status", PipelineStatus)
    version: Mapped[int] = mapped_column(server_default="1")
    is_template: Mapped[bool] = mapped_column(server_default="false")
    task_key: Mapped[str | None]
    definition: Mapped[dict[str, Any]] = mapped_column(JSONB)
    step_keys: Mapped[list[str]] = mapped_column(ARRAY(Text), Computed("trellis_step_keys(definition)", persisted=True))
    created_by_id: Mapped[UUID | None] = created_by_column()
    created_at: Mapped[datetime] = now_column()
    updated_at: Mapped[datetime] = now_column()
    validated_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    purged_at: Mapped[datetime | None]


class PipelineSnapshot(Table, policy=Owned()):
    """A frozen definition with parameters applied, identified by the SHA-256 of its canonical JSON, so equal runs share one."""

    __tablename__ = "pipeline_snapshots"
    __table_args__ = (UniqueConstraint("pipeline_id", "sha256"), filter_index("pipeline_snapshots", "pipeline_id"))

    id: Mapped[UUID] = uuid_primary_key()
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"), index=True)
    pipeline_id: Mapped[UUID | None] = mapped_column(ForeignKey("pipelines.id", ondelete="SET NULL"))
    sha256: Mapped[str]
    definition: Mapped[dict[str, Any]] = mapped_column(JSONB)
    created_at: Mapped[datetime] = now_column()


class PipelineInput(Table, policy=Through("pipeline_id")):
    """A dataset of which a pipeline was run on a version, or joined one, and since when: the pipelines of a dataset in their order."""

    __tablename__ = "pipeline_inputs"
    __table_args__ = (Index("ix_pipeline_inputs_dataset_id", "dataset_id", text("created_at DESC"), text("pipeline_id DESC")),)

    pipeline_id: Mapped[UUID] = mapped_column(ForeignKey("pipelines.id", ondelete="CASCADE"), primary_key=True)
    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True)
    created_at: Mapped[datetime] = now_column()


class StepDefinition(Table, policy=Shared("The catalogue of steps is the same for everyone.")):
    """A step declared in the workers' code, copied here when a worker starts. A step that left the code is marked as retired."""

    __tablename__ = "step_definitions"

    key: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int]
    type: Mapped[StepType] = enum_column("type", StepType)
    title: Mapped[str]
    description: Mapped[str]
    modalities: Mapped[list[str]] = mapped_column(ARRAY(Text))
    parameter_schema: Mapped[dict[str, Any]] = mapped_column(JSONB)
    retired_at: Mapped[datetime | None]
