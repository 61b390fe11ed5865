"""Queries of dataset versions and their profiles. The documents of a version have batches of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Integer, Row, Text, Uuid, bindparam, literal_column, select
from sqlalchemy.dialects.postgresql import distinct_on

from db.core.batch import RowsByKey, rows_by_key
from db.core.listing import FirstRows, Listing
from db.core.page import Sort
from db.core.policy import visible
from db.core.prepared_rows import PreparedRows
from db.core.sql import Column, Rows, equals_any_tuple
from db.core.viewer import Viewer
from db.core.work import Database
from db.tables import Dataset, DatasetProfile, DatasetVersion, StoredObject
from db.tables.datasets import DatasetVersionStatus

COLUMNS = (
    DatasetVersion.id,
    DatasetVersion.dataset_id,
    DatasetVersion.number,
    DatasetVersion.label,
    DatasetVersion.status,
    DatasetVersion.source,
    DatasetVersion.original_filename,
    DatasetVersion.format,
    DatasetVersion.size_bytes,
    DatasetVersion.sha256,
    DatasetVersion.row_count,
    DatasetVersion.column_count,
    DatasetVersion.item_count,
    DatasetVersion.produced_by_id,
    DatasetVersion.created_at,
    DatasetVersion.ready_at,
    DatasetVersion.deleted_at,
    DatasetVersion.purged_at,
)
NEWEST = Sort("number", DatasetVersion.number, DatasetVersion.id, kind="int")


def with_deleted(viewer: Viewer) -> Rows:
    """The versions a viewer may see, deleted ones and those of deleted datasets included, since edges still lead to them."""
    return select(*COLUMNS).where(visible(DatasetVersion, viewer))


def of_live_datasets(statement: Rows) -> Rows:
    """Only versions that are not deleted, nor their dataset: lookups by id find no others, and nothing serves the data of others."""
    return statement.join(Dataset, Dataset.id == DatasetVersion.dataset_id).where(
        Dataset.deleted_at.is_(None), DatasetVersion.deleted_at.is_(None)
    )


def not_deleted(viewer: Viewer) -> Rows:
    """The versions that lists under a dataset have, which may be deleted itself."""
    return with_deleted(viewer).where(DatasetVersion.deleted_at.is_(None))


def versions(viewer: Viewer) -> Rows:
    """The versions that lookups by id find."""
    return of_live_datasets(with_deleted(viewer))


by_id = rows_by_key(with_deleted, DatasetVersion.id)
live_by_id = rows_by_key(versions, DatasetVersion.id)
of_dataset = Listing(not_deleted, lambda _: NEWEST, parent=DatasetVersion.dataset_id)


def _ready(viewer: Viewer) -> Rows:
    # A literal, not a parameter: only then can a generic plan use the partial index.
    return not_deleted(viewer).where(DatasetVersion.status == literal_column(f"'{DatasetVersionStatus.READY.value}'", Text))


current = FirstRows(Listing(_ready, lambda _: NEWEST, parent=DatasetVersion.dataset_id))
"""The READY version with the highest number of each dataset that has one."""


_BY_NUMBER = PreparedRows(
    lambda viewer: not_deleted(viewer).where(
        equals_any_tuple(
            (DatasetVersion.dataset_id, DatasetVersion.number),
            (bindparam("dataset_ids", type_=ARRAY(Uuid)), bindparam("numbers", type_=ARRAY(Integer))),
        )
    ),
    "dataset_ids",
    "numbers",
)


async def by_number(database: Database, viewer: Viewer, keys: Sequence[tuple[UUID, int]], /) -> Mapping[tuple[UUID, int], Row[Any]]:
    """Versions by dataset and number."""
    dataset_ids, numbers = zip(*keys, strict=True)
    rows = await _BY_NUMBER(database, viewer, dataset_ids=dataset_ids, numbers=numbers)
    return {(row.dataset_id, row.number): row for row in rows}


def documents(column: Column, narrow: Callable[[Rows], Rows] = lambda statement: statement) -> RowsByKey:
    """A batch of one document of each version, with only the versions that `narrow` leaves."""

    def statement(viewer: Viewer) -> Rows:
        return narrow(select(DatasetVersion.id, column.label("document")).where(visible(DatasetVersion, viewer)))

    return rows_by_key(statement, DatasetVersion.id)


_COLUMNS, _ISSUES = documents(DatasetVersion.columns), documents(DatasetVersion.issues)
_PREVIEWS = documents(DatasetVersion.preview, of_live_datasets)


async def columns(database: Database, viewer: Viewer, keys: Sequence[UUID], /) -> Mapping[UUID, list[Any]]:
    """Each version's columns, in the order of the file: [{name, type, nullable}]."""
    return {key: row.document for key, row in (await _COLUMNS(database, viewer, keys)).items()}


async def issues(database: Database, viewer: Viewer, keys: Sequence[UUID], /) -> Mapping[UUID, list[Any]]:
    """The issues of each version's file: [{code, message, column, row}]."""
    return {key: row.document for key, row in (await _ISSUES(database, viewer, keys)).items()}


async def previews(database: Database, viewer: Viewer, keys: Sequence[UUID], /) -> Mapping[UUID, list[Any]]:
    """The first rows of each version, at most 100, as objects; none of a version of a deleted dataset."""
    return {key: row.document for key, row in (await _PREVIEWS(database, viewer, keys)).items()}


PROFILE_COLUMNS = (
    DatasetProfile.id,
    DatasetProfile.version_id,
    DatasetProfile.profiler_version,
    DatasetProfile.generated_at,
    DatasetProfile.generation_time,
    DatasetProfile.is_exact,
    DatasetProfile.row_count,
    DatasetProfile.duplicate_row_count,
    DatasetProfile.missing_cell_ratio,
)


def _profiles(viewer: Viewer, *columns: Any) -> Rows:
    return select(*columns).where(visible(DatasetProfile, viewer))


def profiles_with_deleted(viewer: Viewer) -> Rows:
    """The profiles a viewer may see, those of deleted datasets included, without their reports."""
    return _profiles(viewer, *PROFILE_COLUMNS)


def profiles(viewer: Viewer) -> Rows:
    """The profiles that lookups by id find."""
    return _of_live_datasets(profiles_with_deleted(viewer))


def _of_live_datasets(statement: Rows) -> Rows:
    return of_live_datasets(statement.join(DatasetVersion, DatasetVersion.id == DatasetProfile.version_id))


def _latest_profiles(viewer: Viewer) -> Rows:
    newest = (DatasetProfile.version_id, DatasetProfile.generated_at.desc(), DatasetProfile.id.desc())
    return profiles_with_deleted(viewer).ext(distinct_on(DatasetProfile.version_id)).order_by(*newest)


def _reports(viewer: Viewer) -> Rows:
    columns = (DatasetProfile.id, DatasetProfile.report, StoredObject.object_key, StoredObject.size_bytes)
    statement = _of_live_datasets(_profiles(viewer, *columns).select_from(DatasetProfile))
    return statement.outerjoin(StoredObject, StoredObject.id == DatasetProfile.report_object_id)


profile_by_id = rows_by_key(profiles_with_deleted, DatasetProfile.id)
live_profile_by_id = rows_by_key(profiles, DatasetProfile.id)
profile_of_version = rows_by_key(_latest_profiles, DatasetProfile.version_id)
report_of_profile = rows_by_key(_reports, DatasetProfile.id)
