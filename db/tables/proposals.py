"""Proposed schemas of dataset versions."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from db.core.base import Table, created_by_column, enum_column, filter_index, jsonb_column, now_column, uuid_primary_key
from db.core.policy import Through
from db.tables.datasets import ProblemType


class SchemaProposalStatus(StrEnum):
    """The status of a proposed schema."""

    PROPOSED = "proposed"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"


class ColumnRole(StrEnum):
    """What a column is for."""

    FEATURE = "feature"
    TARGET = "target"
    IDENTIFIER = "identifier"
    TIMESTAMP = "timestamp"
    GROUP = "group"
    WEIGHT = "weight"
    IGNORED = "ignored"


class SchemaProposal(Table, policy=Through("version_id")):
    """A schema that was proposed for a version. The accepted one, at most one a dataset, is the contract that later versions are compared with.

    `dataset_id` is that of the version. `columns` is a list of objects as the workers write them, with types and roles in upper case.
    `decided_at` and `decided_by_id` tell of the acceptance or the rejection, and stay when an accepted one is superseded.
    """

    __tablename__ = "schema_proposals"
    output_kind = "proposal"
    __table_args__ = (
        filter_index("schema_proposals", "version_id"),
        Index("ix_schema_proposals_dataset_id", "dataset_id"),
        Index("uq_schema_proposals_proposed", "version_id", unique=True, postgresql_where=text("status = 'proposed'")),
        Index("uq_schema_proposals_accepted", "dataset_id", unique=True, postgresql_where=text("status = 'accepted'")),
        CheckConstraint("confidence BETWEEN 0 AND 1", name="confidence_is_a_share"),
        CheckConstraint("(status = 'rejected') = (rejection_reason IS NOT NULL)", name="rejected_for_a_reason"),
        CheckConstraint(
            "CASE status WHEN 'proposed' THEN decided_at IS NULL WHEN 'superseded' THEN true ELSE decided_at IS NOT NULL END",
            name="decided_once",
        ),
    )

    id: Mapped[UUID] = uuid_primary_key()
    version_id: Mapped[UUID] = mapped_column(ForeignKey("dataset_versions.id", ondelete="CASCADE"))
    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    job_id: Mapped[UUID | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"), index=True)
    status: Mapped[SchemaProposalStatus] = enum_column("status", SchemaProposalStatus, server_default="proposed")
    confidence: Mapped[float]
    agent: Mapped[str]
    columns: Mapped[list[Any]] = jsonb_column("[]")
    problem_type: Mapped[ProblemType | None] = enum_column("problem_type", ProblemType, nullable=True)
    target_column: Mapped[str | None]
    rejection_reason: Mapped[str | None]
    created_at: Mapped[datetime] = now_column()
    decided_at: Mapped[datetime | None]
    decided_by_id: Mapped[UUID | None] = created_by_column()
