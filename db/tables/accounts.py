"""Users, and what they sign in with: bearer tokens, and passwords that begin sessions."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, LargeBinary, PrimaryKeyConstraint, Text, literal_column, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from db.core.base import Table, bigint_column, enum_column, filter_index, now_column, uuid_primary_key
from db.core.policy import Administered, Internal, Owned, Personal
from db.core.viewer import AccountKind, ApiScope, UserRole, UserTier

_ALL_SCOPES = f"ARRAY[{', '.join(repr(scope.value) for scope in ApiScope)}]"

_LIVE = text("deleted_at IS NULL")


def _trigram_index(column: str) -> Index:
    """An index that finds parts of a text, ignoring case."""
    return Index(
        f"ix_users_{column}_trigrams",
        literal_column(f"lower({column})", Text).label(f"lower_{column}"),
        postgresql_using="gin",
        postgresql_ops={f"lower_{column}": "gin_trgm_ops"},
        postgresql_where=_LIVE,
    )


class User(Table, policy=Owned("id")):
    """An account, which owns rows: a person's, or a team's. The row is never deleted: a purge clears its personal data.

    Nobody signs in to a team, so it has neither secrets nor a role of its own; `created_by_id` is who made it.

    The credit columns are changed only by `db.services.credits`, with a ledger entry each time; `credits_low_since` is when they last fell below
    the setting `low_credits`. The secrets of the second factor are
    encrypted, see `db.services.sealing`; `totp_step` is the time step of the last code that was accepted, and `totp_pending_secret` one that its
    owner has not confirmed yet. `storage_quota_bytes` replaces the quota of the tier; without one it is null.

    A deleted user is restored by themselves only if they deleted the account (`deleted_by_owner`), and by nobody once the purge has started.
    """

    __tablename__ = "users"
    __table_args__ = (
        Index("uq_users_email", text("lower(email)"), unique=True, postgresql_where=_LIVE),
        Index("uq_users_username", text("lower(username)"), unique=True, postgresql_where=_LIVE),
        filter_index("users", deletable=True),
        filter_index("users", "role", deletable=True),
        filter_index("users", "tier", deletable=True),
        filter_index("users", "kind", deletable=True),
        Index(
            "ix_users_disabled_created_at",
            text("created_at DESC"),
            text("id DESC"),
            postgresql_where=text("deleted_at IS NULL AND disabled_at IS NOT NULL"),
        ),
        # Users who never signed in come last in both directions.
        Index("ix_users_last_login_at", "last_login_at", "id", postgresql_where=_LIVE),
        Index("ix_users_newest_login_at", text("last_login_at DESC NULLS LAST"), text("id DESC"), postgresql_where=_LIVE),
        # Of those who are restored or purged, which are few.
        Index("ix_users_deleted_at", "deleted_at", postgresql_where=text("deleted_at IS NOT NULL AND purged_at IS NULL")),
        _trigram_index("email"),
        _trigram_index("username"),
        _trigram_index("full_name"),
        CheckConstraint("storage_quota_bytes >= 0", name="storage_quota_not_negative"),
        CheckConstraint("storage_bytes >= 0", name="storage_not_negative"),
        CheckConstraint("credit_balance >= 0 AND credits_held >= 0", name="credits_not_negative"),
        CheckConstraint(
            "kind = 'person' OR (role = 'member' AND password_hash IS NULL AND totp_secret IS NULL AND totp_pending_secret IS NULL"
            " AND last_login_at IS NULL)",
            name="only_persons_sign_in",
        ),
        CheckConstraint("(kind = 'team') = (created_by_id IS NOT NULL)", name="a_team_has_a_maker"),
        CheckConstraint("deleted_at IS NOT NULL OR NOT deleted_by_owner", name="only_deleted_by_owner"),
        CheckConstraint("deleted_at IS NOT NULL OR purge_started_at IS NULL", name="only_deleted_are_purged"),
        CheckConstraint("purge_started_at IS NOT NULL OR purged_at IS NULL", name="purge_ends_after_it_starts"),
        CheckConstraint("(totp_secret IS NULL) = (totp_step IS NULL)", name="totp_secret_has_a_step"),
        CheckConstraint("(totp_pending_secret IS NULL) = (totp_pending_at IS NULL)", name="totp_pending_secret_has_a_time"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    kind: Mapped[AccountKind] = enum_column("kind", AccountKind, server_default="person")
    created_by_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"), index=True)
    email: Mapped[str]
    email_verified_at: Mapped[datetime | None]
    username: Mapped[str]
    full_name: Mapped[str | None]
    role: Mapped[UserRole] = enum_column("role", UserRole)
    tier: Mapped[UserTier] = enum_column("tier", UserTier, server_default="free")
    storage_bytes: Mapped[int] = bigint_column(server_default="0")
    storage_quota_bytes: Mapped[int | None] = bigint_column()
    credit_balance: Mapped[int] = bigint_column(server_default="0")
    credits_held: Mapped[int] = bigint_column(server_default="0")
    credit_sequence: Mapped[int] = bigint_column(server_default="0")
    credits_low_since: Mapped[datetime | None]
    quota_near_since: Mapped[datetime | None]
    created_at: Mapped[datetime] = now_column()
    updated_at: Mapped[datetime] = now_column()
    deleted_at: Mapped[datetime | None]
    deleted_by_owner: Mapped[bool] = mapped_column(server_default="false")
    purge_started_at: Mapped[datetime | None]
    purged_at: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]
    password_hash: Mapped[str | None]
    password_changed_at: Mapped[datetime | None]
    last_login_at: Mapped[datetime | None]
    totp_secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    totp_step: Mapped[int | None] = mapped_column(BigInteger)
    totp_pending_secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    totp_pending_at: Mapped[datetime | None]


class Membership(Table, policy=Owned("team_id")):
    """A person is in a team. `role` is what they may do there: VIEWER sees, MEMBER also writes and runs, ADMIN also manages the team.

    A person who is VIEWER in the system writes in no team. Whoever changes a membership calls `work.revalidate_sessions` for the person, so that
    their open streams and websockets follow.
    """

    __tablename__ = "memberships"
    __table_args__ = (
        PrimaryKeyConstraint("team_id", "user_id"),
        Index("ix_memberships_team_id_created_at", "team_id", text("created_at DESC"), text("user_id DESC")),
        CheckConstraint("team_id <> user_id", name="a_team_is_not_in_itself"),
    )

    team_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    role: Mapped[UserRole] = enum_column("role", UserRole)
    created_at: Mapped[datetime] = now_column()


class BackupCode(Table, policy=Personal("user_id")):
    """A code that replaces the app's once, kept as its SHA-256. Only how many are left is read."""

    __tablename__ = "backup_codes"
    __table_args__ = (PrimaryKeyConstraint("user_id", "code_sha256"),)

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    code_sha256: Mapped[bytes] = mapped_column(LargeBinary)
    used_at: Mapped[datetime | None]


class UserCounter(Table, policy=Owned()):
    """A part of the number of live rows that a user owns in the table `kind`: the number is the sum of all parts, some of which may be negative.

    Triggers change a part that no other transaction has locked, or add one, and so never wait. There are as many parts of a number as
    transactions ever changed it at once.
    """

    __tablename__ = "user_counters"
    __table_args__ = (Index("ix_user_counters_owner_id_kind", "owner_id", "kind"),)

    id: Mapped[UUID] = uuid_primary_key()
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    kind: Mapped[str]
    value: Mapped[int] = bigint_column()


class ApiKey(Table, policy=Personal("user_id")):
    """A bearer token, looked up by its SHA-256; users recognise it by the prefix. `last_used_at` is written once a minute at most.

    `scopes` has at least one, each once, in the order of `ApiScope`. Those that the owner's role does not allow have no effect: keys that
    operators make have all scopes, and so all that the role allows, whichever it becomes.
    """

    __tablename__ = "api_keys"
    __table_args__ = (
        Index("ix_api_keys_created_at", "created_at", "id"),
        filter_index("api_keys", "user_id"),
        CheckConstraint(f"scopes <@ {_ALL_SCOPES} AND cardinality(scopes) > 0", name="scopes_are_known"),
        CheckConstraint("points_per_minute > 0", name="points_per_minute_positive"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str]
    prefix: Mapped[str]
    token_sha256: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text(_ALL_SCOPES))
    points_per_minute: Mapped[int | None]
    created_at: Mapped[datetime] = now_column()
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class UserSession(Table, policy=Personal("user_id")):
    """A sign-in, whose token is looked up by its SHA-256. It ends by `ended_at`, at `expires_at`, or `idle_seconds` after `last_active_at`.

    `network` is `db.core.networks.client_network` of the address. `last_active_at` is written once a minute at most. `checked_at` is when the
    user last proved who they are by all that their sign-in takes: the password, and the second factor if they have one.
    """

    __tablename__ = "sessions"
    __table_args__ = (
        Index("ix_sessions_user_id_last_active_at", "user_id", "last_active_at"),
        Index("ix_sessions_expires_at", "expires_at"),
        CheckConstraint("idle_seconds > 0", name="idle_seconds_positive"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    token_sha256: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    created_at: Mapped[datetime] = now_column()
    last_active_at: Mapped[datetime] = now_column()
    checked_at: Mapped[datetime] = now_column()
    expires_at: Mapped[datetime]
    idle_seconds: Mapped[int]
    ended_at: Mapped[datetime | None]
    ip_address: Mapped[str | None]
    network: Mapped[str]
    user_agent: Mapped[str | None]
    device: Mapped[str | None]
    browser: Mapped[str | None]


class LoginMethod(StrEnum):
    """What a sign-in was tried with."""

    PASSWORD = "password"  # noqa: S105 - the name of a method
    TOTP = "totp"
    BACKUP_CODE = "backup_code"
    OAUTH = "oauth"
    PASSKEY = "passkey"


class LoginChallenge(Table, policy=Internal("A challenge proves a first factor; nobody reads the rows.")):
    """A sign-in that waits for its second factor, found by the SHA-256 of its token.

    `password_digest` is the SHA-256 of the hash of the user's password, or of nothing: after a change of it, the challenge is void. One that
    `restores` is of a deleted user, and restores them, as `username` if that is set.
    """

    __tablename__ = "login_challenges"
    __table_args__ = (
        Index("ix_login_challenges_expires_at", "expires_at"),
        CheckConstraint("restores OR username IS NULL", name="only_restored_get_a_name"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    token_sha256: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    password_digest: Mapped[bytes] = mapped_column(LargeBinary)
    restores: Mapped[bool] = mapped_column(server_default="false")
    username: Mapped[str | None]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class KnownDevice(Table, policy=Internal("A sign-in compares with it whether its owner is told; nobody reads the rows.")):
    """Where a user has signed in from: a wide network (`db.core.networks.wide_network`), a browser and a kind of device, empty if not named."""

    __tablename__ = "known_devices"
    __table_args__ = (
        PrimaryKeyConstraint("user_id", "network", "browser", "device"),
        Index("ix_known_devices_last_seen_at", "last_seen_at"),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    network: Mapped[str]
    browser: Mapped[str]
    device: Mapped[str]
    created_at: Mapped[datetime] = now_column()
    last_seen_at: Mapped[datetime] = now_column()


class LoginEvent(Table, policy=Personal("user_id")):
    """A sign-in that succeeded or failed, never changed. `user_id` is null if nobody has the name that was given."""

    __tablename__ = "login_events"
    __table_args__ = (
        Index("ix_login_events_user_id_created_at", "user_id", "created_at", "id"),
        Index("ix_login_events_created_at", "created_at"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    method: Mapped[LoginMethod] = enum_column("method", LoginMethod)
    succeeded: Mapped[bool]
    reason: Mapped[str | None]
    ip_address: Mapped[str | None]
    user_agent: Mapped[str | None]
    created_at: Mapped[datetime] = now_column()


class TokenPurpose(StrEnum):
    """What a token that is sent by mail allows, once."""

    RESET_PASSWORD = "reset_password"  # noqa: S105 - the name of a purpose
    CHANGE_EMAIL = "change_email"


class AccountToken(Table, policy=Internal("A token proves that its mail was received; nobody reads the rows.")):
    """A token sent by mail. Its secret is derived from the id, see `db.services.account_tokens`; it is valid once it was sent.

    `email` is the user's address when it was made: if the user's address or password changes, the token is void. `new_email` is the
    address that a change was asked for; its token is sent there.
    """

    __tablename__ = "account_tokens"
    __table_args__ = (
        Index("ix_account_tokens_created_at", "created_at"),
        CheckConstraint("(purpose = 'change_email') = (new_email IS NOT NULL)", name="a_change_has_a_new_address"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    purpose: Mapped[TokenPurpose] = enum_column("purpose", TokenPurpose)
    email: Mapped[str]
    new_email: Mapped[str | None]
    created_at: Mapped[datetime] = now_column()
    expires_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]


class Invitation(Table, policy=Administered("owner_id")):
    """An invitation, sent to one address, which is used at most once: to register, by an admin, or to be in a team, by an ADMIN of that.

    `owner_id` is the team, or of an invitation to register its sender. It is void while its sender may not send such a one. The secret of its
    token is derived from the id, see `db.services.account_tokens`.
    """

    __tablename__ = "invitations"
    __table_args__ = (
        filter_index("invitations", "owner_id"),
        Index("ix_invitations_to_register", text("created_at DESC"), text("id DESC"), postgresql_where=text("owner_id = invited_by_id")),
        Index("ix_invitations_email", text("lower(email)")),
        Index("ix_invitations_expires_at", "expires_at"),
    )

    id: Mapped[UUID] = uuid_primary_key()
    email: Mapped[str]
    role: Mapped[UserRole] = enum_column("role", UserRole)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    invited_by_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = now_column()
    expires_at: Mapped[datetime]
    accepted_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class Registration(Table, policy=Internal("Nobody's yet: it becomes a user when its address is verified.")):
    """A registration whose address is not verified. It reserves neither address nor username, and is deleted once it is verified or expires.

    `token_expires_at` is null until its mail is sent. The secret of the token is derived from the id, see `db.services.account_tokens`.
    """

    __tablename__ = "registrations"
    __table_args__ = (Index("ix_registrations_email", text("lower(email)")), Index("ix_registrations_expires_at", "expires_at"))

    id: Mapped[UUID] = uuid_primary_key()
    email: Mapped[str]
    username: Mapped[str]
    full_name: Mapped[str | None]
    password_hash: Mapped[str]
    invitation_id: Mapped[UUID | None] = mapped_column(ForeignKey("invitations.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[datetime] = now_column()
    expires_at: Mapped[datetime]
    token_expires_at: Mapped[datetime | None]
