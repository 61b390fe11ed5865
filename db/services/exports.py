"""Exports: versions written in another format by a job, kept for a time, and deleted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, delete, func, insert, select, update

from db.core.audit import ref
from db.core.checks import Checks
from db.core.policy import visible
from db.core.work import Work
from db.errors import NotFound, WrongState
from db.services import datasets, export_options, idempotency, jobs, outputs
from db.services.outputs import StoredFile, WrittenOutput
from db.settings import state_settings
from db.tables import DatasetVersion, Export, Job
from db.tables.datasets import DatasetVersionStatus
from db.tables.exports import ExportFormat
from db.tables.jobs import JobKind
from db.tables.jobstates import TERMINAL, JobStatus

OPERATION = "createExport"


async def _follow_retry(work: Work, old: Row[Any], new: Row[Any]) -> None:
    """Let the export follow the new job. Raises `WrongState` if it is complete, deleted, or being made by another job."""
    export_id = old.parameters.get("exportId")
    if export_id is None:  # a purged job has no parameters
        return
    if old.status is JobStatus.COMPLETED:
        raise WrongState(old.status.name, "The export is complete. Make another one with `createExport`.")
    if not await work.run(update(Export).where(Export.id == UUID(export_id), Export.job_id == old.id).values(job_id=new.id)):
        raise WrongState(old.status.name, "Its export was deleted, or another job makes it. Make another export with `createExport`.")


EXPORT = jobs.declare(jobs.JobKindSpec(JobKind.EXPORT, title="export", queue="default", outputs=(Export,), on_retry=_follow_retry))


@dataclass(frozen=True, slots=True)
class NewExport:
    """What to export, and how; `options` is the JSON object of the client."""

    format: ExportFormat
    dataset_version_id: UUID
    options: Any = None
    idempotency_key: str | None = None


async def create(work: Work, new: NewExport) -> tuple[UUID, UUID]:
    """Submit the job of an export; return the ids of export and job.

    Raises `NotFound`, `InvalidInput`, `WrongState`, `Conflict` or `QuotaExceeded`; the end of the unit of work `InsufficientCredits`.
    """
    work.viewer.require_write()
    request = {key: value for key, value in asdict(new).items() if key != "idempotency_key"}
    stored_answer = await idempotency.recall(work, OPERATION, new.idempotency_key, request)
    if stored_answer is not None:
        return UUID(stored_answer["export"]), UUID(stored_answer["job"])
    version, dataset = await _lock_version(work, new.dataset_version_id)
    checks = Checks()
    source = export_options.Source([column["name"] for column in version.columns], dataset.target_column)
    options = export_options.validated(new.format, new.options, source, checks)
    checks.raise_if_invalid()
    export_id: UUID = await work.scalar(select(func.uuidv7()))
    job = await jobs.submit(
        work,
        jobs.NewJob(
            owner_id=dataset.owner_id,
            kind=EXPORT.kind,
            queue=jobs.queue_for(EXPORT.kind, dataset.modality),
            parameters={"exportId": str(export_id), "format": new.format.name, "options": options},
            dataset_id=dataset.id,
            dataset_version_id=version.id,
            inputs=[version.id],
            requires_space=True,
        ),
    )
    values = {"job_id": job.id, "dataset_version_id": version.id, "format": new.format, "options": options}
    await work.run(insert(Export).values(id=export_id, owner_id=dataset.owner_id, created_by_id=work.viewer.maker_id, **values))
    await idempotency.remember(work, new.idempotency_key, {"export": str(export_id), "job": str(job.id)})
    created = {"format": new.format, "dataset_version": ref("version", version.id), "options": options, "job": ref("job", job.id)}
    work.record("create_export", "export", export_id, dataset.owner_id, after=created)
    return export_id, job.id


async def _lock_version(work: Work, version_id: UUID) -> tuple[Row[Any], Row[Any]]:
    """Return a READY version and its dataset, which is locked against deletion."""
    columns = (DatasetVersion.id, DatasetVersion.dataset_id, DatasetVersion.status, DatasetVersion.columns)
    version = await work.first(select(*columns).where(DatasetVersion.id == version_id, visible(DatasetVersion, work.viewer)))
    dataset = None if version is None else (await datasets.lock_shared(work, version.dataset_id)).get(version.dataset_id)
    if version is None or dataset is None:
        raise NotFound(str(version_id))
    if version.status is not DatasetVersionStatus.READY:
        status = version.status.name
        raise WrongState(
            status, f"The dataset version is {status}; only a READY one can be exported. Wait for its ingest, or choose another."
        )
    return version, dataset


async def complete(work: Work, job: Row[Any], files: Sequence[StoredFile]) -> WrittenOutput:
    """Add the files of an export in the transaction that settles its job; from now on it expires."""
    output = WrittenOutput(UUID(job.parameters["exportId"]))
    expires_at = func.now() + timedelta(seconds=state_settings().export_retention)
    values = {"size_bytes": sum(file.size for file in files), "expires_at": expires_at}
    await work.run(update(Export).where(Export.id == output.id).values(values))
    await outputs.add_artifacts(work, job, files, output.duplicate_keys, export_id=output.id)
    await outputs.add_outputs(work, job, [(Export, output.id)])
    return output


async def remove(work: Work, export_id: UUID) -> UUID:
    """Delete an export and its files. Raises `NotFound`, or `WrongState` while its job has not ended."""
    work.viewer.require_write()
    export = await work.first(select(Export).where(Export.id == export_id, visible(Export, work.viewer)).with_for_update())
    if export is None:
        raise NotFound(str(export_id))
    # Another statement: a retry that this one waited for has given the export another job.
    status = await work.scalar(select(Job.status).where(Job.id == export.job_id))
    if status not in TERMINAL:
        raise WrongState(status.name, "The export is not finished. Wait for its job or cancel that, then delete the export.")
    await work.run(delete(Export).where(Export.id == export_id))  # with it its artifacts, and their references to the objects
    before = {"format": export.format, "options": export.options, "job": ref("job", export.job_id)}
    work.record("delete_export", "export", export_id, export.owner_id, before)
    return export_id
