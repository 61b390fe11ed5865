"""INGEST: an uploaded file becomes a dataset version that can be used."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Row, select

from db.core.work import Work
from db.queries.artifacts import PROCESSED, RAW
from db.services import outputs
from db.services.outputs import StoredFile
from db.tables import Upload
from workers.runtime.attempt import Attempt, Effects
from workers.runtime.bodies import BodyFailed

PARQUET = "application/vnd.apache.parquet"
PROFILE_IN_ROW = 1024**2


async def ingest(attempt: Attempt) -> Effects:
    """Copies the upload to a key that no URL names, and only that copy is read, hashed and referred to."""
    job = attempt.job
    (upload,) = await attempt.database.rows(select(*Upload.__table__.c).where(Upload.version_id == job.dataset_version_id))
    place = f"datasets/{job.owner_id}/{job.dataset_id}/{job.dataset_version_id}"
    raw_key = attempt.write_key(f"{place}/raw/{attempt.key}")
    attempt.progress(0, "Copying")
    await attempt.objects.copy(upload.object_key, raw_key)
    source, folder = attempt.folder / "source", attempt.folder / "out"
    folder.mkdir()
    attempt.progress(2, "Fetching")
    await attempt.objects.download(raw_key, source)
    spec = {
        "source": str(source),
        "folder": str(folder),
        "filename": upload.filename,
        "size": upload.size_bytes,
        "sha256": upload.sha256,
    }
    try:
        result = await attempt.body("workers.ml.ingest:ingest", spec, span=(5, 95))
    except BodyFailed as failed:
        if failed.failure.code == "UPLOAD_MISMATCH":
            attempt.forsake(upload.object_key)
        raise
    attempt.progress(95, "Storing")
    stem = Path(upload.filename).stem
    raw = StoredFile(raw_key, result["size"], result["sha256"], RAW, upload.filename, upload.content_type)
    processed = await attempt.upload(Path(result["parquet"]), f"{place}/processed/{attempt.key}", PROCESSED, f"{stem}.parquet", PARQUET)
    profile = await store_profile(attempt, place, result["profile"], f"{stem}.profile.json")

    async def effects(work: Work, settled: Row[Any]) -> Sequence[str]:
        assert job.dataset_version_id is not None
        written = await outputs.version_ready(work, settled, job.dataset_version_id, result, raw, processed, profile)
        return [*written.surplus, upload.object_key]

    return effects


async def store_profile(attempt: Attempt, place: str, report: dict[str, Any], filename: str) -> StoredFile | None:
    """A report of up to 1 MiB lies in its row; a larger one goes to the store."""
    body = json.dumps(report).encode()
    if len(body) <= PROFILE_IN_ROW:
        return None
    path = attempt.folder / "profile.json"
    path.write_bytes(body)
    return await attempt.upload(path, f"{place}/profile/{attempt.key}", "PROFILE", filename, "application/json")
