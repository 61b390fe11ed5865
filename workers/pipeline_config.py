"""What a job of a pipeline ran, as a file beside its results: enough to report it, and to run it again elsewhere."""

from __future__ import annotations

import platform
from collections.abc import Awaitable, Callable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

import orjson
from sqlalchemy import Row, select

from db.errors import Unavailable
from db.queries.artifacts import CONFIG, PROCESSED
from db.services.outputs import StoredFile
from db.tables import Artifact, Dataset, DatasetVersion, JobInput, StoredObject
from workers.runtime.attempt import Attempt

T = TypeVar("T")

PACKAGES = ("trellis", "numpy", "polars", "pyarrow", "scikit-learn", "lightgbm", "xgboost", "xgboost-cpu", "skops")


async def store_config(attempt: Attempt, data: Row[Any]) -> StoredFile:
    """Store the file under a key of the attempt; `data` has the definition, and names of the pipeline."""
    job = attempt.job
    statement = (
        select(DatasetVersion.id, DatasetVersion.number, Dataset.name, StoredObject.sha256, StoredObject.size_bytes)
        .join(JobInput, JobInput.dataset_version_id == DatasetVersion.id)
        .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
        .join(Artifact, (Artifact.dataset_version_id == DatasetVersion.id) & (Artifact.role == PROCESSED))
        .join(StoredObject, StoredObject.id == Artifact.object_id)
        .where(JobInput.job_id == job.id)
        .order_by(DatasetVersion.id)
    )
    document = {
        "job": f"job_{job.id.hex}",
        "kind": job.kind.name,
        "attempt": job.attempt,
        "pipeline": {"id": f"pipeline_{job.pipeline_id.hex}", "name": data.pipeline_name, "version": data.pipeline_version},
        "snapshot": {"id": f"snapshot_{job.snapshot_id.hex}", "sha256": data.snapshot_sha256, "definition": data.definition},
        "parameters": job.parameters["parameters"],
        "seed": job.parameters["seed"],
        "inputs": [
            {
                "datasetVersion": f"version_{row.id.hex}",
                "dataset": row.name,
                "number": row.number,
                "sha256": row.sha256,
                "sizeBytes": row.size_bytes,
            }
            for row in await attempt.database.rows(statement)
        ],
        "packages": _packages(),
    }
    path = attempt.folder / "config.json"
    path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return await attempt.upload(path, f"jobs/{job.owner_id}/{job.id}/{attempt.key}/config", CONFIG, "config.json", "application/json")


async def finished(first: Awaitable[T], again: Callable[[], Awaitable[T]]) -> T:
    """The result of a first try that was begun with the body, or of another one if the store was away then, which may be hours ago."""
    try:
        return await first
    except Unavailable:
        return await again()


@cache
def _packages() -> dict[str, str]:
    """The versions of Python and of the packages that compute; bodies have those of their worker."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # an extra
            continue
    return versions
