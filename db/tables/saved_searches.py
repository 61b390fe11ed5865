"""Saved searches: a list with its filter and order, under a name."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.core.base import Table, bigint_column, created_by_column, enum_column, filter_index, jsonb_column, now_column, uuid_primary_key
from db.core.policy import Owned
from db.tables.search import SearchType


class SavedSearch(Table, policy=Owned()):
    """A filter and an order of the list of `target`, as clients send them: a later release may know other ones."""

    __tablename__ = "saved_searches"
    __table_args__ = (
        Index("uq_saved_searches_owner_id_name", "owner_id", text("lower(name)"), unique=True),
        filter_index("saved_searches", "owner_id"),
        CheckConstraint("usage_count >= 0", name="usage_count_not_negative"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str]
    target: Mapped[SearchType] = enum_column("target", SearchType)
    filter: Mapped[dict[str, Any]] = jsonb_column("{}")
    order_by: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    is_pinned: Mapped[bool] = mapped_column(server_default=text("false"))
    usage_count: Mapped[int] = bigint_column(server_default="0")
    last_used_at: Mapped[datetime | None]
    created_by_id: Mapped[UUID | None] = created_by_column()
    created_at: Mapped[datetime] = now_column()
