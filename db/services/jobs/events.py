"""Events that change no status: progress, steps, logs. Each takes the job's next number, and only the attempt that holds it may."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, SmallInteger, Text, bindparam, func, select, update

from db.core.work import Notice, Work
from db.services.jobs.transitions import HELD, Claim, event
from db.tables import Job
from db.tables.jobs import JobEventType
from db.tables.jobstates import ACTIVE

_MOVED = (
    update(Job)
    .where(Job.status.in_(ACTIVE), HELD)
    .values(
        last_sequence=Job.last_sequence + 1,
        progress=func.coalesce(bindparam("the_progress", type_=SmallInteger()), Job.progress),
        current_step=func.coalesce(bindparam("the_step", type_=Text()), Job.current_step),
    )
    .returning(*Job.__table__.c)
    .cte("moved")
)
_APPEND = select(_MOVED.c.id, _MOVED.c.last_sequence, _MOVED.c.status).add_cte(event(_MOVED))


async def append(
    work: Work,
    claim: Claim,
    kind: JobEventType,
    *,
    message: str | None = None,
    data: dict[str, Any] | None = None,
    progress: int | None = None,
    step: str | None = None,
) -> Row[Any] | None:
    """Write one event, and the job's progress and step with it where they are given. None when the claim is held no longer."""
    told = {"the_type": kind, "the_message": message, "the_data": data, "the_progress": progress, "the_step": step}
    row = await work.first(_APPEND, {**claim.parameters(), **told})
    if row is not None:
        work.notify(Notice(row.id, row.last_sequence))
    return row
