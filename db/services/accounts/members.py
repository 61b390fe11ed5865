"""Who is in a team, and as what. One ADMIN who can sign in always stays.

Changes of one team's members lock its row, so each sees those before it. Only sessions may make them, see `Viewer.require_session`.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, delete, exists, func, select, update

from db.core.audit import ref
from db.core.policy import visible
from db.core.viewer import AccountKind, UserRole
from db.core.work import Work
from db.errors import Forbidden, LastTeamAdmin, NotFound
from db.queries.invitations import is_open
from db.tables import Invitation, Membership, User

_NOT_ADMIN = "Only an ADMIN of this team can do this. Ask one of them to do it, or to give you the role ADMIN."


async def set_team_role(work: Work, team_id: UUID, user_id: UUID, role: UserRole) -> Row[Any]:
    """Give a member another role; return the membership. Their open connections follow within seconds.

    Raises `NotFound`, `Forbidden` for who is no ADMIN of the team, or `LastAdmin`.
    """
    team = await lock_managed_team(work, team_id)
    member = await _member(work, team_id, user_id)
    if member.role is not role:
        await work.run(update(Membership).where(*_is(team_id, user_id)).values(role=role))
        await _require_admin(work, team, member)
        await _end_invitations(work, team_id, user_id, member.role)
        work.revalidate_sessions(user_id)
        before, after = ({"user_id": ref("user", user_id), "role": value} for value in (member.role, role))
        work.record("set_team_role", "user", team_id, team_id, before, after)
    return await work.one(select(*Membership.__table__.c).where(*_is(team_id, user_id)))


async def remove_team_member(work: Work, team_id: UUID, user_id: UUID) -> None:
    """End a membership. The person loses sight of the team at once, in open connections within seconds.

    Raises `NotFound`, `Forbidden` for who is no ADMIN of the team, or `LastAdmin`.
    """
    team = await lock_managed_team(work, team_id)
    await _end(work, team, user_id, "remove_team_member")


async def leave_team(work: Work, team_id: UUID) -> None:
    """End the viewer's membership, whatever their role. Raises `NotFound` or `LastAdmin`."""
    work.viewer.require_session()
    team = await _lock(work, team_id)
    try:
        await _end(work, team, work.viewer.id, "leave_team")
    except NotFound:
        raise NotFound(str(team_id)) from None


async def lock_managed_team(work: Work, team_id: UUID) -> Row[Any]:
    """Lock a team whose members the viewer may change; return its `id` and `username`. Raises `NotFound` or `Forbidden`."""
    work.viewer.require_session()
    work.viewer.require_write()
    team = await _lock(work, team_id)
    await require_team_admin(work, team_id)
    return team


async def require_team_admin(work: Work, team_id: UUID, *, is_locked: bool = False) -> None:
    """Raise `NotFound` for who is not in the team, `Forbidden` for who is no ADMIN of it. `is_locked`: their role stays until the commit.

    The role is read anew: that of the viewer may have changed since the operation began. Admins of the installation manage every team.
    """
    if work.viewer.sees_all:
        return
    role = select(Membership.role).where(*_is(team_id, work.viewer.id))
    match await work.scalar(role.with_for_update(read=True) if is_locked else role):
        case UserRole.ADMIN:
            return
        case None:
            raise NotFound(str(team_id))
        case _:
            raise Forbidden(_NOT_ADMIN)


def is_visible_team(work: Work, team_id: UUID) -> tuple[ColumnElement[bool], ...]:
    """The conditions that a user is this team, not deleted, and seen by the viewer."""
    return User.id == team_id, User.kind == AccountKind.TEAM, User.deleted_at.is_(None), visible(User, work.viewer)


async def _lock(work: Work, team_id: UUID) -> Row[Any]:
    statement = select(User.id, User.username).where(*is_visible_team(work, team_id))
    team = await work.first(statement.with_for_update(key_share=True))
    if team is None:
        raise NotFound(str(team_id))
    return team


async def _end(work: Work, team: Row[Any], user_id: UUID, action: str) -> None:
    member = await _member(work, team.id, user_id)
    await work.run(delete(Membership).where(*_is(team.id, user_id)))
    await _require_admin(work, team, member)
    await _end_invitations(work, team.id, user_id, member.role)
    work.revalidate_sessions(user_id)
    work.record(action, "user", team.id, team.id, {"user_id": ref("user", user_id), "role": member.role})


async def _member(work: Work, team_id: UUID, user_id: UUID) -> Row[Any]:
    columns = (Membership.role, _can_sign_in().label("can_sign_in"))
    member = await work.first(select(*columns).join(User, User.id == Membership.user_id).where(*_is(team_id, user_id)))
    if member is None:
        raise NotFound(str(user_id))
    return member


async def _require_admin(work: Work, team: Row[Any], before: Row[Any]) -> None:
    """Raise `LastTeamAdmin` if the change of a member, who had the role `before`, has left no ADMIN who can sign in."""
    is_admin = (Membership.team_id == team.id, Membership.role == UserRole.ADMIN, User.id == Membership.user_id, _can_sign_in())
    if before.role is UserRole.ADMIN and before.can_sign_in and not await work.scalar(select(exists().where(*is_admin))):
        raise LastTeamAdmin([team.username])


async def _end_invitations(work: Work, team_id: UUID, user_id: UUID, before: UserRole) -> None:
    """End the invitations to a team that somebody sent who was its ADMIN `before`."""
    if before is UserRole.ADMIN:
        is_theirs = (Invitation.owner_id == team_id, Invitation.invited_by_id == user_id, is_open())
        await work.run(update(Invitation).where(*is_theirs).values(revoked_at=func.now()))


def _can_sign_in() -> ColumnElement[bool]:
    return User.deleted_at.is_(None) & User.disabled_at.is_(None)


def _is(team_id: UUID, user_id: UUID) -> tuple[ColumnElement[bool], ...]:
    return Membership.team_id == team_id, Membership.user_id == user_id
