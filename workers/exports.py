"""EXPORT: write a version in another format."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Row, select

from db.core.work import Work
from db.queries.artifacts import PROCESSED
from db.services import exports
from db.services.jobs import Failure
from db.tables import Artifact, Dataset, DatasetVersion, StoredObject
from db.tables.jobs import JobKind
from workers.registry import task
from workers.runtime.attempt import Attempt, Effects
from workers.runtime.failures import BodyFailed

BODY = "workers.ml.exports.export:export_dataset"
FETCH, WRITE, STORE = "fetch", "write", "store"
STAGES = {FETCH: "Fetch", WRITE: "Write", STORE: "Store"}  # with their titles
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
MAX_STEM = 80


@task(JobKind.EXPORT)
async def export(attempt: Attempt) -> Effects:
    """Write the files in a body, and store them under keys of this attempt; the settle adds them to the export."""
    job = attempt.job
    version = await _load_version(attempt)
    await attempt.begin_nodes([(key, key) for key in STAGES], STAGES)
    source, folder = attempt.folder / "data.parquet", attempt.folder / "out"
    folder.mkdir()
    attempt.progress(0, "Fetch")
    with attempt.stage(FETCH) as output:
        size, sha256 = await attempt.objects.download(version.object_key, source)
        if (size, sha256) != (version.size_bytes, version.sha256):
            message = f"The file of version {version.number} of the dataset {version.name!r} is damaged in the store. Upload the data again as a new version."
            raise BodyFailed(Failure("OBJECT_DAMAGED", message, retryable=False))
        output["bytes"] = size
    spec = {
        "parquet": str(source),
        "folder": str(folder),
        "stem": f"{safe_name(version.name)}-v{version.number}",
        "format": job.parameters["format"],
        "options": job.parameters["options"],
        "columns": version.columns,
        "problem_type": None if version.problem_type is None else version.problem_type.name,
        "source": _source(version),
    }
    with attempt.stage(WRITE) as output:
        result = await attempt.run_body(BODY, spec, span=(5, 90))
        output["rows"] = result["rows"]
    attempt.progress(90, "Store")
    prefix = f"exports/{job.owner_id}/{job.parameters['exportId']}/{attempt.key}"
    with attempt.stage(STORE) as output:
        files = await attempt.upload_all(
            [(Path(each["path"]), each["role"], each["filename"], each["content_type"]) for each in result["files"]], prefix
        )
        output["bytes"] = sum(file.size for file in files)

    async def effects(work: Work, settled: Row[Any]) -> Sequence[str]:
        return (await exports.complete(work, settled, files)).duplicate_keys

    return effects


def safe_name(name: str) -> str:
    """The name with ASCII letters, digits, dots, dashes and underscores alone, for files and other programs."""
    return _UNSAFE.sub("-", name).strip("-._")[:MAX_STEM].rstrip("-._") or "dataset"


def _source(version: Row[Any]) -> dict[str, Any]:
    of_owner = {key: value for key in ("license", "url") if isinstance(value := version.metadata.get(key), str)}
    return {
        "name": version.name,
        "number": version.number,
        "description": version.description,
        "license": of_owner.get("license"),
        "url": of_owner.get("url"),
        "published": version.ready_at.date().isoformat(),
    }


async def _load_version(attempt: Attempt) -> Row[Any]:
    """Load the version, its dataset and its Parquet object."""
    statement = (
        select(
            Dataset.name,
            Dataset.description,
            Dataset.problem_type,
            Dataset.meta.label("metadata"),
            DatasetVersion.number,
            DatasetVersion.columns,
            DatasetVersion.ready_at,
            StoredObject.object_key,
            StoredObject.size_bytes,
            StoredObject.sha256,
        )
        .join(DatasetVersion, DatasetVersion.dataset_id == Dataset.id)
        .join(Artifact, (Artifact.dataset_version_id == DatasetVersion.id) & (Artifact.role == PROCESSED))
        .join(StoredObject, StoredObject.id == Artifact.object_id)
        .where(DatasetVersion.id == attempt.job.dataset_version_id)
    )
    (version,) = await attempt.database.rows(statement)
    return version
