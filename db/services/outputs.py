"""Outputs of jobs, written in the transaction that settles the job: all become visible with COMPLETED, or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Row, insert
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.base import Table
from db.core.work import Work
from db.services import quota
from db.services.jobs.kinds import spec_of
from db.tables import Artifact, JobDocument, JobOutput, StoredObject

Result = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A stored object whose size and SHA-256 (hex) were checked, and its file name.

    `path` is its place among the files of a run; `step` is that of the training that a checkpoint is of.
    """

    key: str
    size: int
    sha256: str
    role: str
    filename: str
    content_type: str
    path: str | None = None
    step: int | None = None


@dataclass(frozen=True, slots=True)
class WrittenOutput:
    """The id of the written row, and the keys of objects whose bytes were stored before: delete those objects after the commit."""

    id: UUID
    duplicate_keys: list[str] = field(default_factory=list[str])


async def store_object(work: Work, owner_id: UUID, file: StoredFile) -> tuple[UUID, str]:
    """Insert the object unless its owner has one with the same bytes; return the id and key of the row."""
    insertion = upsert(StoredObject).values(owner_id=owner_id, object_key=file.key, sha256=file.sha256, size_bytes=file.size)
    # The update changes nothing, but makes the statement lock and return an existing row.
    upsert_statement = insertion.on_conflict_do_update(index_elements=["owner_id", "sha256", "size_bytes"], set_={"size_bytes": file.size})
    stored = await work.one(upsert_statement.returning(StoredObject.id, StoredObject.object_key))
    return stored.id, stored.object_key


async def add_artifact(
    work: Work, job: Row[Any], file: StoredFile, duplicate_keys: list[str], attempt: int | None = None, **parent: UUID
) -> UUID:
    """Add a file of a dataset version or model version (`parent`), or of the job itself, with the `attempt` that wrote it."""
    object_id, stored_key = await store_object(work, job.owner_id, file)
    if stored_key != file.key:
        duplicate_keys.append(file.key)
    values = {**_artifact_values(job, file, object_id), "attempt": attempt, **parent}
    return await work.scalar(insert(Artifact).values(values).returning(Artifact.id))


async def add_artifacts(
    work: Work, job: Row[Any], files: Sequence[StoredFile], duplicate_keys: list[str], attempt: int | None = None, **parent: UUID
) -> None:
    """Add several files as `add_artifact` does, in two statements however many there are."""
    if not files:
        return
    # Each row once, as one statement may not change a row twice; in one order, so that jobs with equal files do not wait for each other in a circle.
    distinct = sorted({(file.sha256, file.size): file for file in reversed(files)}.items())
    insertion = upsert(StoredObject)
    upsert_statement = insertion.on_conflict_do_update(
        index_elements=["owner_id", "sha256", "size_bytes"], set_={"size_bytes": insertion.excluded.size_bytes}
    ).returning(StoredObject.id, StoredObject.object_key, StoredObject.sha256, StoredObject.size_bytes)
    rows = [{"owner_id": job.owner_id, "object_key": file.key, "sha256": sha256, "size_bytes": size} for (sha256, size), file in distinct]
    stored = {(row.sha256, row.size_bytes): row for row in await work.all(upsert_statement, rows)}
    duplicate_keys += [file.key for file in files if stored[file.sha256, file.size].object_key != file.key]
    rest = {"attempt": attempt, **parent}
    await work.run(insert(Artifact), [{**_artifact_values(job, file, stored[file.sha256, file.size].id), **rest} for file in files])


def _artifact_values(job: Row[Any], file: StoredFile, object_id: UUID) -> dict[str, Any]:
    return {
        "owner_id": job.owner_id,
        "object_id": object_id,
        "job_id": job.id,
        "role": file.role,
        "filename": file.filename,
        "content_type": file.content_type,
        "path": file.path,
        "step": file.step,
    }


async def add_result(work: Work, job_id: UUID, result: Result) -> None:
    """Store what the job answers, as `Job.result` shows it."""
    insertion = upsert(JobDocument).values(job_id=job_id, result=result)
    await work.run(insertion.on_conflict_do_update(index_elements=[JobDocument.job_id], set_={"result": insertion.excluded.result}))


async def add_outputs(work: Work, job: Row[Any], outputs: Sequence[tuple[type[Table], UUID]], *, first: int = 0) -> None:
    """Record the job's outputs, as (table, id of the row), in this order; the rows were written in this transaction. Their positions begin at `first`.

    Before the commit, `QuotaExceeded` is raised if with them the job's owner would store more than the quota allows.

    Raises `ValueError` for a table that the job's kind does not declare among its outputs.
    """
    for position, (table, target_id) in enumerate(outputs, start=first):
        if table not in spec_of(job.kind).outputs:
            raise ValueError(f"The job kind {job.kind.name} does not declare {table.__tablename__} as outputs.")
        await work.run(insert(JobOutput).values(job_id=job.id, position=position, kind=table.output_kind, target_id=target_id))
    quota.check_before_commit(work, job.owner_id)
