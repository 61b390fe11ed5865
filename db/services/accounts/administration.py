"""What admins change of users: role, tier, access and storage quota. One active admin always stays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import exists, func, select, update

from db.core.audit import differences
from db.core.checks import Checks
from db.core.policy import is_shipped
from db.core.viewer import SYSTEM, AccountKind, UserRole, UserTier
from db.core.work import Work
from db.errors import Forbidden, LastAdmin, NotFound, invalid
from db.services.accounts.sessions import end_sessions
from db.services.accounts.teams import revalidate_members
from db.tables import User

ADMINS_LOCK = 7_263_003  # of PostgreSQL's advisory locks: changes of admins, one after the other
MAX_QUOTA = 2**63 - 1

IS_ACTIVE_ADMIN = (User.role == UserRole.ADMIN) & User.disabled_at.is_(None) & User.deleted_at.is_(None)


async def administer(work: Work, user_id: UUID, changes: Mapping[str, Any]) -> UUID:
    """Change a user, for open connections within seconds. `changes` may have role, tier, is_active and storage_quota_bytes (None: the tier's).

    A change of role ends the user's sessions, except the one that it is made with. A disabled user's tokens are refused until they are
    enabled; their rows and jobs stay. Nobody sees what a disabled team owns. Raises `Forbidden` for all but admins, `NotFound`, `InvalidInput`, or
    `LastAdmin` if no active admin would be left.
    """
    work.viewer.require_admin()
    values = _values(changes)
    # Of two admins who demote each other at once, the second waits here, and is no admin any more in the statements that follow.
    await work.run(select(func.pg_advisory_xact_lock(ADMINS_LOCK)))
    if work.viewer is not SYSTEM and not await work.scalar(select(exists().where(User.id == work.viewer.id, IS_ACTIVE_ADMIN))):
        raise Forbidden("You are no admin any more.")
    is_user = (User.id == user_id) & User.deleted_at.is_(None) & ~is_shipped(User)
    columns = (User.kind, User.role, User.tier, User.storage_quota_bytes, User.disabled_at.is_(None).label("is_active"))
    user = await work.first(select(*columns, IS_ACTIVE_ADMIN.label("was_admin")).where(is_user))
    if user is None:
        raise NotFound(str(user_id))
    if user.kind is not AccountKind.PERSON and values.get("role", UserRole.MEMBER) is not UserRole.MEMBER:
        raise invalid("role", message="A team has the role MEMBER: what its members may do is in their memberships.")
    if values:
        await work.run(update(User).where(is_user).values(values))
        work.revalidate_sessions(user_id)
        if values.get("role", user.role) is not user.role:
            own = work.viewer.key_id if work.viewer.is_session and work.viewer.id == user_id else None
            await end_sessions(work, user_id, kept=own)
        if user.kind is AccountKind.TEAM:
            await revalidate_members(work, user_id)
        work.record("administer_user", "user", user_id, user_id, *differences(user, changes))
        if user.was_admin and not await work.scalar(select(exists().where(IS_ACTIVE_ADMIN))):
            raise LastAdmin
    return user_id


def _values(changes: Mapping[str, Any]) -> dict[str, Any]:
    checks, values = Checks(), dict(changes)
    for name, path in (("role", "role"), ("tier", "tier"), ("is_active", "isActive")):
        if name in values and values[name] is None:
            checks.add(path, message="This cannot be cleared; leave the field out to keep the present value.")
    quota = values.get("storage_quota_bytes")
    if quota is not None and not 0 <= quota <= MAX_QUOTA:
        checks.add("storageQuotaBytes", message=f"A quota is from 0 to {MAX_QUOTA} bytes; null gives the user that of their tier.")
    checks.raise_if_invalid()
    if "is_active" in values:
        values["disabled_at"] = None if values.pop("is_active") else func.coalesce(User.disabled_at, func.now())
    return values


async def set_role(work: Work, email: str, role: UserRole) -> None:
    """Raises `NotFound` or `LastAdmin`."""
    await _administer_by_email(work, email, role=role)


async def set_tier(work: Work, email: str, tier: UserTier) -> None:
    """Raises `NotFound`."""
    await _administer_by_email(work, email, tier=tier)


async def set_quota(work: Work, email: str, quota_bytes: int | None) -> None:
    """Raises `NotFound` or `InvalidInput`."""
    await _administer_by_email(work, email, storage_quota_bytes=quota_bytes)


async def disable(work: Work, email: str) -> None:
    """Raises `NotFound` or `LastAdmin`."""
    await _administer_by_email(work, email, is_active=False)


async def enable(work: Work, email: str) -> None:
    """Raises `NotFound`."""
    await _administer_by_email(work, email, is_active=True)


async def _administer_by_email(work: Work, email: str, **changes: Any) -> None:
    has_address = (func.lower(User.email) == email.lower()) & User.deleted_at.is_(None)  # a team's too
    user_id: UUID | None = await work.scalar(select(User.id).where(has_address))
    if user_id is None:
        raise NotFound(email)
    await administer(work, user_id, changes)
