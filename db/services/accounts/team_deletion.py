"""Teams are deleted with what they own, which leaves lists and look-ups at once; operators can restore one."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import func, select, update

from db.core.work import Work
from db.errors import NotFound
from db.services.accounts.members import is_visible_team, require_team_admin
from db.services.accounts.owned import delete_owned, require_no_jobs
from db.services.accounts.sessions import require_recent_check
from db.services.accounts.teams import revalidate_members
from db.tables import User


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
    await require_no_jobs(work, team_id, "team")
    await delete_owned(work, team_id)
    await revalidate_members(work, team_id)
    deleted_at = await work.scalar(select(func.now()))
    work.record("delete_team", "user", team_id, team_id, {"deleted_at": None}, {"deleted_at": deleted_at})

    async def mark() -> None:
        # FOR UPDATE waits for whoever inserts a row of this owner: a job that is submitted meanwhile is seen, or comes after the deletion.
        if not await work.scalar(select(User.id).where(*is_visible_team(work, team_id)).with_for_update()):
            raise NotFound(str(team_id))
        await require_team_admin(work, team_id)
        await require_no_jobs(work, team_id, "team")
        await work.run(update(User).where(User.id == team_id).values(deleted_at=func.now()))

    work.before_commit(team_id, mark)
