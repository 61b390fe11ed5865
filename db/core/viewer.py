"""The viewer on whose behalf a query or a service runs; the policies of the tables read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from db.errors import Forbidden, MissingScope, invalid


class UserRole(StrEnum):
    """What a user may do; stored in lower case."""

    VIEWER = "viewer"
    MEMBER = "member"
    ADMIN = "admin"


class UserTier(StrEnum):
    """A user's tier sets limits, never permissions."""

    FREE = "free"
    PRO = "pro"
    ENTERPRISE = "enterprise"


class AccountKind(StrEnum):
    """What an account is; stored in lower case."""

    PERSON = "person"
    TEAM = "team"
    SYSTEM = "system"


class ApiScope(StrEnum):
    """What an API key may be used for; stored in lower case."""

    READ = "read"
    WRITE = "write"
    RUN = "run"
    TRACK = "track"
    ACCOUNT = "account"
    BILLING = "billing"
    ADMIN = "admin"


_READ_ONLY = "Your role, VIEWER, can read but not change anything. Ask an admin for the role MEMBER (`trellis user role`)."
_READ_ONLY_IN_TEAM = "Your role in this team, VIEWER, can read but not change anything. Ask an admin of the team for the role MEMBER."
_ONLY_ADMINS = "Only an admin can do this. Ask one to do it, or for the role ADMIN (`trellis user role`)."

ALL_SCOPES = frozenset(ApiScope)
ROLE_SCOPES: Mapping[UserRole, frozenset[ApiScope]] = {
    UserRole.VIEWER: frozenset({ApiScope.READ, ApiScope.ACCOUNT, ApiScope.BILLING}),
    UserRole.MEMBER: ALL_SCOPES - {ApiScope.ADMIN},
    UserRole.ADMIN: ALL_SCOPES,
}
"""The scopes that a role allows. A session has all of them, an API key those of them that it was given."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """A signed-in user, or the system itself (workers, migrations), which sees everything like an admin."""

    id: UUID
    role: UserRole
    key_id: UUID | None = None
    tier: UserTier = UserTier.FREE
    expires_at: float | None = field(default=None, compare=False)
    """When the token expires, on this process's monotonic clock: the database's clock decides, and others may differ from it."""
    is_session: bool = field(default=False, compare=False)
    """Whether `key_id` is a session, which a sign-in began, and not an API key."""
    scopes: frozenset[ApiScope] = ALL_SCOPES
    """What the viewer may do: never more than the role allows, whatever is passed."""
    points_per_minute: int | None = field(default=None, compare=False)
    """The points that the API key may spend in a minute, within those of its owner; None if only the owner's limit it."""
    teams: tuple[tuple[UUID, UserRole], ...] = ()
    """The teams that they are in, in the order of their ids, each with their role there."""

    _hash: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scopes", self.scopes & ROLE_SCOPES[self.role])
        object.__setattr__(self, "_hash", hash((self.id, self.role, self.key_id, self.tier, self.scopes, self.teams)))

    def __hash__(self) -> int:
        return self._hash  # it is a part of the keys of every statement

    @property
    def accounts(self) -> tuple[UUID, ...]:
        """The accounts whose rows the viewer sees: their own, then those of their teams."""
        return self.id, *(team_id for team_id, _ in self.teams)

    @property
    def maker_id(self) -> UUID | None:
        """The id as that of who makes a row; None for the system, which no row of a user stands for."""
        return self.id if self.id.int else None

    def role_in(self, account_id: UUID) -> UserRole | None:
        """Return the viewer's role in a team; None if they are not in it, or it is no team."""
        return next((role for team_id, role in self.teams if team_id == account_id), None)

    @property
    def sees_all(self) -> bool:
        """Whether the viewer sees the rows of everybody: an admin, though not with a key that lacks the scope ADMIN."""
        return ApiScope.ADMIN in self.scopes

    @property
    def is_read_only_somewhere(self) -> bool:
        """Whether the viewer sees rows of a team that they may not change."""
        return not self.sees_all and any(role is UserRole.VIEWER for _, role in self.teams)

    def require_scope(self, scope: ApiScope, place: str) -> None:
        """Raise `Forbidden` if the role does not allow the scope, `MissingScope` if the API key was not given it. `place` needs it."""
        if scope in self.scopes:
            return
        if scope in ROLE_SCOPES[self.role]:
            raise MissingScope(scope.name, place)
        raise Forbidden(_ONLY_ADMINS if scope is ApiScope.ADMIN else _READ_ONLY)

    def require_session(self) -> UUID:
        """Return the id of the session. Raise `Forbidden` for an API key, which may not change how its owner signs in."""
        if not self.is_session or self.key_id is None:
            raise Forbidden("An API key cannot do this. Sign in with `login`, and send the token of that session.")
        return self.key_id

    def require_admin(self) -> None:
        """Raise `Forbidden` if the role is another than ADMIN, or the API key lacks the scope."""
        self.require_scope(ApiScope.ADMIN, "this")

    def require_write(self) -> None:
        """Raise `Forbidden` if the role is read-only."""
        if self.role is UserRole.VIEWER:
            raise Forbidden(_READ_ONLY)

    def require_write_in(self, account_id: UUID) -> None:
        """Raise `Forbidden` if the account is a team in which the viewer's role is read-only. `Work.record` does it for whatever is changed."""
        if not self.sees_all and self.role_in(account_id) is UserRole.VIEWER:
            raise Forbidden(_READ_ONLY_IN_TEAM)

    def owner_of_new(self, account_id: UUID | None) -> UUID:
        """Return the account that is to own something new: the viewer's own where none is named, else a team in which they may write.

        Raises `InvalidInput` for an account that is neither, `Forbidden` for a team in which the role is read-only.
        """
        if account_id is None or account_id == self.id:
            return self.id
        if self.role_in(account_id) is None:
            raise invalid("ownerId", message="There is no team with this id that you are in. Leave it out to be the owner yourself.")
        self.require_write_in(account_id)
        return account_id


SYSTEM = Viewer(UUID(int=0), UserRole.ADMIN)
SHIPPED_ACCOUNT = UUID("00000000-0000-7000-8000-000000000001")
"""The one SYSTEM account. It owns what ships with the product, which everybody may see and nobody change."""
