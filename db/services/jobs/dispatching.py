"""The dispatcher: select waiting jobs and number their dispatch notices. Every worker runs one; there is no leader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import CTE, Select, Text, Uuid, all_, any_, bindparam, func, or_, select, update
from sqlalchemy.dialects.postgresql import ARRAY

from db.core.queues import route_of
from db.core.work import Database, Work
from db.queries import scheduling
from db.services.jobs.transitions import JOBS_BY_ID, TransitionStatement, clock, interval
from db.tables import Job, Worker
from db.tables.jobs import JobEventType
from db.tables.jobstates import ACTIVE, WAITING, JobStatus

BATCH_SIZE = 50


@dataclass(frozen=True, slots=True)
class DispatchNotice:
    """A dispatch notice, to be sent after the commit to the workers that read the route."""

    queue: str
    job_id: UUID
    dispatch_no: int


def _capacities() -> CTE:
    """Twice the free slots of the live workers of each queue; computed once, however many jobs wait.

    Free slots are counted per worker, so jobs of a dead worker take no slot of a live one. Nor do running jobs in `p_without_slot`.
    """
    served = select(func.unnest(bindparam("p_queues", type_=ARRAY(Text))).label("queue")).subquery("served")
    holds_slot = Job.id != all_(bindparam("p_without_slot", type_=ARRAY(Uuid)))
    busy = (
        select(Job.worker_id, func.count().label("running"))
        .where(scheduling.in_states(ACTIVE), holds_slot)
        .group_by(Job.worker_id)
        .subquery("busy")
    )
    free = func.greatest(Worker.slots - func.coalesce(busy.c.running, 0), 0)
    free_slots = select(func.coalesce(func.sum(free), 0)).select_from(Worker).outerjoin(busy, busy.c.worker_id == Worker.id)
    capacity = 2 * free_slots.where(scheduling.is_live(), served.c.queue == any_(Worker.queues)).scalar_subquery()
    return select(served.c.queue, capacity.label("capacity")).cte("capacities").prefix_with("MATERIALIZED", dialect="postgresql")


def _due_jobs() -> Select[UUID, JobStatus]:
    capacities = _capacities()
    max_capacity = select(func.max(capacities.c.capacity)).scalar_subquery()
    placed = scheduling.scheduling_order(scheduling.waits_in(bindparam("p_queues", type_=ARRAY(Text))), max_position=max_capacity)
    needs_dispatch = or_(Job.dispatched_at.is_(None), Job.dispatched_at <= clock() - interval("p_redispatch_after"))
    return (
        select(Job.id, Job.status)
        .join(placed, placed.c.id == Job.id)
        .join(capacities, capacities.c.queue == placed.c.queue)
        .where(placed.c.position <= capacities.c.capacity, ~placed.c.is_held, scheduling.in_states(WAITING), needs_dispatch)
        .order_by(*scheduling.round_robin_order(placed))
        .limit(BATCH_SIZE)
        .with_for_update(of=Job, skip_locked=True)
    )


_DUE_JOBS = _due_jobs()
_DISPATCHED: dict[str, Any] = {"dispatch_no": Job.dispatch_no + 1, "dispatched_at": clock()}
_FIRST_DISPATCH = TransitionStatement(JobStatus.QUEUED, "dispatch", JobEventType.QUEUED, JOBS_BY_ID, **_DISPATCHED)
_REDISPATCH = (
    update(Job)
    .where(JOBS_BY_ID, Job.status == JobStatus.QUEUED)
    .values(_DISPATCHED)
    .returning(Job.id, Job.queue, Job.extras, Job.dispatch_no)
)

_CURRENT_DISPATCHES = select(Job.id, Job.dispatch_no).where(JOBS_BY_ID, scheduling.in_states(WAITING))


async def current_dispatches(database: Database, job_ids: Sequence[UUID]) -> set[tuple[UUID, int]]:
    """Return (id, dispatch number) of those jobs that wait. A dispatch notice with another number is obsolete."""
    return {(row.id, row.dispatch_no) for row in await database.rows(_CURRENT_DISPATCHES, {"p_job_ids": list(job_ids)})}


async def dispatch(work: Work, queues: Sequence[str], redispatch_after: float, without_slot: Sequence[UUID] = ()) -> list[DispatchNotice]:
    """Mark due jobs of these queues as dispatched and return their notices, in scheduling order.

    Selects jobs that were never dispatched, or last more than `redispatch_after` seconds ago, and skips those held back by a concurrency
    limit. A queue has at most about twice as many notices outstanding as its workers have free slots, so the order is decided here, not
    in Redis. Running jobs `without_slot`, which store their outputs, take none of their worker's.
    """
    values = {"p_queues": list(queues), "p_redispatch_after": timedelta(seconds=redispatch_after), "p_without_slot": list(without_slot)}
    rows = await work.all(_DUE_JOBS, values)
    notices: list[DispatchNotice] = []
    pending = [row.id for row in rows if row.status is JobStatus.PENDING]
    if pending:
        notices += [DispatchNotice(route_of(row), row.id, row.dispatch_no) for row in await _FIRST_DISPATCH.apply(work, p_job_ids=pending)]
    queued = [row.id for row in rows if row.status is JobStatus.QUEUED]
    if queued:
        notices += [DispatchNotice(route_of(row), row.id, row.dispatch_no) for row in await work.all(_REDISPATCH, {"p_job_ids": queued})]
    positions = {row.id: position for position, row in enumerate(rows)}
    return sorted(notices, key=lambda notice: positions[notice.job_id])
