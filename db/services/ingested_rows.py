"""Rows that a program sends become a version of their own: they are stored as a file of JSON lines, which an INGEST job reads."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import func, insert, select

from db.core.audit import ref
from db.core.checks import Checks
from db.core.viewer import Viewer
from db.core.work import Database, Work
from db.errors import Unavailable
from db.services import datasets, idempotency, jobs, quota, versions
from db.services.uploads import INGEST
from db.stores.objects import ObjectStore
from db.tables import Upload
from db.tables.datasets import DatasetSource, DatasetVersionStatus, UploadState

OPERATION = "ingestRows"
MAX_ROWS = 10_000
FILENAME = "rows.jsonl"
CONTENT_TYPE = "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class NewRows:
    """The rows of a new version, each an object of cells by column."""

    dataset_id: UUID
    rows: Sequence[Any]
    label: str | None = None
    idempotency_key: str | None = None


async def ingest(database: Database, objects: ObjectStore, viewer: Viewer, new: NewRows) -> tuple[UUID, UUID]:
    """Store the rows and submit the job that reads them; return the ids of version and job. No transaction is open while they are stored.

    Raises `NotFound`, `InvalidInput`, `Conflict` or `QuotaExceeded`.
    """
    viewer.require_write()
    body, label = _validated(new)
    digest = sha256(body).hexdigest()
    request_input = {"dataset_id": str(new.dataset_id), "sha256": digest, "label": new.label}
    async with database.work(viewer) as work:
        stored_answer = await idempotency.recall(work, OPERATION, new.idempotency_key, request_input, claim=False)
        if stored_answer is not None:
            return UUID(stored_answer["version"]), UUID(stored_answer["job"])
        owner_id = (await datasets.lock(work, new.dataset_id)).owner_id
        viewer.require_write_in(owner_id)
        upload_id: UUID = await work.scalar(select(func.uuidv7()))
    key = f"uploads/{owner_id}/{upload_id}"
    await objects.write(key, body, CONTENT_TYPE)
    is_used = False
    try:
        async with database.work(viewer) as work:
            stored_answer = await idempotency.recall(work, OPERATION, new.idempotency_key, request_input)
            if stored_answer is None:
                stored_answer = await _add(work, new, label, _StoredRows(upload_id, key, len(body), digest))
                is_used = True
    except Unavailable:
        raise  # the commit may have succeeded, and then its job needs the object; otherwise it is collected as an orphan
    except BaseException:
        await _remove(objects, key)
        raise
    if not is_used:
        await _remove(objects, key)
    return UUID(stored_answer["version"]), UUID(stored_answer["job"])


@dataclass(frozen=True, slots=True)
class _StoredRows:
    upload_id: UUID
    key: str
    size: int
    sha256: str


async def _add(work: Work, new: NewRows, label: str | None, stored: _StoredRows) -> dict[str, Any]:
    dataset = await datasets.lock(work, new.dataset_id)
    quota.check_before_commit(work, dataset.owner_id, stored.size)
    version_id, number = await versions.add(
        work,
        dataset.id,
        label=label,
        status=DatasetVersionStatus.UPLOADED,
        source=DatasetSource.API,
        original_filename=FILENAME,
        content_type=CONTENT_TYPE,
        size_bytes=stored.size,
        sha256=stored.sha256,
    )
    job = await jobs.submit(
        work,
        jobs.NewJob(
            owner_id=dataset.owner_id,
            kind=INGEST.kind,
            queue=jobs.queue_for(INGEST.kind, dataset.modality),
            parameters={"filename": FILENAME, "sizeBytes": stored.size, "sha256": stored.sha256},
            dataset_id=dataset.id,
            dataset_version_id=version_id,
        ),
    )
    upload = insert(Upload).values(
        id=stored.upload_id,
        owner_id=dataset.owner_id,
        created_by_id=work.viewer.maker_id,
        version_id=version_id,
        state=UploadState.COMPLETED,
        object_key=stored.key,
        filename=FILENAME,
        content_type=CONTENT_TYPE,
        size_bytes=stored.size,
        sha256=stored.sha256,
        job_id=job.id,
        expires_at=func.now(),
        completed_at=func.now(),
    )
    await work.run(upload)
    answer = {"version": str(version_id), "job": str(job.id)}
    await idempotency.remember(work, new.idempotency_key, answer)
    ingested = {"dataset": ref("dataset", dataset.id), "number": number, "label": label, "rows": len(new.rows), "sha256": stored.sha256}
    work.record("ingest_rows", "version", version_id, dataset.owner_id, after={**ingested, "job": ref("job", job.id)})
    return answer


async def _remove(objects: ObjectStore, key: str) -> None:
    with suppress(Unavailable):
        await objects.delete([key])


def _validated(new: NewRows) -> tuple[bytes, str | None]:
    """Return the rows as JSON lines, and the label."""
    checks = Checks()
    label = None if new.label is None else checks.name(new.label, "label")
    if not 1 <= len(new.rows) <= MAX_ROWS:
        checks.add("rows", message=f"These are {len(new.rows)} rows; 1 to {MAX_ROWS:,} make a version. Upload a file for more.")
    lines: list[bytes] = []
    for index, row in enumerate(new.rows[:MAX_ROWS]):
        if not isinstance(row, dict) or not row:
            checks.add("rows", index, message="A row is a JSON object of cells by column, with one cell or more.")
            continue
        try:
            lines.append(orjson.dumps(row))
        except (TypeError, orjson.JSONEncodeError):
            checks.add("rows", index, message="This is not JSON that can be kept; integers must fit in 64 bits.")
    checks.raise_if_invalid()
    return b"\n".join(lines) + b"\n", label
