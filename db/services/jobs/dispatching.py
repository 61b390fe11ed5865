"""Which waiting jobs to ring for, and in which order. Any number of workers do this at once; there is no leader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import CTE, Select, Text, any_, bindparam, func, or_, select, update
from sqlalchemy.dialects.postgresql import ARRAY

from db.core.work import Database, Work
from db.queries import line
from db.services.jobs.transitions import THE_JOBS, Step, clock, interval
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


def _rooms() -> CTE:
    """Twice the free slots of the live workers that serve each of the queues; counted once, however many jobs wait.

    Each worker's are counted by themselves: the jobs that a dead one has left behind take no slot of the living.
    """
    served = select(func.unnest(bindparam("the_queues", type_=ARRAY(Text))).label("queue")).subquery("served")
    busy = select(Job.worker_id, func.count().label("running")).where(line.among(ACTIVE)).group_by(Job.worker_id).subquery("busy")
    free = func.greatest(Worker.slots - func.coalesce(busy.c.running, 0), 0)
    serving = select(func.coalesce(func.sum(free), 0)).select_from(Worker).outerjoin(busy, busy.c.worker_id == Worker.id)
    room = 2 * serving.where(line.live(), served.c.queue == any_(Worker.queues)).scalar_subquery()
    return select(served.c.queue, room.label("room")).cte("rooms").prefix_with("MATERIALIZED", dialect="postgresql")


def _due() -> Select[UUID, JobStatus]:
    rooms = _rooms()
    most = select(func.max(rooms.c.room)).scalar_subquery()
    placed = line.in_order(Job.queue == any_(bindparam("the_queues", type_=ARRAY(Text))), first=most)
    unheard = or_(Job.dispatched_at.is_(None), Job.dispatched_at <= clock() - interval("the_patience"))
    return (
        select(Job.id, Job.status)
        .join(placed, placed.c.id == Job.id)
        .join(rooms, rooms.c.queue == placed.c.queue)
        .where(placed.c.position <= rooms.c.room, ~placed.c.held, line.among(WAITING), unheard)
        .order_by(*line.by_turns(placed))
        .limit(AT_ONCE)
        .with_for_update(of=Job, skip_locked=True)
    )


_DUE = _due()
_RUNG: dict[str, Any] = {"dispatch_no": Job.dispatch_no + 1, "dispatched_at": clock()}
_FIRST = Step(JobStatus.QUEUED, "dispatch", JobEventType.QUEUED, THE_JOBS, **_RUNG)
_AGAIN = update(Job).where(THE_JOBS, Job.status == JobStatus.QUEUED).values(_RUNG).returning(Job.id, Job.queue, Job.dispatch_no)

_INVITED = select(Job.id, Job.dispatch_no).where(THE_JOBS, line.among(WAITING))


async def invited(database: Database, job_ids: Sequence[UUID]) -> set[tuple[UUID, int]]:
    """Those of the jobs that wait, each with the number of its latest dispatch: every other invitation is void."""
    return {(row.id, row.dispatch_no) for row in await database.rows(_INVITED, {"the_jobs": list(job_ids)})}


async def dispatch(work: Work, queues: Sequence[str], rung_before: float) -> list[Ring]:
    """The invitations that are due in these queues: jobs never rung for, or rung for more than `rung_before` seconds ago.

    Those that a cap holds back are passed over. About twice as many are outstanding in a queue as its workers have free slots, so that
    the order is decided here and not in Redis.
    """
    found = await work.all(_DUE, {"the_queues": list(queues), "the_patience": timedelta(seconds=rung_before)})
    rings: list[Ring] = []
    fresh = [row.id for row in found if row.status is JobStatus.PENDING]
    if fresh:
        rings += [Ring(row.queue, row.id, row.dispatch_no) for row in await _FIRST.take(work, the_jobs=fresh)]
    again = [row.id for row in found if row.status is JobStatus.QUEUED]
    if again:
        rings += [Ring(row.queue, row.id, row.dispatch_no) for row in await work.all(_AGAIN, {"the_jobs": again})]
    place = {row.id: position for position, row in enumerate(found)}
    return sorted(rings, key=lambda ring: place[ring.job_id])
