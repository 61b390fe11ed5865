"""Events without a change of status: progress, steps, logs. Each takes the job's next sequence; only the attempt that holds the job writes them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Boolean, Row, SmallInteger, Text, bindparam, case, func, select, update

from db.core.work import Database, Notice, Work
from db.services.jobs.transitions import IS_HELD, Claim, clock, insert_event, interval
from db.tables import Job, JobEvent
from db.tables.jobs import JobEventType
from db.tables.jobstates import ACTIVE, JobStatus

MAX_ESTIMATE = 366 * 86_400.0  # seconds; a longer estimate says nothing


@dataclass(frozen=True, slots=True)
class ProgressUpdate:
    """Progress in percent, the current step, and the estimated remaining time in seconds, if known."""

    progress: int
    step: str | None
    seconds_left: float | None


# A job that is being cancelled has no estimate.
_HAS_ESTIMATE = bindparam("p_has_progress", type_=Boolean()) & (Job.status == JobStatus.RUNNING)
_UPDATED_JOB = (
    update(Job)
    .where(Job.status.in_(ACTIVE), IS_HELD)
    .values(
        last_sequence=Job.last_sequence + 1,
        progress=func.coalesce(bindparam("p_progress", type_=SmallInteger()), Job.progress),
        current_step=func.coalesce(bindparam("p_step", type_=Text()), Job.current_step),
        estimated_completed_at=case((_HAS_ESTIMATE, clock() + interval("p_time_left")), else_=Job.estimated_completed_at),
    )
    .returning(*Job.__table__.c)
    .cte("updated_job")
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
    step: str | None = None,
) -> Row[Any] | None:
    """Write one event, with the job's progress if given. Return the job's id, last sequence and status; None if the claim is lost.

    `step` is what the event is about, if that is not what the job does now: events are written later than their cause.
    """
    time_left = (
        None
        if progress_update is None or progress_update.seconds_left is None
        else timedelta(seconds=min(progress_update.seconds_left, MAX_ESTIMATE))
    )
    values = {
        "p_type": kind,
        "p_message": message,
        "p_data": data,
        "p_event_step": step,
        "p_progress": None if progress_update is None else progress_update.progress,
        "p_step": None if progress_update is None else progress_update.step,
        "p_has_progress": progress_update is not None,
        "p_time_left": time_left,
    }
    row = await work.first(_APPEND, {**claim.parameters(), **values})
    if row is not None:
        work.notify(Notice(row.id, row.last_sequence))
    return row


async def count_logs(database: Database, job_id: UUID) -> int:
    """Count the job's LOG events of all attempts."""
    (row,) = await database.rows(select(func.count()).where(JobEvent.job_id == job_id, JobEvent.type == JobEventType.LOG))
    return row[0]
