"""The heartbeat of a worker and of everything it runs, in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Integer, Uuid, func, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY

from db.core.work import Database
from db.services.jobs.transitions import Claim, clock, seconds
from db.tables import Job, JobAttempt, Worker
from db.tables.jobstates import ACTIVE, JobStatus


async def pulse(database: Database, worker_id: UUID, claims: Sequence[Claim], lease: float) -> dict[UUID, JobStatus]:
    """Renew the leases of `claims`; the answer has those that are still this worker's: RUNNING, or CANCELLING when it is to stop them.

    A claim that is missing was taken away: its body must die, and nothing it made counts.
    """
    ids = literal([claim.job_id for claim in claims], ARRAY(Uuid))
    numbers = literal([claim.attempt for claim in claims], ARRAY(Integer))
    mine = select(func.unnest(ids).label("id"), func.unnest(numbers).label("attempt")).cte("mine")
    beat = update(Worker).where(Worker.id == worker_id).values(heartbeat_at=clock(), stopped_at=None).cte("beat")
    held = (Job.id == mine.c.id) & (Job.attempt == mine.c.attempt) & (Job.worker_id == worker_id) & Job.status.in_(ACTIVE)
    renewed = update(Job).where(held).values(lease_until=clock() + seconds(lease)).returning(Job.id, Job.attempt, Job.status).cte("renewed")
    beaten = (JobAttempt.job_id == renewed.c.id) & (JobAttempt.number == renewed.c.attempt)
    attempts = update(JobAttempt).where(beaten).values(heartbeat_at=clock()).cte("attempts")
    rows = await database.rows(select(renewed.c.id, renewed.c.status).add_cte(beat, attempts))
    return {row.id: row.status for row in rows}
