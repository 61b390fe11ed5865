"""A worker takes a job: the row says whose it is, the lease says for how long."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, func, or_, select

from db.core.work import Work
from db.queries import line
from db.services.jobs import attempts
from db.services.jobs.transitions import Says, clock, move_one, seconds
from db.tables import Job
from db.tables.jobs import JobEventType
from db.tables.jobstates import WAITING, JobStatus


async def claim(work: Work, job_id: UUID, worker_id: UUID, worker: str, lease: float) -> Row[Any] | None:
    """Take the job for `lease` seconds; None when there is nothing to take: run by another, ended, or not yet due."""
    due = or_(Job.run_after.is_(None), Job.run_after <= clock())
    return await _claim(work, worker_id, worker, lease, Job.id == job_id, due)


async def claim_waiting(
    work: Work, queues: Sequence[str], limit: int, worker_id: UUID, worker: str, lease: float, *, rung_before: float = 0.0
) -> list[Row[Any]]:
    """Take up to `limit` jobs without an invitation, in the order of the queues; for when Redis carries none.

    Jobs that were rung within the last `rung_before` seconds are left to whoever hears the bell.
    """
    queued = line.in_order(Job.queue.in_(queues))
    unheard = or_(Job.dispatched_at.is_(None), Job.dispatched_at <= clock() - seconds(rung_before))
    free = (
        select(Job.id)
        .join(queued, queued.c.id == Job.id)
        .where(Job.status.in_(WAITING), unheard)
        .order_by(queued.c.position, queued.c.queue)
        .limit(limit)
        .with_for_update(of=Job, skip_locked=True)
    )
    taken: list[Row[Any]] = []
    for row in await work.all(free):
        job = await _claim(work, worker_id, worker, lease, Job.id == row.id)
        if job is not None:
            taken.append(job)
    return taken


async def _claim(work: Work, worker_id: UUID, worker: str, lease: float, *conditions: ColumnElement[bool]) -> Row[Any] | None:
    job = await move_one(
        work,
        JobStatus.RUNNING,
        "claim",
        Says(JobEventType.STARTED, data={"worker": worker}),
        *conditions,
        also=partial(attempts.recorded, worker=worker),
        attempt=Job.attempt + 1,
        worker_id=worker_id,
        lease_until=clock() + seconds(lease),
        run_after=None,
        queued_at=func.coalesce(Job.queued_at, clock()),
        started_at=func.coalesce(Job.started_at, clock()),
    )
    if job is not None:
        await attempts.begin(work, job)
    return job
