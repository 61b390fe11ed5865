"""Stopping a job: one that waits at once, one that runs by its worker."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select

from db.core.work import Work
from db.errors import NotFound, WrongState
from db.queries.jobs import visible
from db.services.jobs import attempts
from db.services.jobs.transitions import Says, move_one
from db.tables import Job
from db.tables.jobs import JobEventType
from db.tables.jobstates import JobStatus


async def cancel(work: Work, job_id: UUID) -> JobStatus:
    """CANCELLED, or CANCELLING while its body is being stopped; from here on the job never completes. Asking twice changes nothing.

    Raises `NotFound`, or `WrongState` for a job that has ended otherwise.
    """
    work.viewer.must_write()
    mine = (Job.id == job_id, visible(work.viewer))
    # A job may start between the first step and the second; then the second finds it, unless it has ended meanwhile.
    job = await move_one(work, JobStatus.CANCELLED, "cancel", Says(JobEventType.CANCELLED), *mine)
    if job is not None:
        await attempts.follow(work, job)
        return job.status
    job = await move_one(work, JobStatus.CANCELLING, "cancel", Says(JobEventType.CANCEL_REQUESTED), *mine)
    if job is not None:
        return job.status
    status = await work.scalar(select(Job.status).where(*mine))
    if status is None:
        raise NotFound(str(job_id))
    if status in {JobStatus.CANCELLING, JobStatus.CANCELLED}:
        return status
    if status in {JobStatus.PENDING, JobStatus.QUEUED}:  # given back just between the steps
        return await cancel(work, job_id)
    raise WrongState(status.name, f"The job is {status.name} already; only a job that waits or runs can be cancelled.")
