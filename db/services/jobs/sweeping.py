"""Jobs whose worker went silent: what the lease left behind goes where the table of states says."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Select, Text, any_, bindparam, or_, select, update
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from db.core.work import Database, Work
from db.queries import line
from db.services.jobs import attempts, uptime
from db.services.jobs.settling import Failure
from db.services.jobs.transitions import THE_JOBS, Step, clock, interval
from db.tables import Job, Worker
from db.tables.jobs import JobEventType
from db.tables.jobstates import ACTIVE, JobStatus

log: structlog.stdlib.BoundLogger = structlog.get_logger()

AT_ONCE = 100

LOST = Failure(
    "WORKER_LOST",
    "The workers that ran the job stopped answering too many times. Retry the job; if it is lost again, it may be too large for the workers.",
    retryable=True,
)


def _looked() -> Select[bool, bool]:
    unheard = or_(Job.dispatched_at.is_(None), Job.dispatched_at <= clock() - interval("the_patience"))
    waits = select(Job.id).where(line.due(), Job.queue == any_(bindparam("the_queues", type_=ARRAY(Text))), unheard).exists()
    expired = select(Job.id).where(line.among(ACTIVE), Job.lease_until < clock()).exists()
    return select(waits.label("waits"), expired.label("expired"))


def _expired() -> Select[UUID]:
    """Not within one lease of Postgres's own start: until then the living may just have been unable to say so."""
    settled = clock() > uptime.started() + interval("the_lease")
    silent = select(Job.id).where(line.among(ACTIVE), Job.lease_until < clock(), settled)
    return silent.order_by(Job.lease_until).limit(AT_ONCE).with_for_update(skip_locked=True)


_LOOK = _looked()
_NOTED = uptime.noted()
_EXPIRED = _expired()
_SILENT = THE_JOBS & (Job.lease_until < clock())
_LOST_AGAIN: dict[str, Any] = {"losses": Job.losses + 1}
_STOPPED = Step(JobStatus.CANCELLED, "settle", JobEventType.CANCELLED, _SILENT)
_GIVEN_UP = Step(
    JobStatus.FAILED,
    "settle",
    JobEventType.FAILED,
    _SILENT,
    Job.losses + 1 >= bindparam("the_most"),
    error=bindparam("the_error", type_=JSONB),
    **_LOST_AGAIN,
)
_BACK = Step(JobStatus.PENDING, "give back", JobEventType.RETRYING, _SILENT, run_after=None, **_LOST_AGAIN)


async def look(database: Database, queues: Sequence[str], rung_before: float) -> tuple[bool, bool]:
    """One statement a second: is there a job to ring for in these queues, and is there a lease that ran out?"""
    parameters = {"the_queues": list(queues), "the_patience": timedelta(seconds=rung_before)}
    (row,) = await database.rows(_LOOK, parameters)
    return row.waits, row.expired


async def sweep(work: Work, lease: float, max_losses: int) -> list[UUID]:
    """Take up to 100 jobs with an expired lease from their workers; the jobs that went."""
    await work.run(_NOTED)
    ids = [row.id for row in await work.all(_EXPIRED, {"the_lease": timedelta(seconds=lease)})]
    if not ids:
        return []
    try:
        async with work.part():
            return await _swept(work, ids, max_losses)
    except Exception as error:  # noqa: BLE001 - one cannot be swept and must not keep the others, nor the transaction rest for a traceback
        log.warning("sweeping_one_by_one", count=len(ids), error=repr(error))
    gone: list[UUID] = []
    for job_id in ids:
        try:
            async with work.part():
                gone += await _swept(work, [job_id], max_losses)
        except Exception as error:  # noqa: BLE001 - as above
            log.warning("job_not_swept", job=str(job_id), error=repr(error))
    return gone


async def _swept(work: Work, ids: Sequence[UUID], max_losses: int) -> list[UUID]:
    message = "The worker stopped answering while the job was being cancelled."
    gone = [*await _STOPPED.take(work, message=message, the_jobs=ids)]
    error = LOST.document()
    data = {"error": {"code": LOST.code, "message": LOST.message}}
    gone += await _GIVEN_UP.take(work, message=LOST.message, data=data, the_jobs=ids, the_most=max_losses, the_error=error)
    message = "The worker stopped answering; the job starts again on another."
    gone += await _BACK.take(work, message=message, data={"reason": "lost"}, the_jobs=ids)
    for job in gone:
        await attempts.end(work, job, "cancelled" if job.status is JobStatus.CANCELLED else "lost")
    return [job.id for job in gone]


async def retire_silent_workers(work: Work, silence: float) -> int:
    """Workers without a heartbeat for `silence` seconds count as stopped; one that was only frozen comes back with its next."""
    silent = update(Worker).where(Worker.stopped_at.is_(None), Worker.heartbeat_at < clock() - timedelta(seconds=silence))
    return await work.run(silent.values(stopped_at=Worker.heartbeat_at))
