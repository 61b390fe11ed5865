"""Queries of artifacts. Size and checksum are those of the stored object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, Text, Uuid, cast, column, func, literal_column, null, or_, select, union_all

from db.core.batch import rows_by_key, rows_by_parent
from db.core.criteria import Equals, Filters
from db.core.listing import Listing
from db.core.page import Sort
from db.core.policy import visible
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.core.work import Database
from db.tables import (
    Artifact,
    Dataset,
    DatasetItem,
    DatasetVersion,
    Experiment,
    Explanation,
    Export,
    Model,
    ModelVersion,
    Run,
    StoredObject,
)

RAW = "RAW"
PROCESSED = "PROCESSED"
ITEMS = "ITEMS"
"""The pack: the bytes of items that lie in no place of the uploaded file."""
PREVIEWS = "PREVIEWS"
"""The previews of a version's items, one after the other."""
PREVIEW, PREVIEW_CONTENT_TYPE = "PREVIEW", "image/webp"
EXPLANATION_DATA = "EXPLANATION_DATA"
"""The data of an explanation that are too large for its row."""
LOG = "LOG"
CONFIG = "CONFIG"
"""What a job of a pipeline ran, as JSON."""
ARTIFACT = "ARTIFACT"
"""A file that the code of an external run sent."""
MODEL = "MODEL"
SIGNATURE = "SIGNATURE"
RESULTS = "RESULTS"
"""The rows that a model was measured on, as the model takes them."""

COLUMNS = (
    Artifact.id,
    Artifact.owner_id,
    Artifact.dataset_version_id,
    Artifact.model_version_id,
    Artifact.export_id,
    Artifact.explanation_id,
    Artifact.job_id,
    Artifact.role,
    Artifact.filename,
    Artifact.content_type,
    Artifact.path,
    Artifact.step,
    Artifact.created_at,
    StoredObject.object_key,
    StoredObject.size_bytes,
    StoredObject.sha256,
)


IS_OF_RUN = func.num_nonnulls(Artifact.dataset_version_id, Artifact.model_version_id, Artifact.export_id, Artifact.explanation_id) == 0
"""Whether an artifact that has a run is a part of that, a file of an external run, and of nothing else."""


def artifacts(viewer: Viewer) -> Rows:
    """The artifacts a viewer may see. The files of a deleted dataset, model or external run, and of an expired export, are not served, by lookups or by edges."""
    version_id = func.coalesce(Artifact.dataset_version_id, Export.dataset_version_id, Explanation.dataset_version_id)
    model_version_id = func.coalesce(Artifact.model_version_id, Export.model_version_id, Explanation.model_version_id)
    return (
        select(*COLUMNS)
        .join(StoredObject, StoredObject.id == Artifact.object_id)
        .outerjoin(Export, Export.id == Artifact.export_id)
        .outerjoin(Explanation, Explanation.id == Artifact.explanation_id)
        .outerjoin(DatasetVersion, DatasetVersion.id == version_id)
        .outerjoin(Dataset, Dataset.id == DatasetVersion.dataset_id)
        .outerjoin(ModelVersion, ModelVersion.id == model_version_id)
        .outerjoin(Model, Model.id == ModelVersion.model_id)
        .outerjoin(Run, (Run.id == Artifact.run_id) & IS_OF_RUN)
        .outerjoin(Experiment, Experiment.id == Run.experiment_id)
        .where(
            visible(Artifact, viewer),
            Run.deleted_at.is_(None),
            Experiment.deleted_at.is_(None),
            Dataset.deleted_at.is_(None),
            DatasetVersion.deleted_at.is_(None),
            Model.deleted_at.is_(None),
            ModelVersion.deleted_at.is_(None),
        )
        .where(or_(Artifact.export_id.is_(None), Export.expires_at > func.now()))
    )


def _raw(viewer: Viewer) -> Rows:
    return artifacts(viewer).where(Artifact.role == RAW)


def _processed(viewer: Viewer) -> Rows:
    return artifacts(viewer).where(Artifact.role == PROCESSED)


def _config(viewer: Viewer) -> Rows:
    return artifacts(viewer).where(Artifact.role == CONFIG)


def previews(viewer: Viewer) -> Rows:
    """The previews of items a viewer may see, as artifacts with the id of their item. They have no object of their own, so their key is empty."""
    stem = func.regexp_replace(DatasetItem.key, r"^.*/|\.[^./]*$", "", "g")
    values = {
        "id": DatasetItem.id,
        "owner_id": Dataset.owner_id,
        "dataset_version_id": DatasetItem.version_id,
        "role": literal_column(f"'{PREVIEW}'", Text),
        "filename": stem + ".webp",
        "content_type": literal_column(f"'{PREVIEW_CONTENT_TYPE}'", Text),
        "created_at": DatasetVersion.created_at,
        "object_key": literal_column("''", Text),
        "size_bytes": DatasetItem.preview_size,
        "sha256": DatasetItem.preview_sha256,
    }
    return (
        select(*(cast(values.get(column.key, null()), column.type).label(column.key) for column in COLUMNS))
        .join(DatasetVersion, DatasetVersion.id == DatasetItem.version_id)
        .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
        .where(
            visible(DatasetItem, viewer),
            Dataset.deleted_at.is_(None),
            DatasetVersion.deleted_at.is_(None),
            DatasetItem.preview_size.is_not(None),
        )
    )


def _with_previews(viewer: Viewer) -> Rows:
    return select(*union_all(artifacts(viewer), previews(viewer)).subquery("artifacts_and_previews").c)


def _below(condition: Equals) -> Iterator[ColumnElement[bool]]:
    """The file at this path, or those in the folder at it."""
    folder = condition.value.rstrip("/")
    yield or_(Artifact.path == condition.value, Artifact.path.startswith(f"{folder}/", autoescape=True))


by_id = rows_by_key(_with_previews, column("id", Uuid))
preview_of_item = rows_by_key(previews, DatasetItem.id)
raw_of_version = rows_by_key(_raw, Artifact.dataset_version_id)
processed_of_version = rows_by_key(_processed, Artifact.dataset_version_id)
config_of_job = rows_by_key(_config, Artifact.job_id)
of_model_version = rows_by_parent(artifacts, Artifact.model_version_id, Artifact.created_at.asc(), Artifact.id.asc())
of_run = Listing(
    artifacts,
    lambda _: Sort("path", Artifact.path, Artifact.id, descending=False, kind="text"),
    Filters(Artifact, path=_below),
    Artifact.run_id,
)


async def folder(database: Database, viewer: Viewer, place: ColumnElement[bool], path: str, limit: int) -> Sequence[Row[Any]]:
    """What the folder at a path holds, "" for the topmost: name, `is_folder` and `size_bytes` of each file and folder directly within, by name.

    `place` is the condition on whose files they are, such as those of a run.
    """
    prefix = f"{path}/" if path else ""
    rest = func.substr(Artifact.path, len(prefix) + 1)
    name, is_folder = func.split_part(rest, "/", 1), rest.contains("/")
    columns = (name.label("name"), is_folder.label("is_folder"), func.max(StoredObject.size_bytes).label("size_bytes"))
    statement = artifacts(viewer).with_only_columns(*columns, maintain_column_froms=True)
    within = statement.where(place, Artifact.path.startswith(prefix, autoescape=True))
    return await database.rows(within.group_by(name, is_folder).order_by(name).limit(limit))


async def at_path(database: Database, viewer: Viewer, place: ColumnElement[bool], path: str) -> Row[Any] | None:
    """The newest file at a path; None where there is none."""
    found = artifacts(viewer).where(place, Artifact.path == path).order_by(Artifact.created_at.desc(), Artifact.id.desc()).limit(1)
    rows = await database.rows(found)
    return rows[0] if rows else None


of_export = rows_by_parent(artifacts, Artifact.export_id, Artifact.created_at.asc(), Artifact.id.asc())


def _plots(viewer: Viewer) -> Rows:
    return artifacts(viewer).where(Artifact.role != EXPLANATION_DATA)


def _data(viewer: Viewer) -> Rows:
    return artifacts(viewer).where(Artifact.role == EXPLANATION_DATA)


plots_of_explanation = rows_by_parent(_plots, Artifact.explanation_id, Artifact.created_at.asc(), Artifact.id.asc())
data_of_explanation = rows_by_key(_data, Artifact.explanation_id)
