"""The start and the end of an attempt beside the job's own row: the attempt's row, its nodes, credits, and the hooks of the job's kind."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, update

from db.core.work import Work
from db.services import credits
from db.services.jobs import checkpoints, nodes
from db.services.jobs.kinds import spec_of
from db.services.jobs.transitions import clock
from db.tables import JobAttempt
from db.tables.jobs import JobNodeStatus
from db.tables.jobstates import TERMINAL, JobStatus

_NODE_STATUS = {
    JobStatus.PENDING: JobNodeStatus.FAILED,
    JobStatus.COMPLETED: JobNodeStatus.COMPLETED,
    JobStatus.FAILED: JobNodeStatus.FAILED,
    JobStatus.CANCELLED: JobNodeStatus.CANCELLED,
}


async def begin(work: Work, job: Row[Any]) -> None:
    """Run the `on_begin` hook of the job's kind for the attempt that was just claimed."""
    on_begin = spec_of(job.kind).on_begin
    if on_begin is not None:
        await on_begin(work, job)
    await apply_job_status(work, job)


async def end(work: Work, job: Row[Any], outcome: str, error: dict[str, Any] | None = None) -> None:
    """Close the attempt's row with `outcome`: completed, failed, cancelled, retrying, given_back or lost."""
    statement = update(JobAttempt).where(JobAttempt.job_id == job.id, JobAttempt.number == job.attempt, JobAttempt.ended_at.is_(None))
    await work.run(statement.values(ended_at=clock(), outcome=outcome, error=error))
    await nodes.end(work, job.id, job.attempt, _NODE_STATUS[job.status], error)
    await apply_job_status(work, job)


async def apply_job_status(work: Work, job: Row[Any]) -> None:
    """Update what depends on a job's status. At a terminal status, delete the checkpoints and charge or release the held credits."""
    if job.status in TERMINAL:
        await checkpoints.delete_all(work, job.id)
        credits.settle_for_job(work, job)
    on_change = spec_of(job.kind).on_change
    if on_change is not None:
        await on_change(work, job)
