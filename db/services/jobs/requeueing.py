"""Ringing for a waiting job again, now: whatever held it back or was lost on the way."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select, update

from db.core.policy import visible
from db.core.work import Notice, Work
from db.errors import NotFound, WrongState
from db.services.jobs.transitions import THE_JOB
from db.tables import Job
from db.tables.jobstates import TERMINAL, WAITING, JobStatus

# The status stays, so this is no step of the table and has no event: a retry's pause ends, and the next dispatch rings anew.
_MAKE_DUE = (
    update(Job)
    .where(THE_JOB, Job.status.in_(WAITING))
    .values(run_after=None, dispatched_at=None)
    .returning(Job.status, Job.queue, Job.last_sequence)
)


async def requeue(work: Work, job_id: UUID) -> JobStatus:
    """The job's status: it waits as before, but for nothing except its turn. Raises `NotFound`, or `WrongState` for one that does not wait."""
    work.viewer.require_write()
    status = await work.scalar(select(Job.status).where(Job.id == job_id, visible(Job, work.viewer)))
    if status is None:
        raise NotFound(str(job_id))
    job = await work.first(_MAKE_DUE, {"the_job": job_id})
    if job is not None:
        work.notify(Notice(job_id, job.last_sequence, job.queue))
        return job.status
    status = await work.scalar(select(Job.status).where(Job.id == job_id))
    advice = "Retry it: that makes a new job." if status in TERMINAL else "Cancel it and retry it, or let its worker finish."
    raise WrongState(status.name, f"The job is {status.name}; only one that waits can be rung for again. {advice}")
