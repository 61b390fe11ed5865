"""Stopping a job: one that waits at once, one that runs by its worker."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select

from db.core.policy import visible
from db.core.work import Work
from db.errors import NotFound, WrongState
from db.services.jobs import attempts
from db.services.jobs.transitions import THE_JOB, TransitionStatement
from db.tables import Job
from db.tables.jobs import JobEventType
from db.tables.jobstates import WAITING, JobStatus

_CANCEL_WAITING = TransitionStatement(JobStatus.CANCELLED, "cancel", JobEventType.CANCELLED, THE_JOB)
_REQUEST_CANCEL = TransitionStatement(JobStatus.CANCELLING, "cancel", JobEventType.CANCEL_REQUESTED, THE_JOB)


async def cancel(work: Work, job_id: UUID) -> JobStatus:
    """CANCELLED, or CANCELLING while its body is being stopped; from here on the job never completes. Asking twice changes nothing.

    Raises `NotFound`, or `WrongState` for a job that has ended otherwise.
    """
    work.viewer.require_write()
    status_statement = select(Job.status).where(Job.id == job_id, visible(Job, work.viewer))
    if await work.scalar(status_statement) is None:
        raise NotFound(str(job_id))
    while True:
        # A job may start, or be given back, between the two steps; then the next look finds it where it went.
        job = await _CANCEL_WAITING.apply_one(work, the_job=job_id)
        if job is not None:
            await attempts.apply_job_status(work, job)
            return job.status
        job = await _REQUEST_CANCEL.apply_one(work, the_job=job_id)
        if job is not None:
            return job.status
        status = await work.scalar(status_statement)
        if status in {JobStatus.CANCELLING, JobStatus.CANCELLED}:
            return status
        if status not in WAITING and status is not JobStatus.RUNNING:
            raise WrongState(status.name, f"The job is {status.name} already; only a job that waits or runs can be cancelled.")
