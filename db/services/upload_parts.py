"""Uploads in parts: each part has a presigned URL, and the store makes one object of them when the upload is completed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, select, update

from db.core.checks import Checks
from db.core.viewer import Viewer
from db.core.work import Database
from db.errors import WrongState, invalid
from db.stores.multipart import ArrivedPart
from db.stores.objects import MAX_PARTS, MIB, ObjectStore
from db.tables import Upload
from db.tables.datasets import UploadState

MIN_PART_BYTES = 16 * MIB  # S3 takes no smaller ones than 5 MiB, but the last
NOT_ARRIVED = "The file has not arrived. Send it with PUT to the upload's URL, then complete the upload."


@dataclass(frozen=True, slots=True)
class SentPart:
    """A part that the client has sent, and the ETag that the store answered, with or without quotes."""

    number: int
    etag: str


def part_size(size: int) -> int:
    """Return the size of each part but the last, in whole MiB where that is more than the least: a store takes `MAX_PARTS`."""
    per_part = -(-size // MAX_PARTS)
    return max(MIN_PART_BYTES, -(-per_part // MIB) * MIB if per_part > MIN_PART_BYTES else 0)


def part_count(upload: Row[Any]) -> int:
    """Return how many parts the announced file has."""
    return -(-upload.size_bytes // upload.part_bytes)


def size_of_part(upload: Row[Any], number: int) -> int:
    """Return the size of the part with this number, from 1."""
    return min(upload.part_bytes, upload.size_bytes - (number - 1) * upload.part_bytes)


async def begin(database: Database, objects: ObjectStore, viewer: Viewer, upload: Row[Any]) -> Row[Any]:
    """Begin a requested upload in parts in the store, unless that is done; return its row. Of two concurrent calls, one gives its own up."""
    if upload.part_bytes is None or upload.multipart_id is not None or upload.state is not UploadState.OPEN:
        return upload
    multipart_id = await objects.multipart.begin(upload.object_key, upload.content_type)
    is_not_begun = (Upload.id == upload.id) & Upload.multipart_id.is_(None) & (Upload.state == UploadState.OPEN)
    async with database.work(viewer) as work:
        begun = await work.first(update(Upload).where(is_not_begun).values(multipart_id=multipart_id).returning(Upload))
        current = begun or await work.one(select(Upload).where(Upload.id == upload.id))
    if begun is None:
        await objects.multipart.abort_one(upload.object_key, multipart_id)
    return current


async def missing(objects: ObjectStore, upload: Row[Any], after: int, limit: int) -> list[int]:
    """Return the numbers of the next parts that have not arrived, at most `limit`; none of an upload that is not open or has not begun."""
    if upload.multipart_id is None or upload.state is not UploadState.OPEN:
        return []
    arrived = await objects.multipart.arrived(upload.object_key, upload.multipart_id)
    if arrived is None:
        return []
    numbers = (number for number in range(max(after, 0) + 1, part_count(upload) + 1) if number not in arrived)
    return [number for number, _ in zip(numbers, range(limit), strict=False)]


async def assemble(objects: ObjectStore, upload: Row[Any], sent: Sequence[SentPart] | None) -> None:
    """Make one object of the parts of an upload. Nothing is done for one that has no parts, or whose object was made by an earlier call.

    Raises `WrongState` if a part has not arrived, `InvalidInput` if `sent` are not the parts that have.
    """
    if sent is not None and upload.part_bytes is None:
        raise invalid("parts", message="This upload is sent by one PUT and has no parts; leave `parts` out.")
    if upload.part_bytes is None:
        return
    if upload.multipart_id is None:
        raise WrongState("UPLOADING", NOT_ARRIVED)
    arrived = await objects.multipart.arrived(upload.object_key, upload.multipart_id)
    if arrived is None:
        return
    advice = "`upload` lists their URLs under `parts`; send them, then complete the upload."
    await objects.multipart.complete(upload.object_key, upload.multipart_id, all_parts(arrived, part_count(upload), sent, advice))


def all_parts(arrived: Mapping[int, ArrivedPart], count: int, sent: Sequence[SentPart] | None, advice: str) -> list[ArrivedPart]:
    """Return the parts from 1 to `count`. Raises `WrongState`, with the advice, if one has not arrived, `InvalidInput` if `sent` are not these."""
    absent = [number for number in range(1, count + 1) if number not in arrived]
    if absent:
        raise WrongState("UPLOADING", f"{len(absent)} of {count} parts have not arrived, the first is number {absent[0]}. {advice}")
    parts = [arrived[number] for number in range(1, count + 1)]
    if sent is not None:
        _compare(parts, sent)
    return parts


def _compare(parts: Sequence[ArrivedPart], sent: Sequence[SentPart]) -> None:
    """The store is not asked to compare: some give up the upload after a wrong part."""
    checks = Checks()
    if [part.number for part in sent] != [part.number for part in parts]:
        checks.add("parts", message=f"Name each part once, in order, from 1 to {len(parts)}, or leave `parts` out.")
    else:
        for index, (part, other) in enumerate(zip(parts, sent, strict=True)):
            if part.etag != other.etag.strip('"'):
                message = f"Part {part.number} arrived with the ETag {part.etag}. Send the part again, or leave `parts` out."
                checks.add("parts", index, "etag", message=message)
    checks.raise_if_invalid()


async def remove(objects: ObjectStore, upload: Row[Any]) -> None:
    """Remove what has arrived of an upload that nobody completes any more."""
    if upload.part_bytes is not None:
        await objects.multipart.abort(upload.object_key)
    await objects.delete([upload.object_key])
