"""Transitions of jobs: each is one compare-and-set statement that also writes the event, built from the table in `db.tables.jobstates`.

Statements are built once and run with parameters: building one takes longer than PostgreSQL takes to run it. Parameters are named `p_…`,
because SQLAlchemy takes a parameter that has a column's name for a value of SET or VALUES.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import CTE, ColumnElement, Interval, Row, Text, Uuid, any_, bindparam, func, insert, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from db.core.queues import route_of
from db.core.sql import Rows
from db.core.work import Notice, Work
from db.tables import Job, JobEvent
from db.tables.jobs import JobEventType
from db.tables.jobstates import ACTIVE, TERMINAL, JobStatus, allowed_before

# Values of `Notice.dispatch`, besides the name of a route that has work and the id of a worker that has to cancel a job.
REQUEUED_PREFIX = "back:"  # followed by a route: a job that ran waits in it again
CANCELLED_PREFIX = "cancelled:"  # followed by route and job id: its dispatch notice is obsolete
ENDED = "ended"  # a running job has ended, so the concurrency limits may allow another


@dataclass(frozen=True, slots=True)
class Claim:
    """The fence: job, attempt and worker must still match for an attempt to write anything."""

    job_id: UUID
    attempt: int
    worker_id: UUID

    def parameters(self) -> dict[str, Any]:
        """Parameters of the condition `IS_HELD`."""
        return {"p_job_id": self.job_id, "p_attempt": self.attempt, "p_worker_id": self.worker_id}


def clock() -> ColumnElement[Any]:
    """The database's clock; `now()` would be the start of the transaction."""
    return func.clock_timestamp()


def interval(name: str) -> ColumnElement[timedelta]:
    """A parameter of type interval, which takes a `timedelta`."""
    return bindparam(name, type_=Interval())


JOB_BY_ID = Job.id == bindparam("p_job_id", type_=Uuid())
JOBS_BY_ID = Job.id == any_(bindparam("p_job_ids", type_=ARRAY(Uuid)))
IS_HELD = JOB_BY_ID & (Job.attempt == bindparam("p_attempt")) & (Job.worker_id == bindparam("p_worker_id", type_=Uuid()))

_LOCK_IF_HELD = select(Job.id).where(IS_HELD, Job.status.in_(ACTIVE)).with_for_update(key_share=True)


async def lock_if_held(work: Work, claim: Claim) -> bool:
    """Lock the job's row if the claim is still held; no settle and no other claim can pass until the transaction ends."""
    return await work.first(_LOCK_IF_HELD, claim.parameters()) is not None


class TransitionStatement:
    """Move the jobs that meet `conditions` to the status `after`, from the states that the table allows for `operation`.

    A job that does not move is held by someone else or in another state. `extra_changes` adds CTEs that change other rows for the jobs
    that moved, in the same statement. Parameters in conditions and values are given to `apply` by name.
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
        before = allowed_before(after, operation)

        @cache
        def statement() -> Rows:
            """Made when it is first applied: all of them took a fiftieth of a start."""
            changes: dict[str, Any] = {"status": after, "last_sequence": Job.last_sequence + 1, **_default_values(after), **values}
            change = update(Job).where(Job.status.in_(before), *conditions).values(changes)
            moved = change.returning(*Job.__table__.c).cte("changed_jobs")
            extra_ctes = () if extra_changes is None else extra_changes(moved)
            return select(*moved.c).add_cte(insert_event(moved, event_type), *extra_ctes)

        self._statement = statement

    async def apply(
        self, work: Work, *, message: str | None = None, data: dict[str, Any] | None = None, **parameters: Any
    ) -> Sequence[Row[Any]]:
        """Return the changed rows with all columns. Streams and workers are notified of each after the commit."""
        rows = await work.all(self._statement(), {"p_message": message, "p_data": data, **parameters})
        for row in rows:
            notify_change(work, row)
        return rows

    async def apply_one(
        self, work: Work, *, message: str | None = None, data: dict[str, Any] | None = None, **parameters: Any
    ) -> Row[Any] | None:
        """The same for conditions that name one job; None if it did not change."""
        rows = await self.apply(work, message=message, data=data, **parameters)
        return rows[0] if rows else None


def insert_event(moved: CTE, event_type: JobEventType | None = None) -> CTE:
    """Insert one event for each row of `moved`, which has taken the next sequence already. Without `event_type`, the type is a parameter.

    The event's step is the job's current one unless `p_event_step` is given.
    """
    columns = ("job_id", "sequence", "attempt", "type", "status", "progress", "step", "message", "data")
    event_types = JobEvent.__table__.c.type.type
    event_row = select(
        moved.c.id,
        moved.c.last_sequence,
        moved.c.attempt,
        bindparam("p_type", type_=event_types) if event_type is None else literal(event_type, event_types),
        moved.c.status,
        moved.c.progress,
        func.coalesce(bindparam("p_event_step", None, type_=Text()), moved.c.current_step),
        bindparam("p_message", type_=Text()),
        bindparam("p_data", type_=JSONB(none_as_null=True)),
    )
    return insert(JobEvent).from_select(columns, event_row).cte("inserted_events")


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
        # The error of an earlier try is not why a job was cancelled; a transition to FAILED sets its own.
        return {"lease_until": None, "completed_at": clock(), "estimated_completed_at": None, "error": None}
    return {"estimated_completed_at": None, "error": None}  # only a job that waits for a retry shows the last error


def notify_change(work: Work, row: Row[Any]) -> None:
    """Notify streams and, if needed, workers: of work, of a job to cancel, or of a free place under a concurrency limit."""
    dispatch = None
    if row.status is JobStatus.PENDING:
        dispatch = route_of(row) if row.attempt == 0 else f"{REQUEUED_PREFIX}{route_of(row)}"
    elif row.status is JobStatus.CANCELLING:
        dispatch = str(row.worker_id)
    elif row.status is JobStatus.CANCELLED:
        dispatch = f"{CANCELLED_PREFIX}{route_of(row)}:{row.id.hex}"
    elif row.status in TERMINAL:
        dispatch = ENDED
    work.notify(Notice(row.id, row.last_sequence, dispatch))
