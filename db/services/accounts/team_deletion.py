"""Teams are deleted with what they own, which leaves lists and look-ups at once; operators can restore one."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import exists, func, select, update

from db.core.work import Work
from db.errors import NotFound, WrongState
from db.services.accounts.members import is_visible_team, require_team_admin
from db.services.accounts.restoring import deletable_tables
from db.services.accounts.sessions import require_recent_check
from db.services.accounts.teams import revalidate_members
from db.tables import Job, User
from db.tables.jobstates import TERMINAL


async def delete_team(work: Work, team_id: UUID) -> None:
    """Mark a team and what it owns as deleted; its username and their names are free at once. Its members stay, for when it is restored.

    What is marked has the time of the team, so that a restore brings back exactly that. Raises `NotFound`, `Forbidden` for who is no ADMIN of
    the team, or `WrongState`: while a job of it has not ended, and for a session that began too long ago.
    """
    work.viewer.require_session()
    work.viewer.require_write()
    if not await work.scalar(select(User.id).where(*is_visible_team(work, team_id))):
        raise NotFound(str(team_id))
    await require_team_admin(work, team_id)
    await require_recent_check(work)
    await _require_no_jobs(work, team_id)
    for table in deletable_tables():
        await work.run(update(table).where(table.c.owner_id == team_id, table.c.deleted_at.is_(None)).values(deleted_at=func.now()))
    await revalidate_members(work, team_id)
    deleted_at = await work.scalar(select(func.now()))
    work.record("delete_team", "user", team_id, team_id, {"deleted_at": None}, {"deleted_at": deleted_at})

    async def mark() -> None:
        # FOR UPDATE waits for whoever inserts a row of this owner: a job that is submitted meanwhile is seen, or comes after the deletion.
        if not await work.scalar(select(User.id).where(*is_visible_team(work, team_id)).with_for_update()):
            raise NotFound(str(team_id))
        await require_team_admin(work, team_id)
        await _require_no_jobs(work, team_id)
        await work.run(update(User).where(User.id == team_id).values(deleted_at=func.now()))

    work.before_commit(team_id, mark)


async def _require_no_jobs(work: Work, team_id: UUID) -> None:
    if await work.scalar(select(exists().where(Job.owner_id == team_id, Job.status.not_in(TERMINAL)))):
        raise WrongState("BUSY", "A job of this team has not ended. Wait for it or cancel it, then delete the team.")
