"""A job begins: its row, its inputs and its first event, in the transaction of whoever asks for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Row, insert

from db.core.queues import QUEUES
from db.core.work import Work
from db.services.jobs.transitions import announce
from db.settings import state_settings
from db.tables import Job, JobEvent, JobInput
from db.tables.datasets import Modality
from db.tables.jobs import JobEventType, JobKind
from db.tables.jobstates import JobStatus

_UPLOADING = frozenset({JobKind.INGEST, JobKind.PROFILE, JobKind.IMPORT})


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be made. It belongs to `owner_id`, whoever asked; `timeout` is in seconds, `max_tries` by default the setting's."""

    owner_id: UUID
    kind: JobKind
    queue: str
    priority: int = 5
    parameters: dict[str, Any] = field(default_factory=dict[str, Any])
    dataset_id: UUID | None = None
    dataset_version_id: UUID | None = None
    pipeline_id: UUID | None = None
    snapshot_id: UUID | None = None
    retry_of_id: UUID | None = None
    inputs: list[UUID] = field(default_factory=list[UUID])
    max_tries: int | None = None
    timeout: float | None = None


def queue_for(kind: JobKind, modality: Modality | None) -> str:
    """The queue of a job of this kind on a dataset of this modality; None where it works on no dataset."""
    if kind in _UPLOADING:
        return "upload"
    if modality is None or modality.value not in QUEUES:
        return "default"
    return modality.value


async def submit(work: Work, new: NewJob) -> Row[Any]:
    """The job's row, PENDING. Workers hear of it after the commit; should they not, their next look finds it."""
    job = await work.one(
        insert(Job)
        .values(
            owner_id=new.owner_id,
            kind=new.kind,
            status=JobStatus.PENDING,
            queue=new.queue,
            priority=new.priority,
            parameters=new.parameters,
            dataset_id=new.dataset_id,
            dataset_version_id=new.dataset_version_id,
            pipeline_id=new.pipeline_id,
            snapshot_id=new.snapshot_id,
            retry_of_id=new.retry_of_id,
            max_tries=state_settings().max_tries if new.max_tries is None else new.max_tries,
            timeout_seconds=new.timeout,
        )
        .returning(*Job.__table__.c)
    )
    created = insert(JobEvent).values(
        job_id=job.id, sequence=job.last_sequence, attempt=0, type=JobEventType.CREATED, status=job.status, progress=0
    )
    await work.run(created)
    if new.inputs:
        await work.run(insert(JobInput), [{"job_id": job.id, "dataset_version_id": version} for version in dict.fromkeys(new.inputs)])
    announce(work, job)
    return job
