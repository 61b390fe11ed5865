"""Events that change no status: progress, steps, logs. Each takes the job's next number, and only the attempt that holds it may."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select, update

from db.core.work import Notice, Work
from db.services.jobs.transitions import Claim, Says, event
from db.tables import Job
from db.tables.jobstates import ACTIVE


async def append(work: Work, claim: Claim, says: Says, *, progress: int | None = None, step: str | None = None) -> Row[Any] | None:
    """Write one event, and the job's progress and step with it where they are given. None when the claim is held no longer."""
    changes: dict[str, Any] = {"last_sequence": Job.last_sequence + 1}
    if progress is not None:
        changes["progress"] = progress
    if step is not None:
        changes["current_step"] = step
    change = update(Job).where(Job.status.in_(ACTIVE), *claim.conditions()).values(changes)
    moved = change.returning(*Job.__table__.c).cte("moved")
    row = await work.first(select(moved.c.id, moved.c.last_sequence, moved.c.status).add_cte(event(moved, says)))
    if row is not None:
        work.notify(Notice(row.id, row.last_sequence))
    return row
