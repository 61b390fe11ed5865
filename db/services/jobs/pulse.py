"""The heartbeat of a worker and of everything it runs, in one statement."""

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


class Held(NamedTuple):
    """A job that is still this worker's: RUNNING, or CANCELLING when it is to be stopped. Not `is_renewed`: its lease runs on as it was."""

    status: JobStatus
    is_renewed: bool


def _pulsed() -> CompoundSelect[Any, Any, bool]:
    # A row that somebody else has locked is passed over: a transaction that hangs on one job must not cost the leases of all the others.
    me = bindparam("the_worker", type_=Uuid())
    ids = func.unnest(bindparam("the_jobs", type_=ARRAY(Uuid)))
    numbers = func.unnest(bindparam("the_attempts", type_=ARRAY(Integer)))
    mine = select(ids.label("id"), numbers.label("attempt")).cte("mine")
    myself = select(Worker.id).where(Worker.id == me).with_for_update(key_share=True, skip_locked=True).cte("myself")
    beat = update(Worker).where(Worker.id == myself.c.id).values(heartbeat_at=clock(), stopped_at=None).cte("beat")
    held = (Job.id == mine.c.id) & (Job.attempt == mine.c.attempt) & (Job.worker_id == me) & Job.status.in_(ACTIVE)
    free = select(Job.id).join(mine, held).with_for_update(of=Job, key_share=True, skip_locked=True).cte("free")
    lease = clock() + interval("the_lease")
    renewed = update(Job).where(Job.id == free.c.id).values(lease_until=lease).returning(Job.id, Job.attempt, Job.status).cte("renewed")
    beaten = (JobAttempt.job_id == renewed.c.id) & (JobAttempt.number == renewed.c.attempt)
    attempts = update(JobAttempt).where(beaten).values(heartbeat_at=clock()).cte("attempts")
    locked = select(Job.id, Job.status, false().label("is_renewed")).join(mine, held).where(Job.id.not_in(select(free.c.id)))
    return (
        select(renewed.c.id, renewed.c.status, true().label("is_renewed"))
        .add_cte(beat, attempts, uptime.noted().cte("noted"))
        .union_all(locked)
    )


_PULSE = _pulsed()


async def pulse(database: Database, worker_id: UUID, claims: Sequence[Claim], lease: float) -> dict[UUID, Held]:
    """Renew the leases of `claims`, as far as nobody has locked the job; the answer has those that are still this worker's.

    A claim that is missing was taken away: its body must die, and nothing it made counts.
    """
    parameters = {
        "the_worker": worker_id,
        "the_jobs": [claim.job_id for claim in claims],
        "the_attempts": [claim.attempt for claim in claims],
        "the_lease": timedelta(seconds=lease),
    }
    return {row.id: Held(row.status, row.is_renewed) for row in await database.rows(_PULSE, parameters)}
