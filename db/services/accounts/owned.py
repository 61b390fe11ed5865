"""What an account owns, a person's or a team's, as far as it is deleted and restored with it."""

from __future__ import annotations

from uuid import UUID

import sqlalchemy
from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import InstrumentedAttribute, aliased

from db.core.base import Table
from db.core.work import Work
from db.errors import WrongState
from db.tables import Job, User
from db.tables.jobstates import TERMINAL


def deletable_tables() -> list[sqlalchemy.Table]:
    """The tables of what an account owns by unique names and whose rows are marked as deleted, in the order in which they are locked."""
    tables = Table.metadata.tables.values()
    has_names = (
        table
        for table in tables
        if "deleted_at" in table.c and any(index.name == f"uq_{table.name}_owner_id_name" for index in table.indexes)
    )
    return sorted(has_names, key=lambda table: table.name)


async def delete_owned(work: Work, account_id: UUID) -> None:
    """Mark what an account owns as deleted, with the time of the transaction: a restore of the account brings back exactly that."""
    for table in deletable_tables():
        await work.run(update(table).where(table.c.owner_id == account_id, table.c.deleted_at.is_(None)).values(deleted_at=func.now()))


async def require_no_jobs(work: Work, account_id: UUID, what: str) -> None:
    """Raise `WrongState` while a job of the account, or one that it pays for, has not ended. `what` names the account in the message."""
    own: int = await work.scalar(select(func.count()).where(Job.owner_id == account_id, Job.status.not_in(TERMINAL)))
    paid: int = 0 if own else await work.scalar(select(func.count()).where(pays_for(account_id), Job.status.not_in(TERMINAL)))
    if count := own or paid:
        whose = f"jobs of this {what}" if own else "jobs of teams that you made, and pay for,"
        raise WrongState(
            "BUSY", f"{count} of the {whose} {'has' if count == 1 else 'have'} not ended. Wait or cancel them, then delete it."
        )


def pays_for(account_id: UUID | InstrumentedAttribute[UUID]) -> ColumnElement[bool]:
    """The condition that a job is a team's, and its credits are those of the account, which made the team. A maker has few teams."""
    team = aliased(User, name="made")
    return Job.owner_id.in_(select(team.id).where(team.created_by_id == account_id).correlate(User)) & (Job.payer_id == account_id)
