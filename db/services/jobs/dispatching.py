"""Which waiting jobs to ring for, and in which order. Any number of workers do this at once; there is no leader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import CTE, Text, any_, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import ARRAY

from db.core.work import Work
from db.queries import line
from db.services.jobs.transitions import Says, clock, move, seconds
from db.tables import Job, Worker
from db.tables.jobs import JobEventType
from db.tables.jobstates import ACTIVE, WAITING, JobStatus

AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Ring:
    """An invitation to be sent after the commit."""

    queue: str
    job_id: UUID
    dispatch_no: int


async def dispatch(work: Work, queues: Sequence[str], rung_before: float) -> list[Ring]:
    """The invitations that are due in these queues: jobs never rung for, or rung for more than `rung_before` seconds ago.

    About twice as many are outstanding in a queue as its workers have free slots, so that the order is decided here and not in Redis.
    """
    placed = line.in_order(Job.queue.in_(queues))
    rooms = _rooms(queues)
    unheard = or_(Job.dispatched_at.is_(None), Job.dispatched_at <= clock() - seconds(rung_before))
    free = (
        select(Job.id, Job.status)
        .join(placed, placed.c.id == Job.id)
        .join(rooms, rooms.c.queue == placed.c.queue)
        .where(placed.c.position <= rooms.c.room, Job.status.in_(WAITING), unheard)
        .order_by(placed.c.position, placed.c.queue)
        .limit(AT_ONCE)
        .with_for_update(of=Job, skip_locked=True)
    )
    found = await work.all(free)
    rung = {"dispatch_no": Job.dispatch_no + 1, "dispatched_at": clock()}
    fresh = [row.id for row in found if row.status is JobStatus.PENDING]
    rings: dict[UUID, Ring] = {}
    if fresh:
        for row in await move(work, JobStatus.QUEUED, "dispatch", Says(JobEventType.QUEUED), Job.id.in_(fresh), **rung):
            rings[row.id] = Ring(row.queue, row.id, row.dispatch_no)
    again = [row.id for row in found if row.status is JobStatus.QUEUED]
    if again:
        still = update(Job).where(Job.id.in_(again), Job.status == JobStatus.QUEUED).values(rung)
        for row in await work.all(still.returning(Job.id, Job.queue, Job.dispatch_no)):
            rings[row.id] = Ring(row.queue, row.id, row.dispatch_no)
    return list(rings.values())


def _rooms(queues: Sequence[str]) -> CTE:
    """Twice the free slots of the live workers that serve each of the queues; counted once, however many jobs wait."""
    served = select(func.unnest(literal(list(queues), ARRAY(Text))).label("queue")).subquery("served")
    serving = select(func.coalesce(func.sum(Worker.slots), 0)).where(line.live(), served.c.queue == any_(Worker.queues))
    busy = (
        select(func.count())
        .select_from(Job)
        .join(Worker, Worker.id == Job.worker_id)
        .where(Job.status.in_(ACTIVE), served.c.queue == any_(Worker.queues))
    )
    room = 2 * func.greatest(serving.scalar_subquery() - busy.scalar_subquery(), 0)
    return select(served.c.queue, room.label("room")).cte("rooms").prefix_with("MATERIALIZED", dialect="postgresql")
