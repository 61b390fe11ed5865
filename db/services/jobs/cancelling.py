"""Cancel jobs: a waiting job at once, a running job through its worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, select

from db.core.criteria import Criteria
from db.core.policy import visible
from db.core.sql import equals_any
from db.core.viewer import UserRole
from db.core.work import Work
from db.errors import NotFound, WrongState, invalid
from db.queries.jobs import FILTERS
from db.services.jobs import attempts
from db.services.jobs.transitions import JOB_BY_ID, JOBS_BY_ID, TransitionStatement
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


MAX_JOBS = 500  # cancelled at once: they stay locked until the transaction ends

_CANCEL_ALL_WAITING = TransitionStatement(JobStatus.CANCELLED, "cancel", JobEventType.CANCELLED, JOBS_BY_ID)
_REQUEST_CANCEL_OF_ALL = TransitionStatement(JobStatus.CANCELLING, "cancel", JobEventType.CANCEL_REQUESTED, JOBS_BY_ID)
_IS_CANCELLABLE = Job.status.in_([*WAITING, JobStatus.RUNNING])


@dataclass(frozen=True, slots=True)
class Cancellations:
    """What one call did: how many jobs it cancelled and how many it asked their workers to stop; the status of the named jobs that it did not change,
    None for one that the viewer may not see; and how many more jobs meet the criteria and wait or run."""

    cancelled: int
    cancelling: int
    unchanged: Sequence[tuple[UUID, JobStatus | None]] = ()
    remaining: int = 0


async def cancel_named(work: Work, job_ids: Sequence[UUID]) -> Cancellations:
    """Cancel those of these jobs that wait or run. Idempotent: what has ended or is being stopped stays as it is. Raises `InvalidInput` without any."""
    work.viewer.require_write()
    if not job_ids:
        raise invalid("ids", message="Name at least one job, or give a `filter`.")
    ids = list(dict.fromkeys(job_ids))
    statuses = await _lock(work, ids)
    changed = await _cancel_all(work, [id_ for id_ in ids if id_ in statuses])
    unchanged = [(id_, statuses.get(id_)) for id_ in ids if id_ not in changed]
    return Cancellations(*_counts(changed), unchanged)


async def cancel_matching(work: Work, criteria: Criteria) -> Cancellations:
    """Cancel the newest `MAX_JOBS` jobs that meet the criteria and wait or run, of accounts in which the viewer may write."""
    work.viewer.require_write()
    read_only = [] if work.viewer.sees_all else [team_id for team_id, role in work.viewer.teams if role is UserRole.VIEWER]
    conditions = [visible(Job, work.viewer), _IS_CANCELLABLE, *FILTERS.conditions(criteria)]
    if read_only:
        conditions.append(~equals_any(Job.owner_id, read_only))
    newest = select(Job.id).where(*conditions).order_by(Job.created_at.desc(), Job.id.desc()).limit(MAX_JOBS)
    ids = [row.id for row in await work.all(newest)]
    changed = await _cancel_all(work, list(await _lock(work, ids)))
    remaining = 0 if len(ids) < MAX_JOBS else await work.scalar(select(func.count()).select_from(Job).where(*conditions))
    return Cancellations(*_counts(changed), remaining=remaining)


async def _lock(work: Work, job_ids: Sequence[UUID]) -> dict[UUID, JobStatus]:
    """Lock the jobs in the order of their ids, so that two calls cannot wait for each other, and return their statuses."""
    lock = select(Job.id, Job.status).where(equals_any(Job.id, job_ids), visible(Job, work.viewer)).order_by(Job.id)
    return {row.id: row.status for row in await work.all(lock.with_for_update(key_share=True, of=Job))}


async def _cancel_all(work: Work, job_ids: Sequence[UUID]) -> dict[UUID, JobStatus]:
    """Cancel those of the locked jobs that can be, and return their new statuses."""
    cancelled = await _CANCEL_ALL_WAITING.apply(work, p_job_ids=job_ids)
    for job in cancelled:
        await attempts.apply_job_status(work, job)
    stopping = await _REQUEST_CANCEL_OF_ALL.apply(work, p_job_ids=job_ids)
    for job in (*cancelled, *stopping):
        _record(work, job)
    return {job.id: job.status for job in (*cancelled, *stopping)}


def _counts(changed: Mapping[UUID, JobStatus]) -> tuple[int, int]:
    statuses = list(changed.values())
    return statuses.count(JobStatus.CANCELLED), statuses.count(JobStatus.CANCELLING)


def _record(work: Work, job: Row[Any]) -> None:
    work.record("cancel_job", "job", job.id, job.owner_id, after={"status": job.status})
