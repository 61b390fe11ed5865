"""Doing a job again: a new one with the same inputs, parameters, seed and snapshot; the old one stays as it ended."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Row, exists, select, update

from db.core.work import Work
from db.errors import NotFound, WrongState
from db.queries.jobs import visible
from db.services import datasets, experiments, idempotency
from db.services.jobs.submitting import NewJob, submit
from db.tables import DatasetVersion, Job, JobInput, Run, Upload
from db.tables.datasets import DatasetVersionStatus, UploadState
from db.tables.jobs import JobKind
from db.tables.jobstates import TERMINAL


async def retry(work: Work, job_id: UUID, idempotency_key: str | None = None) -> tuple[UUID, UUID | None]:
    """The new job and, where it trains, its run. A job that completed may be done again too, but not an ingest: its version is READY.

    Raises `NotFound`, `WrongState` or `Conflict`; the end of the work `InsufficientCredits`.
    """
    work.viewer.require_write()
    stored_answer = await idempotency.recall(work, "retryJob", idempotency_key, {"job_id": str(job_id)})
    if stored_answer is not None:
        return UUID(stored_answer["job"]), UUID(stored_answer["run"]) if stored_answer["run"] else None
    old = await work.first(select(*Job.__table__.c).where(Job.id == job_id, visible(work.viewer)).with_for_update(key_share=True))
    if old is None:
        raise NotFound(str(job_id))
    if old.status not in TERMINAL:
        raise WrongState(
            old.status.name, f"The job is {old.status.name}; only one that has ended can be retried. Cancel it first, or wait."
        )
    await _lock_datasets(work, old)
    if old.kind is JobKind.INGEST:
        await _reopen_version(work, old)
    inputs = await work.all(select(JobInput.dataset_version_id).where(JobInput.job_id == old.id))
    new = await submit(
        work,
        NewJob(
            owner_id=old.owner_id,
            kind=old.kind,
            queue=old.queue,
            priority=old.priority,
            parameters=old.parameters,
            dataset_id=old.dataset_id,
            dataset_version_id=old.dataset_version_id,
            pipeline_id=old.pipeline_id,
            snapshot_id=old.snapshot_id,
            retry_of_id=old.id,
            inputs=[row.dataset_version_id for row in inputs],
            max_tries=old.max_tries,
            timeout=old.timeout_seconds,
        ),
    )
    run_id = await _copy_run(work, old.id, new.id)
    await idempotency.remember(work, idempotency_key, {"job": str(new.id), "run": str(run_id) if run_id else None})
    return new.id, run_id


async def _lock_datasets(work: Work, old: Row[Any]) -> None:
    """Nor is it deleted meanwhile."""
    dataset_ids = {old.dataset_id} if old.dataset_id is not None else set[UUID]()
    if "outputDatasetId" in old.parameters:
        dataset_ids.add(UUID(old.parameters["outputDatasetId"]))
    if dataset_ids - set(await datasets.lock_shared(work, *dataset_ids)):
        raise WrongState(old.status.name, "A dataset that this job works on was deleted, so it cannot be done again.")


async def _reopen_version(work: Work, old: Row[Any]) -> None:
    """Back to UPLOADED, if its file is still there to be read."""
    version = await work.one(
        select(DatasetVersion.status, Upload.state)
        .outerjoin(Upload, Upload.version_id == DatasetVersion.id)
        .where(DatasetVersion.id == old.dataset_version_id)
        .with_for_update(of=DatasetVersion, key_share=True)
    )
    if version.status is DatasetVersionStatus.READY:
        raise WrongState(version.status.name, "The dataset version is READY already; upload the file again to make another version.")
    if version.state is UploadState.MISMATCHED:
        raise WrongState(
            version.status.name, "The uploaded file was not the one announced and has been removed. Ask for a new upload and send it again."
        )
    under_way = select(
        exists().where(Job.dataset_version_id == old.dataset_version_id, Job.kind == JobKind.INGEST, Job.status.not_in(TERMINAL))
    )
    if await work.scalar(under_way):
        raise WrongState(version.status.name, "This dataset version is being ingested by another job already. Wait for it, or cancel it.")
    version_update = update(DatasetVersion).where(DatasetVersion.id == old.dataset_version_id)
    await work.run(version_update.values(status=DatasetVersionStatus.UPLOADED, issues=[], issue_count=0))


async def _copy_run(work: Work, old_job: UUID, new_job: UUID) -> UUID | None:
    run = await work.first(select(*Run.__table__.c).where(Run.job_id == old_job))
    if run is None:
        return None
    return await experiments.add_run(
        work,
        experiments.NewRun(
            owner_id=run.owner_id,
            experiment_id=run.experiment_id,
            job_id=new_job,
            dataset_version_id=run.dataset_version_id,
            seed=run.seed,
            hyperparameters=run.hyperparameters,
            config=run.config,
            name=run.name,
        ),
    )
