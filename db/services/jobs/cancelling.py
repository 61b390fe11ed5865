"""Cancel a job: a waiting job at once, a running job through its worker."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Row, select

from db.core.policy import visible
from db.core.work import Work
from db.errors import NotFound, WrongState
from db.services.jobs import attempts
from db.services.jobs.transitions import JOB_BY_ID, TransitionStatement
from db.tables import Job
from db.tables.jobs import JobEventType
from db.tables.jobstates import WAITING, JobStatus

_CANCEL_WAITING = TransitionStatement(JobStatus.CANCELLED, "cancel", JobEventType.CANCELLED, JOB_BY_ID)
_REQUEST_CANCEL = TransitionStatement(JobStatus.CANCELLING, "cancel", JobEventType.CANCEL_REQUESTED, JOB_BY_ID)


async def cancel(work: Work, job_id: UUID) -> JobStatus:
    """Cancel a job and return its status: CANCELLED, or CANCELLING until its body has stopped. Idempotent; the job can no longer complete.

    Raises `NotFound`, or `WrongState` for a job that has completed or failed.
    """
    work.viewer.require_write()
    status_statement = select(Job.status).where(Job.id == job_id, visible(Job, work.viewer))
    if await work.scalar(status_statement) is None:
        raise NotFound(str(job_id))
    while True:
        # The job may be claimed or given back between the two statements; then repeat.
        job = await _CANCEL_WAITING.apply_one(work, p_job_id=job_id)
        if job is not None:
            await attempts.apply_job_status(work, job)
            _record(work, job)
            return job.status
        job = await _REQUEST_CANCEL.apply_one(work, p_job_id=job_id)
        if job is not None:
            _record(work, job)
            return job.status
        status = await work.scalar(status_statement)
        if status in {JobStatus.CANCELLING, JobStatus.CANCELLED}:
            return status
        if status not in WAITING and status is not JobStatus.RUNNING:
            raise WrongState(status.name, f"The job is {status.name} already; only a waiting or running job can be cancelled.")


def _record(work: Work, job: Row[Any]) -> None:
    work.record("cancel_job", "job", job.id, job.owner_id, after={"status": job.status})
