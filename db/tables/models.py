"""Models, their versions, the aliases that point to them, and artifacts."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from db.core.base import (
    Table,
    bigint_column,
    created_by_column,
    enum_column,
    filter_index,
    jsonb_column,
    listing_indexes,
    now_column,
    unique_name_index,
    uuid_primary_key,
)
from db.core.policy import Owned, Through
from db.tables.datasets import ProblemType


class ModelFormat(StrEnum):
    """The format of the file of a model version. OPAQUE: a file that is kept and never loaded."""

    SKOPS = "skops"
    LIGHTGBM = "lightgbm"
    ONNX = "onnx"
    SAFETENSORS = "safetensors"
    OPAQUE = "opaque"


class Model(Table, policy=Owned()):
    """A model: a name for trained versions."""

    __tablename__ = "models"
    __table_args__ = (unique_name_index("models"), *listing_indexes("models"), filter_index("models", "problem_type", deletable=True))

    id: Mapped[UUID] = uuid_primary_key()
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"), index=True)
    name: Mapped[str]
    description: Mapped[str | None]
    annotations: Mapped[dict[str, str]] = jsonb_column("{}")
    problem_type: Mapped[ProblemType | None] = enum_column("problem_type", ProblemType, nullable=True)
    last_number: Mapped[int] = mapped_column(server_default="0")
    created_by_id: Mapped[UUID | None] = created_by_column()
    created_at: Mapped[datetime] = now_column()
    updated_at: Mapped[datetime] = now_column()
    deleted_at: Mapped[datetime | None]
    purged_at: Mapped[datetime | None]


class ModelVersion(Table, policy=Through("model_id")):
    """One trained model. `metrics` is [{key, last, last_step, min, min_step, max, max_step, count}] when its run ended; `packages` is
    {name: version}, with `framework` among the names unless the version was imported. Its file `is_trusted` if a training here wrote it.
    """

    __tablename__ = "model_versions"
    output_kind = "mversion"
    __table_args__ = (
        UniqueConstraint("model_id", "number"),
        Index("ix_model_versions_algorithm", "algorithm", "model_id"),
        CheckConstraint("number > 0", name="number_is_positive"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id", ondelete="RESTRICT"))
    number: Mapped[int]
    label: Mapped[str | None]
    description: Mapped[str | None]
    annotations: Mapped[dict[str, str]] = jsonb_column("{}")
    algorithm: Mapped[str]
    architecture: Mapped[str | None]
    framework: Mapped[str]
    problem_type: Mapped[ProblemType | None] = enum_column("problem_type", ProblemType, nullable=True)
    metrics: Mapped[list[Any]] = jsonb_column("[]")
    hyperparameters: Mapped[dict[str, Any]] = jsonb_column("{}")
    config: Mapped[dict[str, Any]] = jsonb_column("{}")
    packages: Mapped[dict[str, Any]] = jsonb_column("{}")
    format: Mapped[ModelFormat] = enum_column("format", ModelFormat, server_default="opaque")
    is_trusted: Mapped[bool] = mapped_column(server_default=text("false"))
    seed: Mapped[int | None] = bigint_column()
    job_id: Mapped[UUID | None] = mapped_column(ForeignKey("jobs.id", ondelete="RESTRICT"), index=True)
    run_id: Mapped[UUID | None] = mapped_column(ForeignKey("runs.id", ondelete="SET NULL"), index=True)
    snapshot_id: Mapped[UUID | None] = mapped_column(ForeignKey("pipeline_snapshots.id", ondelete="RESTRICT"), index=True)
    dataset_version_id: Mapped[UUID | None] = mapped_column(ForeignKey("dataset_versions.id", ondelete="RESTRICT"), index=True)
    created_at: Mapped[datetime] = now_column()
    deleted_at: Mapped[datetime | None]
    purged_at: Mapped[datetime | None]


class ModelDataset(Table, policy=Through("model_id")):
    """A dataset that versions of a model were trained on, and since when: the models of a dataset in their order."""

    __tablename__ = "model_datasets"
    __table_args__ = (Index("ix_model_datasets_dataset_id", "dataset_id", text("created_at DESC"), text("model_id DESC")),)

    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"), primary_key=True)
    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True)
    created_at: Mapped[datetime] = now_column()


class ModelAliasEvent(Table, policy=Through("model_id")):
    """A period in which an alias pointed to a version, or without one to none, since it was removed. The current one has `superseded_at` null."""

    __tablename__ = "model_alias_events"
    __table_args__ = (
        Index("uq_model_alias_events_current", "model_id", "name", unique=True, postgresql_where=text("superseded_at IS NULL")),
        Index("ix_model_alias_events_name", "name", "model_id", postgresql_where=text("superseded_at IS NULL")),
        Index("ix_model_alias_events_history", "model_id", "name", text("set_at DESC")),
        Index("ix_model_alias_events_model_id_set_at", "model_id", text("set_at DESC"), text("id DESC")),
    )

    id: Mapped[UUID] = uuid_primary_key()
    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id", ondelete="RESTRICT"))
    model_version_id: Mapped[UUID | None] = mapped_column(ForeignKey("model_versions.id", ondelete="RESTRICT"), index=True)
    name: Mapped[str]
    set_by_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"), index=True)
    reason: Mapped[str | None]
    set_at: Mapped[datetime] = now_column()
    superseded_at: Mapped[datetime | None]


class Artifact(Table, policy=Owned()):
    """A file with a role, of a dataset version, a model version, an export or an explanation, or else of the job whose `attempt` wrote it, or of a run.

    Those of a run have a `path` in it. `step` is that of the training that a checkpoint is of.
    """

    __tablename__ = "artifacts"
    output_kind = "artifact"
    __table_args__ = (
        CheckConstraint("num_nonnulls(dataset_version_id, model_version_id, export_id, explanation_id) <= 1", name="has_one_parent"),
        CheckConstraint("num_nonnulls(dataset_version_id, model_version_id, job_id, run_id) >= 1", name="belongs_to_something"),
        CheckConstraint("run_id IS NULL OR path IS NOT NULL", name="has_a_path_in_its_run"),
        Index("ix_artifacts_run_id_path", "run_id", "path", "id"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"), index=True)
    object_id: Mapped[UUID] = mapped_column(ForeignKey("stored_objects.id", ondelete="RESTRICT"), index=True)
    dataset_version_id: Mapped[UUID | None] = mapped_column(ForeignKey("dataset_versions.id", ondelete="CASCADE"), index=True)
    model_version_id: Mapped[UUID | None] = mapped_column(ForeignKey("model_versions.id", ondelete="CASCADE"), index=True)
    export_id: Mapped[UUID | None] = mapped_column(ForeignKey("exports.id", ondelete="CASCADE"), index=True)
    explanation_id: Mapped[UUID | None] = mapped_column(ForeignKey("explanations.id", ondelete="CASCADE"), index=True)
    job_id: Mapped[UUID | None] = mapped_column(ForeignKey("jobs.id", ondelete="RESTRICT"), index=True)
    attempt: Mapped[int | None]
    run_id: Mapped[UUID | None] = mapped_column(ForeignKey("runs.id", ondelete="SET NULL"))
    path: Mapped[str | None]
    step: Mapped[int | None]
    role: Mapped[str]
    filename: Mapped[str]
    content_type: Mapped[str]
    created_at: Mapped[datetime] = now_column()
