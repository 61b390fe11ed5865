"""Events and the notifications that tell people of them. An event is a row of the outbox, written with what it tells, until it is dispatched."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, Uuid, text
from sqlalchemy.orm import Mapped, mapped_column

from db.core.base import Table, bigint_column, enum_column, filter_index, jsonb_column, now_column, uuid_primary_key
from db.core.policy import Internal, Personal, Received


class EventType(StrEnum):
    """What has happened."""

    JOB_COMPLETED = "job_completed"
    JOB_FAILED = "job_failed"
    JOB_CANCELLED = "job_cancelled"
    VERSION_READY = "version_ready"
    VERSION_FAILED = "version_failed"
    SCHEMA_PROPOSED = "schema_proposed"
    MODEL_VERSION_CREATED = "model_version_created"
    ALIAS_CHANGED = "alias_changed"
    STUDY_COMPLETED = "study_completed"
    STUDY_FAILED = "study_failed"
    STUDY_PAUSED = "study_paused"
    RUN_COMPLETED = "run_completed"
    RUN_FAILED = "run_failed"
    EXPORT_READY = "export_ready"
    EXPORT_FAILED = "export_failed"
    CREDITS_LOW = "credits_low"
    CREDITS_PURCHASED = "credits_purchased"
    QUOTA_NEAR = "quota_near"
    LOGIN_NEW_DEVICE = "login_new_device"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 - the name of an event
    TEAM_INVITED = "team_invited"
    WEBHOOK_DISABLED = "webhook_disabled"


class EmailFrequency(StrEnum):
    """When an event is mailed: at once, with others in a digest, or not."""

    INSTANT = "instant"
    DAILY = "daily"
    WEEKLY = "weekly"
    OFF = "off"


class OutboxEvent(Table, policy=Internal("It is dispatched to notifications within a second; nobody reads the rows.")):
    """An event of an account that is not dispatched yet. Triggers and services insert it in the transaction of what it tells.

    `subject_id` is an id as the API shows it, `name` the subject's. `maker_id` is who made the subject; `recipient_id` is the only recipient, where
    there is one. No foreign keys: rows are few and short-lived, and users are never deleted.
    """

    __tablename__ = "outbox_events"

    id: Mapped[UUID] = uuid_primary_key()
    type: Mapped[EventType] = enum_column("type", EventType)
    account_id: Mapped[UUID] = mapped_column(Uuid)
    maker_id: Mapped[UUID | None] = mapped_column(Uuid)
    recipient_id: Mapped[UUID | None] = mapped_column(Uuid)
    subject_id: Mapped[str | None]
    name: Mapped[str | None]
    data: Mapped[dict[str, Any]] = jsonb_column("{}")
    created_at: Mapped[datetime] = now_column()


class Notification(Table, policy=Received("recipient_id", "account_id")):
    """An event as told to one person. Numbered from 1 for each recipient in the order of dispatch, which streams follow.

    `account_id` is the account that the event is of: a recipient who left the team sees the row no more.
    """

    __tablename__ = "notifications"
    __table_args__ = (
        UniqueConstraint("recipient_id", "sequence"),
        filter_index("notifications", "recipient_id"),
        filter_index("notifications", "recipient_id", "type"),
        Index(
            "ix_notifications_unread", "recipient_id", text("created_at DESC"), text("id DESC"), postgresql_where=text("read_at IS NULL")
        ),
        Index("ix_notifications_created_at", "created_at"),
        CheckConstraint("sequence > 0", name="sequence_positive"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    recipient_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    account_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    sequence: Mapped[int] = bigint_column()
    type: Mapped[EventType] = enum_column("type", EventType)
    subject_id: Mapped[str | None]
    name: Mapped[str | None]
    data: Mapped[dict[str, Any]] = jsonb_column("{}")
    created_at: Mapped[datetime] = now_column()
    read_at: Mapped[datetime | None]


class Inbox(Table, policy=Personal("user_id")):
    """The number of a recipient's last notification. Its row is locked while notifications are added, so they commit in the order of their numbers."""

    __tablename__ = "inboxes"
    __table_args__ = (CheckConstraint("last_sequence >= 0", name="last_sequence_not_negative"),)

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    last_sequence: Mapped[int] = bigint_column(server_default="0")


class NotificationPreference(Table, policy=Personal("user_id")):
    """What a user chose for a type of event; without a row, or a frequency, the default of the type holds."""

    __tablename__ = "notification_preferences"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    event_type: Mapped[EventType] = enum_column("event_type", EventType, primary_key=True)
    in_app: Mapped[bool]
    webhook: Mapped[bool] = mapped_column(server_default=text("true"))
    email_frequency: Mapped[EmailFrequency | None] = enum_column("email_frequency", EmailFrequency)
