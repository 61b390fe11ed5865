"""One step of a job's life as one statement: compare, set, and write the event, made from the table of `db.tables.jobstates`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import CTE, ColumnElement, Executable, Interval, Row, func, insert, literal, null, select, update
from sqlalchemy.dialects.postgresql import JSONB

from db.core.work import Notice, Work
from db.tables import Job, JobEvent
from db.tables.jobs import JobEventType
from db.tables.jobstates import TERMINAL, JobStatus, allowed_before


@dataclass(frozen=True, slots=True)
class Claim:
    """The fence: what a worker must still hold to change a job. Everything an attempt writes passes through it."""

    job_id: UUID
    attempt: int
    worker_id: UUID

    def conditions(self) -> tuple[ColumnElement[bool], ...]:
        return Job.id == self.job_id, Job.attempt == self.attempt, Job.worker_id == self.worker_id


@dataclass(frozen=True, slots=True)
class Says:
    """What the event of a step tells people."""

    type: JobEventType
    message: str | None = None
    data: dict[str, Any] | None = None


def clock() -> ColumnElement[Any]:
    """The database's clock at this statement; `now()` would be the time at which the transaction began."""
    return func.clock_timestamp()


def seconds(value: float) -> ColumnElement[timedelta]:
    """An interval."""
    return literal(timedelta(seconds=value), Interval())


def statement(
    after: JobStatus, by: str, says: Says, *conditions: ColumnElement[bool], also: Callable[[CTE], CTE] | None = None, **values: Any
) -> Executable:
    """Take every job that `conditions` choose to `after`, if the table lets `by` do so; the rows that went, all columns.

    `also` makes a further change of the rows that went, in the same statement.
    A job that is not among them was taken by someone else, or is not in a state from which the step leads.
    """
    changes: dict[str, Any] = {**_defaults(after), **values}
    change = update(Job).where(Job.status.in_(allowed_before(after, by)), *conditions)
    moved = change.values(status=after, last_sequence=Job.last_sequence + 1, **changes).returning(*Job.__table__.c).cte("moved")
    further = () if also is None else (also(moved),)
    return select(*moved.c).add_cte(event(moved, says), *further)


def event(moved: CTE, says: Says) -> CTE:
    """The insert, as a CTE, of one event for each row of `moved`, which has taken the next sequence already."""
    columns = ("job_id", "sequence", "attempt", "type", "status", "progress", "step", "message", "data")
    told = select(
        moved.c.id,
        moved.c.last_sequence,
        moved.c.attempt,
        literal(says.type, JobEvent.__table__.c.type.type),
        moved.c.status,
        moved.c.progress,
        moved.c.current_step,
        literal(says.message, JobEvent.__table__.c.message.type),
        null() if says.data is None else literal(says.data, JSONB),
    )
    return insert(JobEvent).from_select(columns, told).cte("told")


def _defaults(after: JobStatus) -> dict[str, Any]:
    if after is JobStatus.PENDING:
        return {"lease_until": None, "worker_id": None, "dispatched_at": None, "progress": 0, "current_step": None}
    if after is JobStatus.QUEUED:
        return {"queued_at": func.coalesce(Job.queued_at, clock())}
    if after is JobStatus.COMPLETED:
        return {"lease_until": None, "completed_at": clock(), "progress": 100, "current_step": None}
    if after in TERMINAL:
        return {"lease_until": None, "completed_at": clock()}
    return {}


async def move(work: Work, after: JobStatus, by: str, says: Says, *conditions: ColumnElement[bool], **values: Any) -> Sequence[Row[Any]]:
    """Run the step and announce each job that went; a job that waits again rings its queue."""
    rows = await work.all(statement(after, by, says, *conditions, **values))
    for row in rows:
        announce(work, row)
    return rows


async def move_one(work: Work, after: JobStatus, by: str, says: Says, *conditions: ColumnElement[bool], **values: Any) -> Row[Any] | None:
    """The same for a condition that names one job; None when it did not go."""
    rows = await move(work, after, by, says, *conditions, **values)
    return rows[0] if rows else None


def announce(work: Work, row: Row[Any]) -> None:
    """Tell the streams; and the workers, where there is something for them: work, or a job of theirs to stop."""
    ring = None
    if row.status is JobStatus.PENDING:
        ring = row.queue
    elif row.status is JobStatus.CANCELLING:
        ring = str(row.worker_id)
    work.notify(Notice(row.id, row.last_sequence, ring))
