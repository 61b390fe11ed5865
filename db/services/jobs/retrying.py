"""Retry a job: submit a new one with the same inputs, parameters, seed and snapshot. The old job is unchanged.

The priority is that of the old job, or the highest that the tier of its owner now has.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Row, select

from db.core.audit import ref
from db.core.policy import visible
from db.core.sql import Rows
from db.core.work import Work
from db.errors import NotFound, WrongState
from db.services import datasets, idempotency
from db.services.jobs.kinds import spec_of
from db.services.jobs.submitting import NewJob, submit
from db.settings import state_settings
from db.tables import DatasetVersion, Job, JobInput, Model, ModelVersion, Pipeline, User
from db.tables.jobstates import TERMINAL


async def retry(work: Work, job_id: UUID, idempotency_key: str | None = None) -> UUID:
    """Submit a copy of a job that has ended, also of a completed one unless its kind refuses, and return the new id.

    Raises `NotFound`, `InvalidInput`, `WrongState`, `Conflict` or `QuotaExceeded`; the end of the unit of work raises `InsufficientCredits`.
    """
    work.viewer.require_write()
    stored_answer = await idempotency.recall(work, "retryJob", idempotency_key, {"job_id": str(job_id)})
    if stored_answer is not None:
        return UUID(stored_answer["job"])
    new = await submit_again(work, job_id)
    await idempotency.remember(work, idempotency_key, {"job": str(new.id)})
    work.record("retry_job", "job", new.id, new.owner_id, after={"kind": new.kind, "retry_of": ref("job", job_id)})
    return new.id


async def submit_again(work: Work, job_id: UUID) -> Row[Any]:
    """Submit a copy of a job that has ended, and return the new row. The caller records why. It raises what `retry` does."""
    owner_tier = select(User.tier).where(User.id == Job.owner_id).scalar_subquery().label("owner_tier")
    old = await work.first(
        select(*Job.__table__.c, owner_tier).where(Job.id == job_id, visible(Job, work.viewer)).with_for_update(key_share=True)
    )
    if old is None:
        raise NotFound(str(job_id))
    if old.status not in TERMINAL:
        raise WrongState(
            old.status.name, f"The job is {old.status.name}; only one that has ended can be retried. Cancel it first, or wait."
        )
    if old.dataset_id is not None:
        await lock_dataset(work, old, old.dataset_id)
    if old.pipeline_id is not None:
        await _lock_live(work, old, "pipeline", select(Pipeline.id).where(Pipeline.id == old.pipeline_id, Pipeline.deleted_at.is_(None)))
    if old.dataset_version_id is not None:
        is_it = (DatasetVersion.id == old.dataset_version_id, DatasetVersion.deleted_at.is_(None))
        await _lock_live(work, old, "dataset version", select(DatasetVersion.id).where(*is_it))
    if old.model_version_id is not None:
        model = select(Model.id).join(ModelVersion, ModelVersion.model_id == Model.id)
        await _lock_live(
            work,
            old,
            "model",
            model.where(ModelVersion.id == old.model_version_id, Model.deleted_at.is_(None), ModelVersion.deleted_at.is_(None)),
            of=[Model, ModelVersion],
        )
    of_version = DatasetVersion.id == JobInput.dataset_version_id
    of_inputs = select(JobInput.dataset_version_id, DatasetVersion.dataset_id, DatasetVersion.deleted_at)
    of_inputs = of_inputs.join(DatasetVersion, of_version).where(JobInput.job_id == old.id).order_by(DatasetVersion.id)
    inputs = await work.all(of_inputs.with_for_update(of=DatasetVersion, read=True, key_share=True))
    if any(row.deleted_at is not None for row in inputs):
        raise WrongState(
            old.status.name, "A dataset version that this job reads was deleted, so it cannot be done again. Restore the version first."
        )
    for dataset_id in sorted({row.dataset_id for row in inputs} - {old.dataset_id}):
        await lock_dataset(work, old, dataset_id)
    new = await submit(
        work,
        NewJob(
            owner_id=old.owner_id,
            kind=old.kind,
            queue=old.queue,
            extras=old.extras or (),
            priority=min(old.priority, state_settings().highest_priority(old.owner_tier)),
            parameters=old.parameters,
            dataset_id=old.dataset_id,
            dataset_version_id=old.dataset_version_id,
            pipeline_id=old.pipeline_id,
            snapshot_id=old.snapshot_id,
            model_version_id=old.model_version_id,
            retry_of_id=old.id,
            inputs=[row.dataset_version_id for row in inputs],
            max_tries=old.max_tries,
            timeout=old.timeout_seconds,
            requires_space=True,
        ),
    )
    on_retry = spec_of(old.kind).on_retry
    if on_retry is not None:
        await on_retry(work, old, new)
    return new


async def lock_dataset(work: Work, old: Row[Any], dataset_id: UUID) -> None:
    """Lock a dataset of the job against deletion until the transaction ends. Raises `WrongState` if it is deleted already."""
    if not await datasets.lock_shared(work, dataset_id):
        raise WrongState(old.status.name, "A dataset that this job works on was deleted, so it cannot be done again.")


async def _lock_live(work: Work, old: Row[Any], title: str, row: Rows, *, of: Any = None) -> None:
    """Lock what the job uses against deletion until the transaction ends. Raises `WrongState` if it is deleted already."""
    if await work.scalar(row.with_for_update(of=of, read=True, key_share=True)) is None:
        raise WrongState(
            old.status.name, f"The {title} that this job uses was deleted, so it cannot be done again. Restore the {title} first."
        )
