"""Tutorials that ship with the product, and how far each user is with them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Integer, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.core.base import Table, jsonb_column, now_column, uuid_primary_key
from db.core.policy import Owned, Personal


class Tutorial(Table, policy=Owned()):
    """A tutorial as this release has it in its files: of the SYSTEM account, as what ships is, so that everybody sees it.

    One that a release removed has `retired_at`, and is shown to nobody; the progress of users stays for when it comes back.
    """

    __tablename__ = "tutorials"
    __table_args__ = (UniqueConstraint("slug"), CheckConstraint("minutes > 0", name="minutes_positive"))

    id: Mapped[UUID] = uuid_primary_key()
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    slug: Mapped[str]
    position: Mapped[int] = mapped_column(Integer)
    title: Mapped[str]
    summary: Mapped[str]
    level: Mapped[str]
    minutes: Mapped[int] = mapped_column(Integer)
    steps: Mapped[list[dict[str, Any]]] = jsonb_column("[]")
    retired_at: Mapped[datetime | None]


class TutorialProgress(Table, policy=Personal("user_id")):
    """A step that a user has completed. It stays when a release removes the step, and does not count then."""

    __tablename__ = "tutorial_progress"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    tutorial_id: Mapped[UUID] = mapped_column(ForeignKey("tutorials.id", ondelete="CASCADE"), primary_key=True, index=True)
    step_key: Mapped[str] = mapped_column(primary_key=True)
    completed_at: Mapped[datetime] = now_column()
