"""Requeue a waiting job: end its backoff and dispatch it again, in case a dispatch notice was lost."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select, update

from db.core.policy import visible
from db.core.queues import route_of
from db.core.work import Notice, Work
from db.errors import NotFound, WrongState
from db.services.jobs.transitions import JOB_BY_ID
from db.tables import Job
from db.tables.jobstates import TERMINAL, WAITING, JobStatus

# The status does not change, so this is no transition and writes no event.
_MAKE_DUE = (
    update(Job)
    .where(JOB_BY_ID, Job.status.in_(WAITING))
    .values(run_after=None, dispatched_at=None)
    .returning(Job.status, Job.queue, Job.extras, Job.last_sequence, Job.owner_id)
)


async def requeue(work: Work, job_id: UUID) -> JobStatus:
    """Make a waiting job due now and return its status. Raises `NotFound`, or `WrongState` for a job that does not wait."""
    work.viewer.require_write()
    status = await work.scalar(select(Job.status).where(Job.id == job_id, visible(Job, work.viewer)))
    if status is None:
        raise NotFound(str(job_id))
    job = await work.first(_MAKE_DUE, {"p_job_id": job_id})
    if job is not None:
        work.notify(Notice(job_id, job.last_sequence, route_of(job)))
        work.record("requeue_job", "job", job_id, job.owner_id, after={"run_after": None})
        return job.status
    status = await work.scalar(select(Job.status).where(Job.id == job_id))
    advice = "Retry it: that submits a new job." if status in TERMINAL else "Cancel it and retry it, or let its worker finish."
    raise WrongState(status.name, f"The job is {status.name}; only a waiting job can be requeued. {advice}")
