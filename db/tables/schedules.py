"""Schedules by which files are imported."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.core.base import Table, created_by_column, now_column, uuid_primary_key
from db.core.policy import Through


class ImportSchedule(Table, policy=Through("dataset_id")):
    """An address that is imported again and again. `next_at` is null while the schedule is not active; `created_by_id` is as who it acts."""

    __tablename__ = "import_schedules"
    __table_args__ = (
        Index("ix_import_schedules_due", "next_at", postgresql_where=text("is_active")),
        CheckConstraint("is_active = (next_at IS NOT NULL)", name="active_ones_have_a_time"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), index=True)
    url: Mapped[str]
    cron: Mapped[str]
    timezone: Mapped[str]
    reading: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    is_active: Mapped[bool]
    next_at: Mapped[datetime | None]
    last_job_id: Mapped[UUID | None] = mapped_column(ForeignKey("jobs.id", ondelete="SET NULL"), index=True)
    created_by_id: Mapped[UUID | None] = created_by_column()
    created_at: Mapped[datetime] = now_column()
