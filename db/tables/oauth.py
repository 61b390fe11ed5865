"""Sign-in by providers of identities: which identities open which account, and the sign-ins that are under way at a provider."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.core.base import Table, now_column, uuid_primary_key
from db.core.policy import Internal, Personal


class OAuthIdentity(Table, policy=Personal("user_id")):
    """An identity at a provider that opens an account. It is found by issuer and subject alone; `email` is what the provider said last, for people.

    `provider` is the name in the settings. A user has one identity of each.
    """

    __tablename__ = "oauth_identities"
    __table_args__ = (UniqueConstraint("issuer", "subject"), UniqueConstraint("user_id", "provider"))

    id: Mapped[UUID] = uuid_primary_key()
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    provider: Mapped[str]
    issuer: Mapped[str]
    subject: Mapped[str]
    email: Mapped[str | None]
    linked_at: Mapped[datetime] = now_column()


class OAuthFlow(Table, policy=Internal("A sign-in that is under way in one browser, which alone knows its secret; nobody reads the rows.")):
    """A sign-in that began here and has not come back from its provider, found by the SHA-256 of the secret in the browser's cookie.

    It is deleted when it comes back, so it is used once. `session_id` is the session that an identity is to be linked from; without one it is a
    sign-in, and `invitation_id` the invitation with which an account may be made. One that `restores` brings back the deleted account of the
    identity, as `username` if that is set.
    """

    __tablename__ = "oauth_flows"
    __table_args__ = (
        Index("ix_oauth_flows_expires_at", "expires_at"),
        CheckConstraint("restores OR username IS NULL", name="only_restored_get_a_name"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    secret_sha256: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    provider: Mapped[str]
    next_path: Mapped[str]
    session_id: Mapped[UUID | None] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"), index=True)
    invitation_id: Mapped[UUID | None] = mapped_column(ForeignKey("invitations.id", ondelete="CASCADE"), index=True)
    restores: Mapped[bool] = mapped_column(server_default="false")
    username: Mapped[str | None]
    expires_at: Mapped[datetime]
