"""Users and their bearer tokens."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from db.core.base import Table, bigint_column, enum_column, now_column, uuid_primary_key
from db.core.policy import Personal
from db.core.viewer import UserRole, UserTier


class User(Table, policy=Personal("id")):
    """A person or a service that owns rows. The row is never deleted: a purge clears its personal data.

    The three credit columns are changed only by `db.services.credits`, with a ledger entry each time.
    """

    __tablename__ = "users"
    __table_args__ = (
        Index("uq_users_email", text("lower(email)"), unique=True, postgresql_where=text("deleted_at IS NULL")),
        Index("uq_users_username", text("lower(username)"), unique=True, postgresql_where=text("deleted_at IS NULL")),
        CheckConstraint("storage_bytes >= 0", name="storage_not_negative"),
        CheckConstraint("credit_balance >= 0 AND credits_held >= 0", name="credits_not_negative"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    email: Mapped[str]
    username: Mapped[str]
    full_name: Mapped[str | None]
    role: Mapped[UserRole] = enum_column("role", UserRole)
    tier: Mapped[UserTier] = enum_column("tier", UserTier, server_default="free")
    storage_bytes: Mapped[int] = bigint_column(server_default="0")
    credit_balance: Mapped[int] = bigint_column(server_default="0")
    credits_held: Mapped[int] = bigint_column(server_default="0")
    credit_sequence: Mapped[int] = bigint_column(server_default="0")
    created_at: Mapped[datetime] = now_column()
    updated_at: Mapped[datetime] = now_column()
    deleted_at: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]


class ApiKey(Table, policy=Personal("user_id")):
    """A bearer token, looked up by its SHA-256; users recognise it by the prefix. `last_used_at` is written once a minute at most."""

    __tablename__ = "api_keys"
    __table_args__ = (Index("ix_api_keys_created_at", "created_at", "id"),)

    id: Mapped[UUID] = uuid_primary_key()
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str]
    prefix: Mapped[str]
    token_sha256: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    created_at: Mapped[datetime] = now_column()
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
