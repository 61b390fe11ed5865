"""The heartbeat of a worker and of everything it runs, in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Integer, Select, Uuid, bindparam, func, select, update
from sqlalchemy.dialects.postgresql import ARRAY

from db.core.work import Database
from db.services.jobs.transitions import Claim, clock, interval
from db.tables import Job, JobAttempt, Worker
from db.tables.jobstates import ACTIVE, JobStatus


def _pulsed() -> Select[UUID, JobStatus]:
    me = bindparam("the_worker", type_=Uuid())
    ids = func.unnest(bindparam("the_jobs", type_=ARRAY(Uuid)))
    numbers = func.unnest(bindparam("the_attempts", type_=ARRAY(Integer)))
    mine = select(ids.label("id"), numbers.label("attempt")).cte("mine")
    beat = update(Worker).where(Worker.id == me).values(heartbeat_at=clock(), stopped_at=None).cte("beat")
    held = (Job.id == mine.c.id) & (Job.attempt == mine.c.attempt) & (Job.worker_id == me) & Job.status.in_(ACTIVE)
    lease = clock() + interval("the_lease")
    renewed = update(Job).where(held).values(lease_until=lease).returning(Job.id, Job.attempt, Job.status).cte("renewed")
    beaten = (JobAttempt.job_id == renewed.c.id) & (JobAttempt.number == renewed.c.attempt)
    attempts = update(JobAttempt).where(beaten).values(heartbeat_at=clock()).cte("attempts")
    return select(renewed.c.id, renewed.c.status).add_cte(beat, attempts)


_PULSE = _pulsed()


async def pulse(database: Database, worker_id: UUID, claims: Sequence[Claim], lease: float) -> dict[UUID, JobStatus]:
    """Renew the leases of `claims`; the answer has those that are still this worker's: RUNNING, or CANCELLING when it is to stop them.

    A claim that is missing was taken away: its body must die, and nothing it made counts.
    """
    parameters = {
        "the_worker": worker_id,
        "the_jobs": [claim.job_id for claim in claims],
        "the_attempts": [claim.attempt for claim in claims],
        "the_lease": timedelta(seconds=lease),
    }
    return {row.id: row.status for row in await database.rows(_PULSE, parameters)}
