"""Teams: accounts that nobody signs in to, and that their members share."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import func, insert, select

from db.core.checks import Checks
from db.core.unique import translate_unique_violation
from db.core.viewer import AccountKind, UserRole
from db.core.work import Work
from db.errors import QuotaExceeded, UsernameTaken
from db.services.accounts.users import TEAM_DOMAIN, check_username, insert_user, lock_own_account
from db.settings import state_settings
from db.tables import Membership, User


async def create_team(work: Work, name: str, username: str) -> UUID:
    """Make a team, of which the viewer is the only member, as ADMIN; return its id.

    Its storage quota is 0: it counts in its maker's limits until an admin gives it its own. Raises `InvalidInput`, `UsernameTaken` or
    `QuotaExceeded`.
    """
    work.viewer.require_session()
    work.viewer.require_write()
    checks = Checks()
    full_name = checks.name(name, "name", length=200)
    check_username(checks, username)
    checks.raise_if_invalid()
    maker_id = work.viewer.id
    await lock_own_account(work)  # those made at once wait for each other
    limit = state_settings().teams_per_user
    count: int = await work.scalar(select(func.count()).where(User.created_by_id == maker_id, User.deleted_at.is_(None)))
    if count >= limit:
        raise QuotaExceeded("teams", limit, count)
    await require_few_teams(work)
    values = {
        "kind": AccountKind.TEAM,
        "created_by_id": maker_id,
        "email": f"{username}@{TEAM_DOMAIN}",
        "username": username,
        "full_name": full_name,
        "role": UserRole.MEMBER,
        "storage_quota_bytes": 0,
    }
    with translate_unique_violation("uq_users_email", UsernameTaken(username)):
        team_id = await insert_user(work, values)
    await work.run(insert(Membership).values(team_id=team_id, user_id=maker_id, role=UserRole.ADMIN))
    work.record("create_team", "user", team_id, team_id, after={"username": username, "full_name": full_name})
    work.revalidate_sessions(maker_id)
    return team_id


async def require_few_teams(work: Work) -> None:
    """Raise `QuotaExceeded` if the viewer, whose row is locked, is in so many teams that they cannot be in another."""
    limit = state_settings().memberships_per_user
    is_theirs = User.id.in_(select(Membership.team_id).where(Membership.user_id == work.viewer.id))
    count: int = await work.scalar(select(func.count()).select_from(User).where(is_theirs, User.deleted_at.is_(None)))
    if count >= limit:
        raise QuotaExceeded("memberships in teams", limit, count)


async def revalidate_members(work: Work, team_id: UUID) -> None:
    """Have the open connections of a team's members follow a change of what they may see."""
    for (user_id,) in await work.all(select(Membership.user_id).where(Membership.team_id == team_id)):
        work.revalidate_sessions(user_id)
