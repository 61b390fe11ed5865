"""Mails to users and to those who may become one: rows first, sent by a worker.

A row holds a template and ids; texts, and links with secrets, are made when it is sent.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text, UniqueConstraint, Uuid, text
from sqlalchemy.orm import Mapped, mapped_column

from db.core.base import Table, enum_column, filter_index, jsonb_column, now_column, uuid_primary_key
from db.core.policy import Internal, Received
from db.tables.notifications import EmailFrequency, EventType


class EmailTemplate(StrEnum):
    """What a mail says."""

    PASSWORD_RESET = "password_reset"  # noqa: S105 - the name of a template
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 - the name of a template
    VERIFY_REGISTRATION = "verify_registration"
    ADDRESS_TAKEN = "address_taken"
    INVITATION = "invitation"
    VERIFY_NEW_EMAIL = "verify_new_email"
    EMAIL_CHANGE_REQUESTED = "email_change_requested"
    EMAIL_CHANGED = "email_changed"
    NEW_DEVICE = "new_device"
    TOTP_ADDED = "totp_added"
    TOTP_REMOVED = "totp_removed"
    BACKUP_CODES_REPLACED = "backup_codes_replaced"
    IDENTITY_LINKED = "identity_linked"
    IDENTITY_UNLINKED = "identity_unlinked"
    ACCOUNT_DELETED = "account_deleted"
    ACCOUNT_RESTORED = "account_restored"
    PASSKEY_ADDED = "passkey_added"
    PASSKEY_REMOVED = "passkey_removed"
    EVENT = "event"
    DAILY_DIGEST = "daily_digest"
    WEEKLY_DIGEST = "weekly_digest"


class EmailStatus(StrEnum):
    """How far a mail has come. UNCERTAIN: the server took it and did not confirm; it is not sent again, since nobody wants it twice.

    What comes after SENT, a provider has told. SUPPRESSED: it was not sent, since its reader is not to have it, or its address takes none.
    """

    PENDING = "pending"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    UNCERTAIN = "uncertain"
    DELIVERED = "delivered"
    OPENED = "opened"
    CLICKED = "clicked"
    BOUNCED = "bounced"
    SUPPRESSED = "suppressed"


class SuppressionReason(StrEnum):
    """Why an address is sent nothing."""

    BOUNCED = "bounced"
    COMPLAINED = "complained"


class EmailMessage(Table, policy=Received("user_id", "account_id")):
    """A mail to one address: of a user, of who registers, or of who is invited. Without the row that it is about, it is deleted.

    `run_after` is when it is tried next; `error` says why the last try failed. `account_id` is the account that it is about. Of the mail of one event,
    the columns from `event_id` to `data` are those of the event; of a digest, they are in its `digest_items`.
    """

    __tablename__ = "email_messages"
    __table_args__ = (
        Index("ix_email_messages_pending", "is_notification", "run_after", "id", postgresql_where=text("status IN ('pending', 'sending')")),
        UniqueConstraint("user_id", "event_id"),
        filter_index("email_messages", "user_id"),
        filter_index("email_messages", "user_id", "status"),
        filter_index("email_messages", "user_id", "event_type"),
        Index("ix_email_messages_created_at", "created_at", "id"),
        CheckConstraint("num_nonnulls(user_id, registration_id, invitation_id) = 1", name="one_recipient"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    account_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    registration_id: Mapped[UUID | None] = mapped_column(ForeignKey("registrations.id", ondelete="CASCADE"), index=True)
    invitation_id: Mapped[UUID | None] = mapped_column(ForeignKey("invitations.id", ondelete="CASCADE"), index=True)
    address: Mapped[str]
    template: Mapped[EmailTemplate] = enum_column("template", EmailTemplate)
    token_id: Mapped[UUID | None] = mapped_column(ForeignKey("account_tokens.id", ondelete="SET NULL"), index=True)
    session_id: Mapped[UUID | None] = mapped_column(ForeignKey("sessions.id", ondelete="SET NULL"), index=True)
    status: Mapped[EmailStatus] = enum_column("status", EmailStatus, server_default="pending")
    tries: Mapped[int] = mapped_column(server_default="0")
    run_after: Mapped[datetime] = now_column()
    created_at: Mapped[datetime] = now_column()
    sent_at: Mapped[datetime | None]
    error: Mapped[str | None]
    is_notification: Mapped[bool] = mapped_column(server_default=text("false"))
    event_id: Mapped[UUID | None] = mapped_column(Uuid)
    event_type: Mapped[EventType | None] = enum_column("event_type", EventType)
    subject_id: Mapped[str | None]
    name: Mapped[str | None]
    data: Mapped[dict[str, Any]] = jsonb_column("{}")
    provider: Mapped[str | None]
    message_id: Mapped[str | None]
    delivered_at: Mapped[datetime | None]
    opened_at: Mapped[datetime | None]
    clicked_at: Mapped[datetime | None]


class DigestItem(Table, policy=Received("user_id", "account_id")):
    """An event that waits for a person's digest, or is in one. `message_id` is null until the digest is made, after `due_at`."""

    __tablename__ = "digest_items"
    __table_args__ = (
        UniqueConstraint("user_id", "event_id"),
        Index("ix_digest_items_due", "due_at", "user_id", postgresql_where=text("message_id IS NULL")),
    )

    id: Mapped[UUID] = uuid_primary_key()
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    account_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    event_id: Mapped[UUID] = mapped_column(Uuid)
    event_type: Mapped[EventType] = enum_column("event_type", EventType)
    subject_id: Mapped[str | None]
    name: Mapped[str | None]
    data: Mapped[dict[str, Any]] = jsonb_column("{}")
    created_at: Mapped[datetime] = now_column()
    frequency: Mapped[EmailFrequency] = enum_column("frequency", EmailFrequency)
    due_at: Mapped[datetime]
    message_id: Mapped[UUID | None] = mapped_column(ForeignKey("email_messages.id", ondelete="CASCADE"), index=True)


class SuppressedAddress(Table, policy=Internal("It says to the worker which addresses are sent nothing.")):
    """An address, in lower case, that a provider has reported. The row goes when the address is verified anew."""

    __tablename__ = "suppressed_addresses"

    address: Mapped[str] = mapped_column(Text, primary_key=True)
    reason: Mapped[SuppressionReason] = enum_column("reason", SuppressionReason)
    created_at: Mapped[datetime] = now_column()
