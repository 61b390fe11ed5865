"""The reaper: take jobs with an expired lease from their workers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Row, Select, Text, bindparam, or_, select, update
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from db.core.work import Database, Work
from db.queries import scheduling
from db.queries.outbox import HAS_EVENTS, HAS_WEBHOOKS
from db.services.jobs import attempts, uptime
from db.services.jobs.settling import Failure
from db.services.jobs.transitions import JOBS_BY_ID, TransitionStatement, clock, interval
from db.tables import Job, Worker
from db.tables.jobs import JobEventType
from db.tables.jobstates import ACTIVE, JobStatus

log: structlog.stdlib.BoundLogger = structlog.get_logger()

BATCH_SIZE = 100

WORKER_LOST = Failure(
    "WORKER_LOST",
    "The workers that ran the job stopped answering too many times. Retry the job; if it is lost again, it may be too large for the workers.",
    retryable=True,
)


def _poll_statement() -> Select[bool, bool, bool]:
    needs_dispatch = or_(Job.dispatched_at.is_(None), Job.dispatched_at <= clock() - interval("p_redispatch_after"))
    has_waiting = (
        select(Job.id).where(scheduling.due(), scheduling.waits_in(bindparam("p_queues", type_=ARRAY(Text))), needs_dispatch).exists()
    )
    has_expired = select(Job.id).where(scheduling.in_states(ACTIVE), Job.lease_until < clock()).exists()
    has_outbox = or_(HAS_EVENTS, HAS_WEBHOOKS)
    return select(has_waiting.label("has_waiting"), has_expired.label("has_expired"), has_outbox.label("has_outbox"))


def _expired_leases() -> Select[UUID]:
    """None within one lease of PostgreSQL's start: live workers could not renew their leases while it was down."""
    is_past_grace = clock() > uptime.started_at() + interval("p_lease")
    statement = select(Job.id).where(scheduling.in_states(ACTIVE), Job.lease_until < clock(), is_past_grace)
    return statement.order_by(Job.lease_until).limit(BATCH_SIZE).with_for_update(skip_locked=True)


_POLL = _poll_statement()
_RECORD_START = uptime.record_start()
_EXPIRED_LEASES = _expired_leases()
_LEASE_EXPIRED = JOBS_BY_ID & (Job.lease_until < clock())
_COUNT_LOSS: dict[str, Any] = {"losses": Job.losses + 1}
_CANCEL_EXPIRED = TransitionStatement(JobStatus.CANCELLED, "settle", JobEventType.CANCELLED, _LEASE_EXPIRED)
_FAIL_EXPIRED = TransitionStatement(
    JobStatus.FAILED,
    "settle",
    JobEventType.FAILED,
    _LEASE_EXPIRED,
    Job.losses + 1 >= bindparam("p_max_losses"),
    error=bindparam("p_error", type_=JSONB),
    **_COUNT_LOSS,
)
_REQUEUE_EXPIRED = TransitionStatement(JobStatus.PENDING, "give back", JobEventType.RETRYING, _LEASE_EXPIRED, run_after=None, **_COUNT_LOSS)


async def poll(database: Database, queues: Sequence[str], redispatch_after: float) -> Row[Any]:
    """Whether there is a job to dispatch in these queues (`has_waiting`), an expired lease (`has_expired`), and something to tell or to send
    (`has_outbox`). Runs every second: one statement for all that a worker looks for.
    """
    parameters = {"p_queues": list(queues), "p_redispatch_after": timedelta(seconds=redispatch_after)}
    (row,) = await database.rows(_POLL, parameters)
    return row


async def reap(work: Work, lease: float, max_losses: int) -> list[UUID]:
    """Take up to 100 jobs with an expired lease from their workers; return their ids."""
    await work.run(_RECORD_START)
    job_ids = [row.id for row in await work.all(_EXPIRED_LEASES, {"p_lease": timedelta(seconds=lease)})]
    if not job_ids:
        return []
    try:
        async with work.savepoint():
            return await _reap(work, job_ids, max_losses)
    except Exception as error:  # noqa: BLE001 - one job's error must not stop the others; formatting a traceback would prolong the transaction
        log.warning("batch_not_reaped", count=len(job_ids), error=repr(error))
    reaped: list[UUID] = []
    for job_id in job_ids:
        try:
            async with work.savepoint():
                reaped += await _reap(work, [job_id], max_losses)
        except Exception as error:  # noqa: BLE001 - as above
            log.warning("job_not_reaped", job=str(job_id), error=repr(error))
    return reaped


async def _reap(work: Work, job_ids: Sequence[UUID], max_losses: int) -> list[UUID]:
    message = "The worker stopped answering while the job was being cancelled."
    reaped = [*await _CANCEL_EXPIRED.apply(work, message=message, p_job_ids=job_ids)]
    error = WORKER_LOST.to_dict()
    data = {"error": {"code": WORKER_LOST.code, "message": WORKER_LOST.message}}
    reaped += await _FAIL_EXPIRED.apply(
        work, message=WORKER_LOST.message, data=data, p_job_ids=job_ids, p_max_losses=max_losses, p_error=error
    )
    message = "The worker stopped answering; the job starts again on another."
    reaped += await _REQUEUE_EXPIRED.apply(work, message=message, data={"reason": "lost"}, p_job_ids=job_ids)
    for job in reaped:
        await attempts.end(work, job, "cancelled" if job.status is JobStatus.CANCELLED else "lost")
    return [job.id for job in reaped]


async def retire_silent_workers(work: Work, silence: float) -> int:
    """Mark workers without a heartbeat for `silence` seconds as stopped; the next heartbeat of one that was only frozen undoes it."""
    statement = update(Worker).where(Worker.stopped_at.is_(None), Worker.heartbeat_at < clock() - timedelta(seconds=silence))
    return await work.run(statement.values(stopped_at=Worker.heartbeat_at))
