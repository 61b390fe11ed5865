"""How jobs change dataset versions: an INGEST makes one READY or FAILED, a pipeline adds a derived one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any
from uuid import UUID

from sqlalchemy import Row, exists, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.work import Work
from db.errors import NotFound, WrongState
from db.services import datasets, items, outputs, proposals
from db.services.jobs.kinds import target_of
from db.services.outputs import Result, StoredFile, WrittenOutput
from db.tables import Dataset, DatasetProfile, DatasetVersion, Job, SchemaProposal, Upload
from db.tables.datasets import DatasetSource, DatasetVersionStatus, FileFormat, UploadState
from db.tables.jobs import JobKind
from db.tables.jobstates import TERMINAL, JobStatus

UPLOAD_MISMATCH = "UPLOAD_MISMATCH"

_UNFINISHED = (DatasetVersionStatus.PENDING, DatasetVersionStatus.UPLOADED, DatasetVersionStatus.PROCESSING)


async def add(work: Work, dataset_id: UUID, **values: Any) -> tuple[UUID, int]:
    """Insert the next version of a dataset, with these columns; return its id and number. The dataset is locked, or will be."""
    increment = update(Dataset).where(Dataset.id == dataset_id).values(last_number=Dataset.last_number + 1)
    number: int = await work.scalar(increment.returning(Dataset.last_number))
    insertion = insert(DatasetVersion).values(dataset_id=dataset_id, number=number, **values)
    return await work.scalar(insertion.returning(DatasetVersion.id)), number


async def lock_ready(work: Work, version_id: UUID) -> tuple[Row[Any], Row[Any]]:
    """Return a READY version (id, dataset_id, status) and its dataset, which is locked against deletion. Raises `NotFound` or `WrongState`."""
    version = await datasets.lock_version_shared(
        work, version_id, select(DatasetVersion.id, DatasetVersion.dataset_id, DatasetVersion.status)
    )
    dataset = None if version is None else (await datasets.lock_shared(work, version.dataset_id)).get(version.dataset_id)
    if version is None or dataset is None:
        raise NotFound(str(version_id))
    if version.status is not DatasetVersionStatus.READY:
        status = version.status.name
        raise WrongState(status, f"The dataset version is {status}; only a READY one has rows. Wait for its ingest, or choose another.")
    return version, dataset


async def mark_ready(
    work: Work,
    job: Row[Any],
    version_id: UUID,
    result: Result,
    raw: StoredFile,
    processed: StoredFile,
    profile_file: StoredFile | None = None,
    item_lines: IO[bytes] | None = None,
    item_files: Sequence[StoredFile] = (),
) -> WrittenOutput:
    """Make an ingested version READY, with its files, its profile and a proposed schema; `result` is an `IngestResult`.

    Of a version with items, `item_lines` is the file that the ingest wrote, and `item_files` are the pack and the previews.
    """
    output = WrittenOutput(version_id)
    values = {
        "format": FileFormat[result["format"]],
        "size_bytes": result["size"],
        "sha256": result["sha256"],
        "issues": result["issues"],
        "issue_count": result["issue_count"],
        "produced_by_id": job.id,
    }
    if item_lines is not None:
        values |= {
            "item_count": await items.add(work, version_id, item_lines),
            "item_summary": result["items"]["summary"],
        }
    await work.run(update(DatasetVersion).where(DatasetVersion.id == version_id).values({**values, **_ready_values(result)}))
    await work.run(update(Upload).where(Upload.version_id == version_id).values(state=UploadState.INGESTED))
    await outputs.add_artifact(work, job, raw, output.duplicate_keys, dataset_version_id=version_id)
    await outputs.add_artifacts(work, job, item_files, output.duplicate_keys, dataset_version_id=version_id)
    proposal_id = await proposals.add(work, job, version_id, result["proposal"])
    await _finish_version(work, job, output, result, processed, profile_file, proposal_id)
    return output


@dataclass(frozen=True, slots=True)
class StoredItems:
    """The file that the items of a derived version lie in, a line for each item, and their pack and previews."""

    raw: StoredFile
    lines: IO[bytes]
    files: Sequence[StoredFile]


async def add_derived(
    work: Work,
    job: Row[Any],
    result: Result,
    processed: StoredFile,
    profile_file: StoredFile | None = None,
    stored_items: StoredItems | None = None,
) -> WrittenOutput:
    """Add the next version of the output dataset of a pipeline that does not train; `result` is a `PipelineResult` of kind "dataset"."""
    file = processed if stored_items is None else stored_items.raw
    values: dict[str, Any] = {"format": FileFormat.PARQUET}
    if stored_items is not None:
        read = result["raw"]
        values = {
            "format": FileFormat[read["format"]],
            "original_filename": file.filename,
            "issues": read["issues"],
            "issue_count": read["issue_count"],
            "item_count": result["items"]["count"],
            "item_summary": result["items"]["summary"],
        }
    version_id, _ = await add(
        work,
        target_of(job),
        source=DatasetSource.DERIVED,
        size_bytes=file.size,
        sha256=file.sha256,
        content_type=file.content_type,
        produced_by_id=job.id,
        **values,
        **_ready_values(result),
    )
    output = WrittenOutput(version_id)
    if stored_items is not None:
        await items.add(work, version_id, stored_items.lines)
        await outputs.add_artifacts(work, job, [file, *stored_items.files], output.duplicate_keys, dataset_version_id=version_id)
    await _finish_version(work, job, output, result, processed, profile_file)
    return output


def _ready_values(result: Result) -> dict[str, Any]:
    return {
        "status": DatasetVersionStatus.READY,
        "ready_at": func.now(),
        "row_count": result["row_count"],
        "column_count": result["column_count"],
        "columns": result["columns"],
        "preview": result["preview"],
    }


async def _finish_version(
    work: Work,
    job: Row[Any],
    output: WrittenOutput,
    result: Result,
    processed: StoredFile,
    profile_file: StoredFile | None,
    proposal_id: UUID | None = None,
) -> None:
    await outputs.add_artifact(work, job, processed, output.duplicate_keys, dataset_version_id=output.id)
    profile_id = await add_profile(work, job, output.id, result["profile"], profile_file, output.duplicate_keys)
    assert profile_id is not None, "a version that was not READY has no profile"
    proposed = () if proposal_id is None else ((SchemaProposal, proposal_id),)
    await outputs.add_outputs(work, job, [(DatasetVersion, output.id), (DatasetProfile, profile_id), *proposed])


async def add_profile(
    work: Work, job: Row[Any], version_id: UUID, report: Result, file: StoredFile | None, duplicate_keys: list[str]
) -> UUID | None:
    """Insert the profile; its report is in the row unless it was stored as a file. None if the version has one by this profiler already.

    The file of a profile that was not inserted stays without a reference, and is collected.
    """
    report_values: dict[str, Any] = {"report": {"columns": report["columns"], "correlations": report["correlations"]}}
    if file is not None:
        object_id, stored_key = await outputs.store_object(work, job.owner_id, file)
        if stored_key != file.key:
            duplicate_keys.append(file.key)
        report_values = {"report_object_id": object_id}
    statement = upsert(DatasetProfile).values(
        version_id=version_id,
        profiler_version=report["profiler_version"],
        generation_time=report["generation_time"],
        is_exact=report["is_exact"],
        row_count=report["row_count"],
        duplicate_row_count=report["duplicate_row_count"],
        missing_cell_ratio=report["missing_cell_ratio"],
        **report_values,
    )
    statement = statement.on_conflict_do_nothing(index_elements=["version_id", "profiler_version"])
    return await work.scalar(statement.returning(DatasetProfile.id))


async def mark_failed(work: Work, version_id: UUID, issues: Sequence[Result], issue_count: int | None = None) -> None:
    """Mark the version of a failed ingest as FAILED, with its issues."""
    statement = update(DatasetVersion).where(DatasetVersion.id == version_id, DatasetVersion.status != DatasetVersionStatus.READY)
    await work.run(
        statement.values(
            status=DatasetVersionStatus.FAILED, issues=list(issues), issue_count=len(issues) if issue_count is None else issue_count
        )
    )


async def follow_ingest(work: Work, job: Row[Any]) -> None:
    """Update the status of the version that an INGEST, or another job that makes its file, reads; READY is written by `mark_ready`."""
    if job.dataset_version_id is None:
        return
    if job.status is JobStatus.FAILED:
        error = job.error
        issue = {"code": error["code"], "message": error["message"], "column": error.get("column"), "row": error.get("row")}
        await mark_failed(work, job.dataset_version_id, [issue])
        if error["code"] == UPLOAD_MISMATCH:  # its file is deleted, so a retry must be refused
            upload_update = update(Upload).where(Upload.version_id == job.dataset_version_id)
            await work.run(upload_update.values(state=UploadState.MISMATCHED))
    elif job.status in {JobStatus.PENDING, JobStatus.RUNNING, JobStatus.CANCELLED}:
        status = DatasetVersionStatus.PROCESSING if job.status is JobStatus.RUNNING else _waiting_status(job)
        version_update = update(DatasetVersion).where(DatasetVersion.id == job.dataset_version_id, DatasetVersion.status.in_(_UNFINISHED))
        await work.run(version_update.values(status=status, updated_at=func.clock_timestamp()))


def _waiting_status(job: Row[Any]) -> DatasetVersionStatus:
    """The status of a version before its job runs: the file of an INGEST has arrived, other jobs obtain it themselves."""
    return DatasetVersionStatus.UPLOADED if job.kind is JobKind.INGEST else DatasetVersionStatus.PENDING


async def reopen(work: Work, old: Row[Any], new: Row[Any]) -> None:
    """Reset the version of a retried job to what it was before. Raises `WrongState` if its file is gone or another job ingests it."""
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
    other_ingest = (Job.dataset_version_id == old.dataset_version_id) & (Job.kind == old.kind) & (Job.id != new.id)
    if await work.scalar(select(exists().where(other_ingest, Job.status.not_in(TERMINAL)))):
        raise WrongState(version.status.name, "This dataset version is being ingested by another job already. Wait for it, or cancel it.")
    version_update = update(DatasetVersion).where(DatasetVersion.id == old.dataset_version_id)
    await work.run(version_update.values(status=_waiting_status(new), issues=[], issue_count=0))
