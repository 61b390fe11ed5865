"""Files that jobs read: the table of a dataset version, and the files of a model version."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select

from db.core.sql import Column
from db.queries.artifacts import PROCESSED
from db.tables import Artifact, Dataset, DatasetVersion, Model, ModelVersion, StoredObject
from workers.runtime.attempt import Attempt

TABLE = "data.parquet"


async def load_version(attempt: Attempt, version_id: UUID, *columns: Column) -> Row[Any]:
    """Load the `name` of a version's dataset, its `number`, the object of its table, and these columns of both."""
    statement = (
        select(Dataset.name, DatasetVersion.number, StoredObject.object_key, StoredObject.size_bytes, StoredObject.sha256, *columns)
        .join(DatasetVersion, DatasetVersion.dataset_id == Dataset.id)
        .join(Artifact, (Artifact.dataset_version_id == DatasetVersion.id) & (Artifact.role == PROCESSED))
        .join(StoredObject, StoredObject.id == Artifact.object_id)
        .where(DatasetVersion.id == version_id)
    )
    (version,) = await attempt.database.rows(statement)
    return version


async def download_table(attempt: Attempt, version: Row[Any]) -> Path:
    """Download the table of a version that `load_version` loaded; see `Attempt.download`."""
    name = f"The file of version {version.number} of the dataset {version.name!r}"
    return await attempt.download(version, attempt.folder / TABLE, name, "Ingest its file again, as a new version.")


async def load_model_files(attempt: Attempt, model_version_id: UUID, roles: Collection[str]) -> dict[str, Row[Any]]:
    """Load those of a model version's files that it has, by role: their objects, with the `name` of the model and the `number` of the version."""
    statement = (
        select(Artifact.role, Model.name, ModelVersion.number, StoredObject.object_key, StoredObject.size_bytes, StoredObject.sha256)
        .join(StoredObject, StoredObject.id == Artifact.object_id)
        .join(ModelVersion, ModelVersion.id == Artifact.model_version_id)
        .join(Model, Model.id == ModelVersion.model_id)
        .where(ModelVersion.id == model_version_id, Artifact.role.in_(roles))
    )
    return {file.role: file for file in await attempt.database.rows(statement)}


async def download_model(attempt: Attempt, files: dict[str, Row[Any]]) -> dict[str, str]:
    """Download files that `load_model_files` loaded; return their paths by their role in lower case."""
    paths: dict[str, str] = {}
    for role, file in files.items():
        name = role.lower()
        what = f"The {name} of version {file.number} of the model {file.name!r}"
        paths[name] = str(await attempt.download(file, attempt.folder / name, what, "Use another version."))
    return paths
