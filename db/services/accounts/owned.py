"""What an account owns, a person's or a team's, as far as it is deleted and restored with it."""

from __future__ import annotations

from uuid import UUID

import sqlalchemy
from sqlalchemy import func, select, update

from db.core.base import Table
from db.core.work import Work
from db.errors import WrongState
from db.tables import Job
from db.tables.jobstates import TERMINAL


def deletable_tables() -> list[sqlalchemy.Table]:
    """The tables of what an account owns whose rows are marked as deleted, in the order in which they are locked."""
    tables = Table.metadata.tables.values()
    return sorted((table for table in tables if "owner_id" in table.c and "deleted_at" in table.c), key=lambda table: table.name)


async def delete_owned(work: Work, account_id: UUID) -> None:
    """Mark what an account owns as deleted, with the time of the transaction: a restore of the account brings back exactly that."""
    for table in deletable_tables():
        await work.run(update(table).where(table.c.owner_id == account_id, table.c.deleted_at.is_(None)).values(deleted_at=func.now()))


async def require_no_jobs(work: Work, account_id: UUID, what: str) -> None:
    """Raise `WrongState` while a job of the account has not ended. `what` names the account in the message."""
    count: int = await work.scalar(select(func.count()).where(Job.owner_id == account_id, Job.status.not_in(TERMINAL)))
    if count:
        jobs = f"{count} of the jobs of this {what} {'has' if count == 1 else 'have'} not ended"
        raise WrongState("BUSY", f"{jobs}. Wait or cancel them, then delete it.")
