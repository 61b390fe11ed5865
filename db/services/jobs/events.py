"""Events that change no status: progress, steps, logs. Each takes the job's next number, and only the attempt that holds it may."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, Row, SmallInteger, Text, bindparam, case, func, select, update

from db.core.work import Database, Notice, Work
from db.services.jobs.transitions import HELD, Claim, clock, insert_event, interval
from db.tables import Job, JobEvent
from db.tables.jobs import JobEventType
from db.tables.jobstates import ACTIVE, JobStatus

MAX_ESTIMATE = 366 * 86_400.0  # seconds; no estimate is good for more than a year


@dataclass(frozen=True, slots=True)
class ProgressUpdate:
    """How far the job is, what it is at, and how many seconds it will probably still take, where that is known."""

    progress: int
    step: str | None
    seconds_left: float | None


# A job that is being stopped does not come to the end that was foreseen.
_HAS_ESTIMATE = bindparam("has_moved", type_=Boolean()) & (Job.status == JobStatus.RUNNING)
_UPDATED_JOB = (
    update(Job)
    .where(Job.status.in_(ACTIVE), HELD)
    .values(
        last_sequence=Job.last_sequence + 1,
        progress=func.coalesce(bindparam("the_progress", type_=SmallInteger()), Job.progress),
        current_step=func.coalesce(bindparam("the_step", type_=Text()), Job.current_step),
        estimated_completed_at=case((_HAS_ESTIMATE, clock() + interval("the_time_left")), else_=Job.estimated_completed_at),
    )
    .returning(*Job.__table__.c)
    .cte("moved")
)
_APPEND = select(_UPDATED_JOB.c.id, _UPDATED_JOB.c.last_sequence, _UPDATED_JOB.c.status).add_cte(insert_event(_UPDATED_JOB))


async def append(
    work: Work,
    claim: Claim,
    kind: JobEventType,
    *,
    message: str | None = None,
    data: dict[str, Any] | None = None,
    progress_update: ProgressUpdate | None = None,
) -> Row[Any] | None:
    """Write one event, and how far the job moved with it where that is given. None when the claim is held no longer."""
    time_left = (
        None
        if progress_update is None or progress_update.seconds_left is None
        else timedelta(seconds=min(progress_update.seconds_left, MAX_ESTIMATE))
    )
    values = {
        "the_type": kind,
        "the_message": message,
        "the_data": data,
        "the_progress": None if progress_update is None else progress_update.progress,
        "the_step": None if progress_update is None else progress_update.step,
        "has_moved": progress_update is not None,
        "the_time_left": time_left,
    }
    row = await work.first(_APPEND, {**claim.parameters(), **values})
    if row is not None:
        work.notify(Notice(row.id, row.last_sequence))
    return row


async def count_logs(database: Database, job_id: UUID) -> int:
    """How many LOG events the job has, of all its attempts."""
    (row,) = await database.rows(select(func.count()).where(JobEvent.job_id == job_id, JobEvent.type == JobEventType.LOG))
    return row[0]
