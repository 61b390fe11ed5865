"""Mails to users and to those who may become one: rows first, sent by a worker.

A row holds a template and ids; texts, and links with secrets, are made when it is sent.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from db.core.base import Table, enum_column, now_column, uuid_primary_key
from db.core.policy import Internal


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


class EmailStatus(StrEnum):
    """How far a mail has come. UNCERTAIN: the server took it and did not confirm; it is not sent again, since nobody wants it twice."""

    PENDING = "pending"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    UNCERTAIN = "uncertain"


class EmailMessage(Table, policy=Internal("Operators read the mails; a recipient reads theirs in a mailbox.")):
    """A mail to one address: of a user, of who registers, or of who is invited. Without the row that it is about, it is deleted.

    `run_after` is when it is tried next; `error` says why the last try failed.
    """

    __tablename__ = "email_messages"
    __table_args__ = (
        Index("ix_email_messages_pending", "run_after", "id", postgresql_where=text("status IN ('pending', 'sending')")),
        Index("ix_email_messages_created_at", "created_at", "id"),
        CheckConstraint("num_nonnulls(user_id, registration_id, invitation_id) = 1", name="one_recipient"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
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
