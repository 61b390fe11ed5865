"""EXPORT: write a version in another format."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select

from db.core.work import Work
from db.queries.artifacts import MODEL, SIGNATURE
from db.services import exports
from db.services.jobs import Failure
from db.tables import Dataset, DatasetVersion, Export
from db.tables.jobs import JobKind
from workers.fetching import download_model, download_table, load_model_files, load_version
from workers.items import download_detailed_items, download_items, reads_contents
from workers.registry import task
from workers.runtime.attempt import Attempt, Effects
from workers.runtime.failures import BodyFailed

DATASET_BODY, MODEL_BODY = "workers.ml.exports.export:export_dataset", "workers.ml.exports.onnx_model:export_model"
FETCHED = ("parquet", "model", "signature")  # the files that a body reads, as its spec names them
FETCH, WRITE, STORE = "fetch", "write", "store"
STAGES = {FETCH: "Fetch", WRITE: "Write", STORE: "Store"}  # with their titles
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
MAX_STEM = 80


@task(JobKind.EXPORT)
async def export(attempt: Attempt) -> Effects:
    """Write the files in a body, and store them under keys of this attempt; the settle adds them to the export."""
    job = attempt.job
    export_id = UUID(job.parameters["exportId"])
    (parent,) = await attempt.database.rows(select(Export.model_version_id).where(Export.id == export_id))
    await attempt.begin_nodes([(key, key) for key in STAGES], STAGES)
    folder = attempt.folder / "out"
    folder.mkdir()
    attempt.progress(0, "Fetch")
    with attempt.stage(FETCH) as output:
        body, spec = await (_fetch_data(attempt) if parent.model_version_id is None else _fetch_model(attempt, parent.model_version_id))
        output["bytes"] = _size(spec)
    with attempt.stage(WRITE) as output:
        result = await attempt.run_body(body, {**spec, "folder": str(folder)}, span=(5, 90))
        output["rows"] = result["rows"]
    attempt.progress(90, "Store")
    prefix = f"exports/{job.owner_id}/{export_id}/{attempt.key}"
    with attempt.stage(STORE) as output:
        files = await attempt.upload_all(
            [(Path(each["path"]), each["role"], each["filename"], each["content_type"]) for each in result["files"]], prefix
        )
        output["bytes"] = sum(file.size for file in files)

    async def effects(work: Work, settled: Row[Any]) -> Sequence[str]:
        return (await exports.complete(work, settled, files)).duplicate_keys

    return effects


def _size(spec: dict[str, Any]) -> int:
    paths = [*(spec.get(name) for name in FETCHED), *spec.get("items", {}).values()]
    return sum(Path(path).stat().st_size for path in paths if path is not None)


async def _fetch_data(attempt: Attempt) -> tuple[str, dict[str, Any]]:
    job = attempt.job
    columns = (DatasetVersion.columns, DatasetVersion.ready_at, Dataset.description, Dataset.problem_type, Dataset.modality)
    version = await load_version(attempt, job.dataset_version_id, *columns, Dataset.meta.label("metadata"))
    spec: dict[str, Any] = {
        "parquet": str(await download_table(attempt, version)),
        "stem": f"{safe_name(version.name)}-v{version.number}",
        "format": job.parameters["format"],
        "options": job.parameters["options"],
        "columns": version.columns,
        "problem_type": None if version.problem_type is None else version.problem_type.name,
        "source": _source(version),
        "modality": version.modality.name,
    }
    if job.parameters["options"].get("contents"):
        spec["items"] = await download_detailed_items(attempt, job.dataset_version_id)
    return DATASET_BODY, spec


async def _fetch_model(attempt: Attempt, model_version_id: UUID) -> tuple[str, dict[str, Any]]:
    files = await load_model_files(attempt, model_version_id, (MODEL, SIGNATURE))
    if files.keys() != {MODEL, SIGNATURE}:
        message = "The model version has no model file of ours with a signature, so it cannot be converted. Download its own files instead."
        raise BodyFailed(Failure("UNSUPPORTED", message, retryable=False))
    model = files[MODEL]
    spec: dict[str, Any] = {
        **await download_model(attempt, files),
        "parquet": str(await download_table(attempt, await load_version(attempt, attempt.job.dataset_version_id))),
        "stem": f"{safe_name(model.name)}-v{model.number}",
        "name": f"Version {model.number} of the model {model.name!r}",
    }
    version_id = attempt.job.dataset_version_id
    if version_id is not None and reads_contents(spec["signature"]):
        spec["items"] = await download_items(attempt, version_id)
    return MODEL_BODY, spec


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
