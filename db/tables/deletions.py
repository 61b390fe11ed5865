"""What was deleted and can be restored."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from db.core.base import Table, bigint_column, created_by_column, enum_column, filter_index, now_column
from db.core.policy import Owned


class DeletedKind(StrEnum):
    """What can be deleted and restored."""

    DATASET = "dataset"
    PIPELINE = "pipeline"
    MODEL = "model"
    EXPERIMENT = "experiment"
    STUDY = "study"
    DATASET_VERSION = "dataset_version"
    MODEL_VERSION = "model_version"
    RUN = "run"


class Deletion(Table, policy=Owned()):
    """One thing that was deleted by itself, not with its account; `id` is that of the thing. The row goes when the thing is restored or purged.

    Once `purge_started_at` is set, nothing restores it. `size_bytes` is what only this thing stored when it was deleted.
    A change of the setting of the retention holds for later deletions.
    """

    __tablename__ = "deletions"
    __table_args__ = (
        filter_index("deletions", "owner_id"),
        filter_index("deletions"),
        Index("ix_deletions_restorable_until", "restorable_until", "id", postgresql_where=text("purge_started_at IS NULL")),
        Index("ix_deletions_purging", "purge_started_at", "id", postgresql_where=text("purge_started_at IS NOT NULL")),
        CheckConstraint("size_bytes >= 0", name="size_not_negative"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    kind: Mapped[DeletedKind] = enum_column("kind", DeletedKind)
    name: Mapped[str]
    size_bytes: Mapped[int] = bigint_column(server_default="0")
    restorable_until: Mapped[datetime]
    purge_started_at: Mapped[datetime | None]
    created_by_id: Mapped[UUID | None] = created_by_column()
    created_at: Mapped[datetime] = now_column()
