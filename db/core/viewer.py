"""The viewer on whose behalf a query or a service runs; the policies of the tables read it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from db.errors import Forbidden


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

    @property
    def sees_all(self) -> bool:
        return self.role is UserRole.ADMIN

    def require_session(self) -> UUID:
        """Return the id of the session. Raise `Forbidden` for an API key, which may not change how its owner signs in."""
        if not self.is_session or self.key_id is None:
            raise Forbidden("An API key cannot do this. Sign in with `login`, and send the token of that session.")
        return self.key_id

    def require_admin(self) -> None:
        """Raise `Forbidden` if the role is another than ADMIN."""
        if self.role is not UserRole.ADMIN:
            raise Forbidden("Only an admin can do this. Ask one to do it, or for the role ADMIN (`trellis user role`).")

    def require_write(self) -> None:
        """Raise `Forbidden` if the role is read-only."""
        if self.role is UserRole.VIEWER:
            raise Forbidden("Your role, VIEWER, can read but not change anything. Ask an admin for the role MEMBER (`trellis user role`).")


SYSTEM = Viewer(UUID(int=0), UserRole.ADMIN)
