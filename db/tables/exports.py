"""Exports: versions and lists written in another format, for a time."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
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
    uuid_primary_key,
)
from db.core.policy import Owned


class ExportFormat(StrEnum):
    """The format of an export's files."""

    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"
    PARQUET = "parquet"
    HUGGINGFACE = "huggingface"
    PYTORCH = "pytorch"
    TENSORFLOW = "tensorflow"
    ONNX = "onnx"


class ExportTarget(StrEnum):
    """A list that can be exported as a table."""

    DATASETS = "datasets"
    DATASET_VERSIONS = "dataset_versions"
    DATASET_ITEMS = "dataset_items"
    PIPELINES = "pipelines"
    JOBS = "jobs"
    EXPERIMENTS = "experiments"
    RUNS = "runs"
    MODELS = "models"
    MODEL_VERSIONS = "model_versions"
    STUDIES = "studies"
    TRIALS = "trials"
    USERS = "users"
    TAGS = "tags"
    EXPORTS = "exports"
    EXPLANATIONS = "explanations"
    SCHEMA_PROPOSALS = "schema_proposals"
    ALIAS_EVENTS = "alias_events"
    ARTIFACTS = "artifacts"
    JOB_EVENTS = "job_events"
    NOTIFICATIONS = "notifications"
    CREDIT_TRANSACTIONS = "credit_transactions"
    AUDIT_EVENTS = "audit_events"
    LOGIN_EVENTS = "login_events"
    API_REQUESTS = "api_requests"
    WEBHOOK_DELIVERIES = "webhook_deliveries"


class Export(Table, policy=Owned()):
    """A dataset version, a model version or a list in another format. Its status is that of its job, which a retry replaces. The job of a pipeline may
    make several.

    Of a list, `target` says which, `list_parent_id` the row that it is under, if it is under one; `filter`, `order_by` and `columns` are what its maker asked
    for, and `plan` is what its job reads of them (`db.queries.list_exports.ListPlan`).

    `expires_at` is set when it completes. `expired_at` is when its files were removed after that; the row remains until it is deleted.
    """

    __tablename__ = "exports"
    output_kind = "export"
    __table_args__ = (
        *listing_indexes("exports", deletable=False),
        *(filter_index("exports", column) for column in ("format", "target", "dataset_version_id", "model_version_id")),
        Index("ix_exports_due", "expires_at", postgresql_where=text("expired_at IS NULL")),
        CheckConstraint("num_nonnulls(dataset_version_id, model_version_id, target) = 1", name="has_one_source"),
        CheckConstraint("num_nonnulls(target, columns, plan) IN (0, 3)", name="list_with_columns_and_plan"),
        CheckConstraint("target IS NOT NULL OR num_nonnulls(list_parent_id, filter, order_by) = 0", name="only_lists_are_filtered"),
        CheckConstraint("num_nonnulls(size_bytes, expires_at) IN (0, 2)", name="complete_with_size_and_expiry"),
        CheckConstraint("expired_at IS NULL OR expires_at IS NOT NULL", name="expires_once_complete"),
        CheckConstraint("size_bytes >= 0", name="size_not_negative"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="RESTRICT"))
    created_by_id: Mapped[UUID | None] = created_by_column()
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="RESTRICT"), index=True)
    dataset_version_id: Mapped[UUID | None] = mapped_column(ForeignKey("dataset_versions.id", ondelete="RESTRICT"))
    model_version_id: Mapped[UUID | None] = mapped_column(ForeignKey("model_versions.id", ondelete="RESTRICT"))
    target: Mapped[ExportTarget | None] = enum_column("target", ExportTarget)
    list_parent_id: Mapped[UUID | None]
    filter: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    order_by: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    columns: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    plan: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    format: Mapped[ExportFormat] = enum_column("format", ExportFormat)
    options: Mapped[dict[str, Any]] = jsonb_column("{}")
    size_bytes: Mapped[int | None] = bigint_column()
    created_at: Mapped[datetime] = now_column()
    expires_at: Mapped[datetime | None]
    expired_at: Mapped[datetime | None]
