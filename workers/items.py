"""The files of a version's items, downloaded for a body that works on their contents."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
from sqlalchemy import select

from db.queries.artifacts import ITEMS, RAW
from db.tables import Artifact, Dataset, DatasetItem, DatasetVersion, StoredObject
from workers.runtime.attempt import Attempt

if TYPE_CHECKING:
    from workers.ml.contents.places import ItemFiles
    from workers.ml.exports.source import DetailedItemFiles

_PAGE = 10_000
_USE_ANOTHER = "Upload the data again as a new version, and use that."


async def download_detailed_items(attempt: Attempt, version_id: UUID) -> DetailedItemFiles:
    """The same with the media type and the metadata of each item."""
    return await _download(attempt, version_id, (DatasetItem.content_type, DatasetItem.meta))


async def download_items(attempt: Attempt, version_id: UUID) -> ItemFiles:
    """Write the places of the items in the order of the version's rows, and download the files that they lie in.

    Raises `ObjectMissing`, and `BodyFailed` (OBJECT_DAMAGED).
    """
    return await _download(attempt, version_id)


async def _download(attempt: Attempt, version_id: UUID, details: tuple[Any, ...] = ()) -> Any:
    places = attempt.folder / "items.jsonl"
    columns = (
        DatasetItem.id,
        DatasetItem.key,
        DatasetItem.info,
        DatasetItem.byte_offset,
        DatasetItem.stored_size,
        DatasetItem.storage,
        DatasetItem.size_bytes,
        DatasetItem.in_pack,
        *details,
    )
    # A row of the table for each readable item.
    statement = (
        select(*columns).where(DatasetItem.version_id == version_id, DatasetItem.info.is_not(None)).order_by(DatasetItem.id).limit(_PAGE)
    )
    roles: set[str] = set()
    last: UUID | None = None
    with places.open("wb") as file:
        while page := await attempt.database.rows(statement if last is None else statement.where(DatasetItem.id > last)):
            last = page[-1].id
            roles |= {ITEMS if row.in_pack else RAW for row in page}
            lines = b"".join(orjson.dumps(_line(row, len(details))) + b"\n" for row in page)
            await asyncio.to_thread(file.write, lines)
    files = (
        select(Artifact.role, DatasetVersion.number, Dataset.name, StoredObject.object_key, StoredObject.size_bytes, StoredObject.sha256)
        .join(StoredObject, StoredObject.id == Artifact.object_id)
        .join(DatasetVersion, DatasetVersion.id == Artifact.dataset_version_id)
        .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
        .where(Artifact.dataset_version_id == version_id, Artifact.role.in_(roles))
    )
    paths: dict[str, str] = {}
    for row in await attempt.database.rows(files):
        name = f"The file of the items of version {row.number} of the dataset {row.name!r}"
        paths[row.role] = str(await attempt.download(row, attempt.folder / f"items.{row.role.lower()}", name, _USE_ANOTHER))
    return {"raw": paths.get(RAW), "pack": paths.get(ITEMS), "places": str(places)}


def reads_contents(signature: str) -> bool:
    """Whether a model reads the contents of items, by the path of its signature."""
    return "contents" in orjson.loads(Path(signature).read_bytes())


def _line(row: Any, details: int) -> list[Any]:
    place = [row.key, row.info, row.byte_offset, row.stored_size, row.storage.value, row.size_bytes, row.in_pack]
    return place + list(row[len(row) - details :])
