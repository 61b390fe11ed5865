"""The heartbeat of a worker and of all jobs it holds, in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import CompoundSelect, Integer, Uuid, bindparam, false, func, select, true, update
from sqlalchemy.dialects.postgresql import ARRAY

from db.core.work import Database
from db.services.jobs import uptime
from db.services.jobs.transitions import Claim, clock, interval
from db.tables import Job, JobAttempt, Worker
from db.tables.jobstates import ACTIVE, JobStatus


class HeldJob(NamedTuple):
    """A job that this worker still holds: RUNNING, or CANCELLING if it is to be stopped. Not `is_renewed`: its row was locked, the lease is unchanged."""

    status: JobStatus
    is_renewed: bool


def _heartbeat_statement() -> CompoundSelect[Any, Any, bool]:
    # Locked rows are skipped: a transaction that hangs on one job must not cost the leases of all others.
    worker_id = bindparam("p_worker_id", type_=Uuid())
    job_ids = func.unnest(bindparam("p_job_ids", type_=ARRAY(Uuid)))
    attempt_numbers = func.unnest(bindparam("p_attempts", type_=ARRAY(Integer)))
    claims = select(job_ids.label("id"), attempt_numbers.label("attempt")).cte("claims")
    unlocked_worker = (
        select(Worker.id).where(Worker.id == worker_id).with_for_update(key_share=True, skip_locked=True).cte("unlocked_worker")
    )
    worker_heartbeat = (
        update(Worker).where(Worker.id == unlocked_worker.c.id).values(heartbeat_at=clock(), stopped_at=None).cte("worker_heartbeat")
    )
    is_held = (Job.id == claims.c.id) & (Job.attempt == claims.c.attempt) & (Job.worker_id == worker_id) & Job.status.in_(ACTIVE)
    unlocked_jobs = select(Job.id).join(claims, is_held).with_for_update(of=Job, key_share=True, skip_locked=True).cte("unlocked_jobs")
    lease_until = clock() + interval("p_lease")
    renewed = (
        update(Job)
        .where(Job.id == unlocked_jobs.c.id)
        .values(lease_until=lease_until)
        .returning(Job.id, Job.attempt, Job.status)
        .cte("renewed")
    )
    is_renewed_attempt = (JobAttempt.job_id == renewed.c.id) & (JobAttempt.number == renewed.c.attempt)
    attempts = update(JobAttempt).where(is_renewed_attempt).values(heartbeat_at=clock()).cte("attempts")
    locked = select(Job.id, Job.status, false().label("is_renewed")).join(claims, is_held).where(Job.id.not_in(select(unlocked_jobs.c.id)))
    return (
        select(renewed.c.id, renewed.c.status, true().label("is_renewed"))
        .add_cte(worker_heartbeat, attempts, uptime.record_start().cte("uptime_start"))
        .union_all(locked)
    )


_HEARTBEAT_STATEMENT = _heartbeat_statement()


async def heartbeat(database: Database, worker_id: UUID, claims: Sequence[Claim], lease: float) -> dict[UUID, HeldJob]:
    """Renew the leases of `claims` whose rows are not locked; return the jobs that this worker still holds.

    A missing claim is lost: its body must be killed, and its results do not count.
    """
    parameters = {
        "p_worker_id": worker_id,
        "p_job_ids": [claim.job_id for claim in claims],
        "p_attempts": [claim.attempt for claim in claims],
        "p_lease": timedelta(seconds=lease),
    }
    return {row.id: HeldJob(row.status, row.is_renewed) for row in await database.rows(_HEARTBEAT_STATEMENT, parameters)}
