"""Passkeys (WebAuthn), by which users sign in without a password, and the challenges that they answer."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from db.core.base import Table, bigint_column, now_column, uuid_primary_key
from db.core.policy import Internal, Personal


class Passkey(Table, policy=Personal("user_id")):
    """A key pair on a device of a user, of which the public key is kept, as COSE encodes it.

    `webauthn_id` is the id that the device gave it. `sign_count` is the device's counter of uses, 0 for devices without one. `transports`
    tell the browser how to reach the device. The flags say whether a provider may keep copies of it on other devices, and does.
    """

    __tablename__ = "passkeys"
    __table_args__ = (
        Index("uq_passkeys_user_id_name", "user_id", text("lower(name)"), unique=True),
        CheckConstraint("sign_count >= 0", name="sign_count_not_negative"),
        CheckConstraint("is_backup_eligible OR NOT is_backed_up", name="backed_up_is_eligible"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str]
    webauthn_id: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    public_key: Mapped[bytes] = mapped_column(LargeBinary)
    sign_count: Mapped[int] = bigint_column()
    transports: Mapped[list[str]] = mapped_column(ARRAY(Text))
    is_backup_eligible: Mapped[bool]
    is_backed_up: Mapped[bool]
    created_at: Mapped[datetime] = now_column()
    last_used_at: Mapped[datetime | None]


class PasskeyChallenge(Table, policy=Internal("A challenge proves that an answer of a passkey is new; nobody reads the rows.")):
    """A challenge that a passkey is to sign, found by its SHA-256, and deleted when it is used.

    One for a new passkey has its name, and is for the session that asked for it. One for a sign-in has neither.
    """

    __tablename__ = "passkey_challenges"
    __table_args__ = (
        Index("ix_passkey_challenges_expires_at", "expires_at"),
        CheckConstraint("(session_id IS NULL) = (name IS NULL)", name="new_passkey_has_a_name"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    challenge_sha256: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    session_id: Mapped[UUID | None] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"), index=True)
    name: Mapped[str | None]
    expires_at: Mapped[datetime]
