"""One step of a job's life as one statement: compare, set, and write the event, made from the table of `db.tables.jobstates`.

Statements are made once and run with parameters: building them costs more than Postgres takes to run them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import CTE, ColumnElement, Interval, Row, Text, Uuid, any_, bindparam, func, insert, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from db.core.work import Notice, Work
from db.tables import Job, JobEvent
from db.tables.jobs import JobEventType
from db.tables.jobstates import ACTIVE, TERMINAL, JobStatus, allowed_before

# What workers are told, besides the name of a queue that has work and the id of a worker that has something to stop.
REQUEUED_PREFIX = "back:"  # a job that ran waits again in this queue
CANCELLED_PREFIX = "cancelled:"  # nobody is to be invited to this job of this queue any more
ENDED = "ended"  # a job runs no more, so that another may under the caps


@dataclass(frozen=True, slots=True)
class Claim:
    """The fence: what a worker must still hold to change a job. Everything an attempt writes passes through it."""

    job_id: UUID
    attempt: int
    worker_id: UUID

    def parameters(self) -> dict[str, Any]:
        """For statements with the condition `HELD`."""
        return {"the_job": self.job_id, "the_attempt": self.attempt, "the_worker": self.worker_id}


def clock() -> ColumnElement[Any]:
    """The database's clock at this statement; `now()` would be the time at which the transaction began."""
    return func.clock_timestamp()


def interval(name: str) -> ColumnElement[timedelta]:
    """A parameter that is a duration; give it `timedelta`s."""
    return bindparam(name, type_=Interval())


THE_JOB = Job.id == bindparam("the_job", type_=Uuid())
THE_JOBS = Job.id == any_(bindparam("the_jobs", type_=ARRAY(Uuid)))
HELD = THE_JOB & (Job.attempt == bindparam("the_attempt")) & (Job.worker_id == bindparam("the_worker", type_=Uuid()))

_LOCK_IF_HELD = select(Job.id).where(HELD, Job.status.in_(ACTIVE)).with_for_update(key_share=True)


async def lock_if_held(work: Work, claim: Claim) -> bool:
    """Lock the job's row if the claim still holds: until the commit, no settle and no other claim passes."""
    return await work.first(_LOCK_IF_HELD, claim.parameters()) is not None


class TransitionStatement:
    """A step of the table: takes every job that `conditions` choose to `after`, if the table lets `by` do so.

    A job that does not go was taken by someone else, or is not in a state from which the step leads. `also` makes further changes for
    the jobs that went, in the same statement. Parameters in conditions and values are named, and given to `take`.
    """

    def __init__(
        self,
        after: JobStatus,
        operation: str,
        event_type: JobEventType,
        *conditions: ColumnElement[bool],
        extra_changes: Callable[[CTE], Sequence[CTE]] | None = None,
        **values: Any,
    ) -> None:
        changes: dict[str, Any] = {"status": after, "last_sequence": Job.last_sequence + 1, **_default_values(after), **values}
        change = update(Job).where(Job.status.in_(allowed_before(after, operation)), *conditions).values(changes)
        moved = change.returning(*Job.__table__.c).cte("moved")
        extra_ctes = () if extra_changes is None else extra_changes(moved)
        self._statement = select(*moved.c).add_cte(insert_event(moved, event_type), *extra_ctes)

    async def apply(
        self, work: Work, *, message: str | None = None, data: dict[str, Any] | None = None, **parameters: Any
    ) -> Sequence[Row[Any]]:
        """The rows that went, all columns; each is announced, and one that waits again rings its queue."""
        rows = await work.all(self._statement, {"the_message": message, "the_data": data, **parameters})
        for row in rows:
            notify_change(work, row)
        return rows

    async def apply_one(
        self, work: Work, *, message: str | None = None, data: dict[str, Any] | None = None, **parameters: Any
    ) -> Row[Any] | None:
        """The same where the conditions name one job; None when it did not go."""
        rows = await self.apply(work, message=message, data=data, **parameters)
        return rows[0] if rows else None


def insert_event(moved: CTE, event_type: JobEventType | None = None) -> CTE:
    """The insert of one event for each row of `moved`, which has taken the next sequence already; without `says`, its type is a parameter too."""
    columns = ("job_id", "sequence", "attempt", "type", "status", "progress", "step", "message", "data")
    event_types = JobEvent.__table__.c.type.type
    event_row = select(
        moved.c.id,
        moved.c.last_sequence,
        moved.c.attempt,
        bindparam("the_type", type_=event_types) if event_type is None else literal(event_type, event_types),
        moved.c.status,
        moved.c.progress,
        moved.c.current_step,
        bindparam("the_message", type_=Text()),
        bindparam("the_data", type_=JSONB(none_as_null=True)),
    )
    return insert(JobEvent).from_select(columns, event_row).cte("told")


def _default_values(after: JobStatus) -> dict[str, Any]:
    if after is JobStatus.PENDING:
        values = {"lease_until": None, "worker_id": None, "dispatched_at": None, "progress": 0, "current_step": None}
        return {**values, "estimated_completed_at": None, "waiting_since": clock(), "postponements": 0}
    if after is JobStatus.QUEUED:
        return {"queued_at": func.coalesce(Job.queued_at, clock())}
    if after is JobStatus.COMPLETED:
        cleared = {"lease_until": None, "completed_at": clock(), "progress": 100, "current_step": None}
        return {**cleared, "estimated_completed_at": None, "error": None}
    if after in TERMINAL:
        # What an earlier try said is not why a job was cancelled; one that FAILED is given its own.
        return {"lease_until": None, "completed_at": clock(), "estimated_completed_at": None, "error": None}
    return {"estimated_completed_at": None, "error": None}  # a job that waits to be tried again shows why, and one that runs nothing


def notify_change(work: Work, row: Row[Any]) -> None:
    """Tell the streams; and the workers, where there is something for them: work, a job of theirs to stop, or room under a cap."""
    dispatch = None
    if row.status is JobStatus.PENDING:
        dispatch = row.queue if row.attempt == 0 else f"{REQUEUED_PREFIX}{row.queue}"
    elif row.status is JobStatus.CANCELLING:
        dispatch = str(row.worker_id)
    elif row.status is JobStatus.CANCELLED:
        dispatch = f"{CANCELLED_PREFIX}{row.queue}:{row.id.hex}"
    elif row.status in TERMINAL:
        dispatch = ENDED
    work.notify(Notice(row.id, row.last_sequence, dispatch))
