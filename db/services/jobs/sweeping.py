"""Jobs whose worker went silent: what the lease left behind goes where the table of states says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, String, column, func, select, table, update

from db.core.work import Database, Work
from db.queries import line
from db.services.jobs import attempts
from db.services.jobs.settling import Failure
from db.services.jobs.transitions import Says, clock, move, seconds
from db.tables import Job, Worker
from db.tables.jobs import JobEventType
from db.tables.jobstates import ACTIVE, JobStatus

AT_ONCE = 100

_LOST = Failure(
    "WORKER_LOST",
    "The workers that ran the job stopped answering too many times. Retry the job; if it is lost again, it may be too large for the workers.",
    retryable=True,
)


async def look(database: Database, queues: Sequence[str], rung_before: float) -> tuple[bool, bool]:
    """One statement a second: is there a job to ring for in these queues, and is there a lease that ran out?"""
    unheard = Job.dispatched_at.is_(None) | (Job.dispatched_at <= clock() - seconds(rung_before))
    waits = select(Job.id).where(line.due(), Job.queue.in_(queues), unheard).exists()
    expired = select(Job.id).where(Job.status.in_(ACTIVE), Job.lease_until < clock()).exists()
    row = (await database.rows(select(waits.label("waits"), expired.label("expired"))))[0]
    return row.waits, row.expired


async def sweep(work: Work, lease: float, max_losses: int) -> list[UUID]:
    """Take up to 100 jobs with an expired lease from their workers; the jobs that went.

    Not within one lease of Postgres's own start: until then the living may just have been unable to say so. A crash of one backend
    restarts the checkpointer but not the postmaster, so both are asked (the first only where the role may see it).
    """
    activity = table("pg_stat_activity", column("backend_type", String), column("backend_start"))
    recovered = select(func.max(activity.c.backend_start)).where(activity.c.backend_type == "checkpointer").scalar_subquery()
    started = func.greatest(func.pg_postmaster_start_time(), recovered)
    expired = (
        select(Job.id)
        .where(Job.status.in_(ACTIVE), Job.lease_until < clock(), clock() > started + seconds(lease))
        .order_by(Job.lease_until)
        .limit(AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    ids = [row.id for row in await work.all(expired)]
    if not ids:
        return []
    silent = (Job.id.in_(ids), Job.lease_until < clock())
    gone: list[Row[Any]] = []
    says = Says(JobEventType.CANCELLED, "The worker stopped answering while the job was being cancelled.")
    gone += await move(work, JobStatus.CANCELLED, "settle", says, *silent)
    says = Says(JobEventType.FAILED, _LOST.message, {"error": {"code": _LOST.code, "message": _LOST.message}})
    often = Job.losses + 1 >= max_losses
    gone += await move(work, JobStatus.FAILED, "settle", says, *silent, often, losses=Job.losses + 1, error=_LOST.document())
    says = Says(JobEventType.RETRYING, "The worker stopped answering; the job starts again on another.", {"reason": "lost"})
    gone += await move(work, JobStatus.PENDING, "give back", says, *silent, losses=Job.losses + 1, run_after=None)
    for job in gone:
        await attempts.end(work, job, "cancelled" if job.status is JobStatus.CANCELLED else "lost")
    return [job.id for job in gone]


async def retire_silent_workers(work: Work, silence: float) -> int:
    """Workers without a heartbeat for `silence` seconds count as stopped; one that was only frozen comes back with its next."""
    silent = update(Worker).where(Worker.stopped_at.is_(None), Worker.heartbeat_at < clock() - seconds(silence))
    return await work.run(silent.values(stopped_at=Worker.heartbeat_at))
