"""Where the bytes of an item lie, for who has a link to it: the link is the right."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import case, select

from db.core.work import Database
from db.queries.artifacts import ITEMS, PREVIEW_CONTENT_TYPE, PREVIEWS, RAW
from db.tables import Artifact, Dataset, DatasetItem, DatasetVersion, StoredObject
from db.tables.items import ItemStorage


@dataclass(frozen=True, slots=True)
class ItemPlace:
    """A range of an object, how the bytes are stored in it, and how many they are unpacked; `sha256` is that of the unpacked bytes."""

    object_key: str
    offset: int
    stored_size: int
    storage: ItemStorage
    size: int
    sha256: str
    filename: str
    content_type: str


async def place_of(database: Database, item_id: UUID, *, is_preview: bool) -> ItemPlace | None:
    """Return the place of an item, or of its preview; None if there is none, or its dataset is deleted.

    An item whose bytes could not be unpacked when it was read has no place: they cannot be now, and their size is only what the archive says.
    """
    role = PREVIEWS if is_preview else case((DatasetItem.in_pack, ITEMS), else_=RAW)
    columns = (
        DatasetItem.key,
        DatasetItem.size_bytes,
        DatasetItem.sha256,
        DatasetItem.content_type,
        DatasetItem.byte_offset,
        DatasetItem.stored_size,
        DatasetItem.storage,
        DatasetItem.preview_offset,
        DatasetItem.preview_size,
        DatasetItem.preview_sha256,
        StoredObject.object_key,
    )
    statement = (
        select(*columns)
        .join(DatasetVersion, DatasetVersion.id == DatasetItem.version_id)
        .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
        .join(Artifact, Artifact.dataset_version_id == DatasetVersion.id)
        .join(StoredObject, StoredObject.id == Artifact.object_id)
        .where(
            DatasetItem.id == item_id,
            DatasetItem.sha256 != "",
            Dataset.deleted_at.is_(None),
            DatasetVersion.deleted_at.is_(None),
            Artifact.role == role,
        )
    )
    row = next(iter(await database.rows(statement)), None)
    if row is None:
        return None
    filename = row.key.rpartition("/")[2]
    if not is_preview:
        return ItemPlace(
            row.object_key, row.byte_offset, row.stored_size, row.storage, row.size_bytes, row.sha256, filename, row.content_type
        )
    if row.preview_size is None:
        return None
    stem = filename.rpartition(".")[0] or filename
    size, sha256 = row.preview_size, row.preview_sha256
    return ItemPlace(row.object_key, row.preview_offset, size, ItemStorage.STORED, size, sha256, f"{stem}.webp", PREVIEW_CONTENT_TYPE)
