"""What begins and ends with an attempt besides the job's own row: the attempt's record, its nodes, its credits, the version of an ingest."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, delete, exists, func, select, update

from db.core.work import Work
from db.services import credits, outputs
from db.services.jobs import checkpoints, nodes
from db.services.jobs.transitions import clock
from db.tables import DatasetVersion, JobAttempt, JobCheckpoint, MetricPoint, Run, RunMetric, Upload
from db.tables.datasets import DatasetVersionStatus, UploadState
from db.tables.jobs import JobKind, JobNodeStatus
from db.tables.jobstates import TERMINAL, JobStatus

UPLOAD_MISMATCH = "UPLOAD_MISMATCH"

_VERSION_STATUS = {
    JobStatus.PENDING: DatasetVersionStatus.UPLOADED,
    JobStatus.RUNNING: DatasetVersionStatus.PROCESSING,
    JobStatus.CANCELLED: DatasetVersionStatus.UPLOADED,
}
_NODE_STATUS = {
    JobStatus.PENDING: JobNodeStatus.FAILED,
    JobStatus.COMPLETED: JobNodeStatus.COMPLETED,
    JobStatus.FAILED: JobNodeStatus.FAILED,
    JobStatus.CANCELLED: JobNodeStatus.CANCELLED,
}


async def begin(work: Work, job: Row[Any]) -> None:
    """Points of an earlier attempt go where it left no checkpoint: then this one starts over. The version of an ingest is being processed."""
    if job.attempt > 1 and job.kind in {JobKind.TRAIN, JobKind.TRIAL}:
        has_checkpoint = exists().where(JobCheckpoint.job_id == job.id)
        run_id = select(Run.id).where(Run.job_id == job.id, ~has_checkpoint).scalar_subquery()
        await work.run(delete(MetricPoint).where(MetricPoint.run_id == run_id))
        await work.run(delete(RunMetric).where(RunMetric.run_id == run_id))
    await apply_job_status(work, job)


async def end(work: Work, job: Row[Any], outcome: str, error: dict[str, Any] | None = None) -> None:
    """Close the attempt's record as `outcome`: completed, failed, cancelled, retrying, given_back or lost."""
    statement = update(JobAttempt).where(JobAttempt.job_id == job.id, JobAttempt.number == job.attempt, JobAttempt.ended_at.is_(None))
    await work.run(statement.values(ended_at=clock(), outcome=outcome, error=error))
    await nodes.end(work, job.id, job.attempt, _NODE_STATUS[job.status], error)
    await apply_job_status(work, job)


async def apply_job_status(work: Work, job: Row[Any]) -> None:
    """Every end of a job passes here: its checkpoints go, and what was held for it is charged or released.

    The version that an INGEST makes goes where its job went; READY is written by the settle.
    """
    if job.status in TERMINAL:
        await checkpoints.delete_all(work, job.id)
        credits.settle_for_job(work, job)
    if job.kind is not JobKind.INGEST or job.dataset_version_id is None:
        return
    if job.status is JobStatus.FAILED:
        error = job.error
        issue = {"code": error["code"], "message": error["message"], "column": error.get("column"), "row": error.get("row")}
        await outputs.mark_version_failed(work, job.dataset_version_id, [issue])
        if error["code"] == UPLOAD_MISMATCH:  # its file is removed, so that a retry is refused
            upload_update = update(Upload).where(Upload.version_id == job.dataset_version_id)
            await work.run(upload_update.values(state=UploadState.MISMATCHED))
    elif job.status in _VERSION_STATUS:
        unfinished = DatasetVersion.status.in_((DatasetVersionStatus.UPLOADED, DatasetVersionStatus.PROCESSING))
        version_update = update(DatasetVersion).where(DatasetVersion.id == job.dataset_version_id, unfinished)
        await work.run(version_update.values(status=_VERSION_STATUS[job.status], updated_at=func.clock_timestamp()))
