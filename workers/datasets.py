"""INGEST: reads an uploaded file into a ready dataset version."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Row, select

from db.core.work import Work
from db.queries.artifacts import PROCESSED, RAW
from db.services import versions
from db.services.jobs.checkpoints import Checkpoint
from db.services.outputs import StoredFile
from db.tables import Upload
from db.tables.jobs import JobKind
from workers.ml import stages
from workers.ml.part_state import PART_CHECKPOINT_PREFIX, PartState, StoredPart
from workers.registry import task
from workers.runtime.attempt import Attempt, Effects
from workers.runtime.body_runner import BodyFailed

PARQUET = "application/vnd.apache.parquet"
MAX_PROFILE_IN_ROW = 1024**2
COPY, STORE = "copy", "store"  # the stages outside the body
STAGES = {COPY: "Copy", stages.READ: "Read", stages.PROFILE: "Profile", STORE: "Store"}  # with their titles


@task(JobKind.INGEST)
async def ingest(attempt: Attempt) -> Effects:
    """Copy the upload to a key without a presigned URL; only that copy is read, hashed and referred to.

    For a large file, the copy, the parts read from it and the table are checkpoints for another attempt; if the job completes, copy and
    table are its outputs.
    """
    job = attempt.job
    (upload,) = await attempt.database.rows(select(*Upload.__table__.c).where(Upload.version_id == job.dataset_version_id))
    prefix = f"datasets/{job.owner_id}/{job.dataset_id}/{job.dataset_version_id}"
    source, folder = attempt.folder / "source", attempt.folder / "out"
    folder.mkdir()
    checkpoints = attempt.checkpoints
    checkpoints.key_prefix, checkpoints.content_type = f"{prefix}/processed/{attempt.key}", PARQUET
    await attempt.begin_nodes([(key, key) for key in STAGES], STAGES)
    with attempt.stage(COPY) as output:
        raw, table, parts = await _load_checkpoints(attempt, upload, source, folder / "processed.parquet")
        if raw is None:
            raw = await _copy(attempt, upload, f"{prefix}/raw/{attempt.key}", source)
            if raw.size >= attempt.checkpoint_min_bytes:
                await attempt.save_checkpoint("raw", raw)
        output["bytes"] = raw.size
    spec = {
        "source": str(source),
        "folder": str(folder),
        "filename": upload.filename,
        "size": upload.size_bytes,
        "sha256": upload.sha256,
        "reading": job.parameters.get("reading"),
        "actual_sha256": raw.sha256,
        "checkpointing": {"interval": attempt.checkpoint_interval, "parts": parts} if raw.size >= attempt.checkpoint_min_bytes else None,
        "table": None if table is None else table.state["body"],
    }
    try:
        result = await attempt.run_body("workers.ml.ingest:ingest", spec, span=(5, 95))
    except BodyFailed as error:
        if error.failure.code == versions.UPLOAD_MISMATCH:
            attempt.delete_on_failure(upload.object_key)
        raise
    attempt.progress(95, "Store")
    with attempt.stage(STORE) as output:
        stem = Path(upload.filename).stem
        table = table or await checkpoints.wait_stored("table")
        if table is None:
            processed = await attempt.upload(
                Path(result["parquet"]), f"{prefix}/processed/{attempt.key}", PROCESSED, f"{stem}.parquet", PARQUET
            )
        else:
            processed = _stored_file(table, PROCESSED, f"{stem}.parquet", PARQUET)
            attempt.retain_key(processed.key)
        attempt.retain_key(raw.key)
        profile = await store_profile(attempt, prefix, result["profile"], f"{stem}.profile.json")
        output["bytes"] = processed.size

    async def effects(work: Work, settled: Row[Any]) -> Sequence[str]:
        assert job.dataset_version_id is not None
        written = await versions.mark_ready(work, settled, job.dataset_version_id, result, raw, processed, profile)
        return [*written.duplicate_keys, upload.object_key]

    return effects


async def _load_checkpoints(
    attempt: Attempt, upload: Row[Any], source: Path, parquet: Path
) -> tuple[StoredFile | None, Checkpoint | None, list[StoredPart]]:
    """Load the copy of the upload and the table read from it, or parts of the table. Without the copy, the rest is dropped: its source is unknown."""
    checkpoints = attempt.checkpoints
    table = await checkpoints.load("table", parquet)
    # Parts before the copy, so that progress resumes from the furthest point at once.
    parts = await checkpoints.load_series(PART_CHECKPOINT_PREFIX, parquet.parent, _is_next_part) if table is None else []
    raw = await checkpoints.load("raw", source if table is None else None)
    if raw is None:
        if table is not None:
            await checkpoints.discard("table", "The table of an earlier attempt cannot be used without its source file.")
        await checkpoints.drop_series(PART_CHECKPOINT_PREFIX)
        return None, None, []
    copy = _stored_file(raw, RAW, upload.filename, upload.content_type)
    if table is not None:
        return copy, table, []
    await checkpoints.resume("raw", "Resumes with the copy of the file from an earlier attempt.")
    return copy, None, [{**_part(part.checkpoint), "path": str(part.path)} for part in parts]


def _is_next_part(previous: Checkpoint | None, part: Checkpoint) -> bool:
    """Whether the part is of the same pass over the file and starts where the previous one ends."""
    if previous is None:
        return _part(part)["after"] == 0
    return (_part(previous)["passes"], _part(previous)["rows"]) == (_part(part)["passes"], _part(part)["after"])


def _part(checkpoint: Checkpoint) -> PartState:
    return cast("PartState", checkpoint.state["body"])


async def _copy(attempt: Attempt, upload: Row[Any], key: str, source: Path) -> StoredFile:
    attempt.progress(0, "Copy")
    await attempt.objects.copy(upload.object_key, attempt.track_key(key))
    attempt.progress(2, "Download")
    size, sha256 = await attempt.objects.download(key, source)
    return StoredFile(key, size, sha256, RAW, upload.filename, upload.content_type)


def _stored_file(checkpoint: Checkpoint, role: str, filename: str, content_type: str) -> StoredFile:
    assert checkpoint.object_key is not None
    assert checkpoint.size is not None
    assert checkpoint.sha256 is not None
    return StoredFile(checkpoint.object_key, checkpoint.size, checkpoint.sha256, role, filename, content_type)


async def store_profile(attempt: Attempt, prefix: str, report: dict[str, Any], filename: str) -> StoredFile | None:
    """Upload a profile larger than 1 MiB; None for a smaller one, which is stored in its row."""
    body = json.dumps(report).encode()
    if len(body) <= MAX_PROFILE_IN_ROW:
        return None
    path = attempt.folder / "profile.json"
    path.write_bytes(body)
    return await attempt.upload(path, f"{prefix}/profile/{attempt.key}", "PROFILE", filename, "application/json")
