"""INGEST and GENERATE: a file that was uploaded, or is generated, is read into a ready dataset version."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from sqlalchemy import Row, select

from db.core.work import Work
from db.queries.artifacts import ITEMS, PREVIEWS, PROCESSED, RAW
from db.services import versions
from db.services.generators import GENERATORS
from db.services.jobs.checkpoints import Checkpoint
from db.services.outputs import StoredFile
from db.tables import Dataset, SchemaProposal, Upload
from db.tables.datasets import Modality, SchemaPolicy
from db.tables.jobs import JobKind
from db.tables.proposals import SchemaProposalStatus
from workers.ml import stages
from workers.ml.part_state import PART_CHECKPOINT_PREFIX, PartState, StoredPart
from workers.registry import task
from workers.runtime import body_files
from workers.runtime.attempt import Attempt, Effects
from workers.runtime.body_runner import BodyFailed

PARQUET = "application/vnd.apache.parquet"
MAX_PROFILE_IN_ROW = 1024**2
COPY, GENERATE, STORE = "copy", "generate", "store"  # the stages outside the body that reads
STAGES = {
    stages.READ: "Read",
    stages.PROFILE: "Profile",
    stages.PROPOSE: "Propose",
    STORE: "Store",
}  # with their titles; the one that obtains the file is before them


@dataclass(frozen=True, slots=True)
class Source:
    """The file that a version is read from, and what is known of it. `stage` is the key and the title of the stage that `obtain` does.

    `obtain` stores the file under a prefix that belongs to the attempt and writes it to a path; only what it stored is read, hashed and
    referred to. `upload_key` is an object that is not needed any more once the version is READY, or the file is not the one announced.
    `modality` is that of what is generated; a file from elsewhere is of its dataset's.
    """

    stage: tuple[str, str]
    obtain: Callable[[str, Path], Awaitable[StoredFile]]
    filename: str
    content_type: str
    size: int | None = None
    sha256: str | None = None
    upload_key: str | None = None
    obtained_percent: float = 5.0
    modality: Modality | None = None


@task(JobKind.INGEST)
async def ingest(attempt: Attempt) -> Effects:
    """Read an uploaded file. It is copied to a key without a presigned URL first."""
    version_id = attempt.job.dataset_version_id
    (upload,) = await attempt.database.rows(select(*Upload.__table__.c).where(Upload.version_id == version_id))

    async def copy(key: str, path: Path) -> StoredFile:
        attempt.progress(0, "Copy")
        await attempt.objects.copy(upload.object_key, attempt.track_key(key))
        attempt.progress(2, "Download")
        size, sha256 = await attempt.objects.download(key, path)
        return StoredFile(key, size, sha256, RAW, upload.filename, upload.content_type)

    source = Source(
        (COPY, "Copy"), copy, upload.filename, upload.content_type, upload.size_bytes, upload.sha256, upload_key=upload.object_key
    )
    return await read_version(attempt, source)


@task(JobKind.GENERATE)
async def generate(attempt: Attempt) -> Effects:
    """Generate a file of synthetic data, and read it as if it had been uploaded."""
    parameters = attempt.job.parameters
    generator = GENERATORS[parameters["generator"]]

    async def write(key: str, path: Path) -> StoredFile:
        spec = {**parameters, "target": str(path)}
        await attempt.run_body("workers.ml.generating.body:generate", spec, span=(0, 25), is_last=False)
        return await attempt.upload(path, key, RAW, generator.filename, generator.content_type)

    source = Source(
        (GENERATE, "Generate"), write, generator.filename, generator.content_type, obtained_percent=30.0, modality=generator.modality
    )
    return await read_version(attempt, source)


async def read_version(attempt: Attempt, source: Source) -> Effects:
    """Obtain the file of the job's version, read and profile it, and store its table.

    For a large file, the file, the parts read from it and the table are checkpoints for another attempt; if the job completes, file and table
    are its outputs.
    """
    job = attempt.job
    dataset = await _load_dataset(attempt)
    prefix = f"datasets/{job.owner_id}/{job.dataset_id}/{job.dataset_version_id}"
    path, folder = attempt.folder / "source", attempt.folder / "out"
    folder.mkdir()
    checkpoints = attempt.checkpoints
    checkpoints.key_prefix, checkpoints.content_type = f"{prefix}/processed/{attempt.key}", PARQUET
    stages = dict([source.stage]) | STAGES
    await attempt.begin_nodes([(key, key) for key in stages], stages)
    with attempt.stage(source.stage[0]) as output:
        raw, table, parts = await _load_checkpoints(attempt, source, path, folder / "processed.parquet")
        if raw is None:
            raw = await source.obtain(f"{prefix}/raw/{attempt.key}", path)
            if raw.size >= attempt.checkpoint_min_bytes:
                await attempt.save_checkpoint("raw", raw)
        output["bytes"] = raw.size
    spec = {
        "source": str(path),
        "folder": str(folder),
        "filename": source.filename,
        "size": raw.size if source.size is None else source.size,
        "sha256": source.sha256,
        "modality": (source.modality or dataset.modality).name,
        "reading": job.parameters.get("reading"),
        "declared": declared(dataset),
        "contract": None
        if dataset.accepted_columns is None
        else {"columns": dataset.accepted_columns, "fails": dataset.schema_policy is SchemaPolicy.FAIL},
        "actual_sha256": raw.sha256,
        "checkpointing": {"interval": attempt.checkpoint_interval, "parts": parts} if raw.size >= attempt.checkpoint_min_bytes else None,
        "table": None if table is None else table.state["body"],
    }
    try:
        result = await attempt.run_body("workers.ml.ingest:ingest", spec, span=(source.obtained_percent, 95))
    except BodyFailed as error:
        if error.failure.code == versions.UPLOAD_MISMATCH and source.upload_key is not None:
            attempt.delete_on_failure(source.upload_key)
        raise
    attempt.progress(95, "Store")
    with attempt.stage(STORE) as output:
        stem = Path(source.filename).stem
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
        item_lines, item_files = await store_items(attempt, result.get("items"), prefix, stem)
        output["bytes"] = processed.size

    async def effects(work: Work, settled: Row[Any]) -> Sequence[str]:
        assert job.dataset_version_id is not None
        written = await versions.mark_ready(work, settled, job.dataset_version_id, result, raw, processed, profile, item_lines, item_files)
        return written.duplicate_keys if source.upload_key is None else [*written.duplicate_keys, source.upload_key]

    return effects


async def _load_dataset(attempt: Attempt) -> Row[Any]:
    """Load the dataset with the accepted schema as it is now: one that is accepted while the file is read counts for the next version."""
    accepted = (SchemaProposal.dataset_id == Dataset.id) & (SchemaProposal.status == SchemaProposalStatus.ACCEPTED)
    statement = (
        select(
            Dataset.modality,
            Dataset.target_column,
            Dataset.problem_type,
            Dataset.schema_policy,
            SchemaProposal.columns.label("accepted_columns"),
        )
        .outerjoin(SchemaProposal, accepted)
        .where(Dataset.id == attempt.job.dataset_id)
    )
    (dataset,) = await attempt.database.rows(statement)
    return dataset


def declared(dataset: Row[Any]) -> dict[str, str | None]:
    """What the dataset says of itself, as a `Declared`."""
    problem_type = dataset.problem_type
    return {"target_column": dataset.target_column, "problem_type": None if problem_type is None else problem_type.name}


async def store_items(attempt: Attempt, result: dict[str, Any] | None, prefix: str, stem: str) -> tuple[IO[bytes] | None, list[StoredFile]]:
    """Open the file of the items, and store those with bytes of items and with previews, if there are any."""
    if result is None:
        return None, []
    # The settle reads it when the attempt's folder is gone already: an open file stays readable.
    item_lines = body_files.open_file(attempt.folder, Path(result["file"]))
    files = [
        (Path(result[name]), role, f"{stem}.{name}", "application/octet-stream")
        for name, role in (("pack", ITEMS), ("previews", PREVIEWS))
        if result[name] is not None
    ]
    return item_lines, await attempt.upload_all(files, f"{prefix}/processed/{attempt.key}") if files else []


async def _load_checkpoints(
    attempt: Attempt, source: Source, path: Path, parquet: Path
) -> tuple[StoredFile | None, Checkpoint | None, list[StoredPart]]:
    """Load the file and the table read from it, or parts of the table. Without the file, the rest is dropped: its source is unknown."""
    checkpoints = attempt.checkpoints
    table = await checkpoints.load("table", parquet)
    # Parts before the copy, so that progress resumes from the furthest point at once.
    parts = await checkpoints.load_series(PART_CHECKPOINT_PREFIX, parquet.parent, _is_next_part) if table is None else []
    raw = await checkpoints.load("raw", path if table is None else None)
    if raw is None:
        if table is not None:
            await checkpoints.discard("table", "The table of an earlier attempt cannot be used without its source file.")
        await checkpoints.drop_series(PART_CHECKPOINT_PREFIX)
        return None, None, []
    copy = _stored_file(raw, RAW, source.filename, source.content_type)
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
