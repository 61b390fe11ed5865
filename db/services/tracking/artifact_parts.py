"""Files of external runs that are sent in parts, whose sizes their sender alone knows: what has arrived is measured until the file is complete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, update

from db.core.viewer import SYSTEM, Viewer
from db.core.work import Database
from db.errors import QuotaExceeded, WrongState, invalid
from db.services import quota, upload_parts
from db.services.upload_parts import SentPart
from db.settings import state_settings
from db.stores.objects import MIB, ObjectStore
from db.tables import ArtifactUpload
from db.tables.experiments import ArtifactUploadState

MAX_PARTS = 1_000  # whose URLs are signed in one request
MIN_PART_BYTES = 5 * MIB  # S3 takes no smaller ones, but the last
URLS_EXPIRE = 86_400  # seconds; the sender gets all URLs at once and cannot ask again
NOT_ARRIVED = "Send each part with PUT to its URL, then complete the upload."


async def begin(database: Database, objects: ObjectStore, viewer: Viewer, upload: Row[Any]) -> list[str]:
    """Begin a requested upload in the store; return the URL of each part, which takes a part of any size. Raises `WrongState` if it was ended meanwhile."""
    multipart_id = await objects.multipart.begin(upload.object_key, upload.content_type)
    async with database.work(viewer) as work:
        begun = await work.run(update(ArtifactUpload).where(_is_open(upload)).values(multipart_id=multipart_id))
    if not begun:
        await objects.multipart.abort_one(upload.object_key, multipart_id)
        raise WrongState("ABORTED", "This upload was aborted before it had begun.")
    numbers = range(1, upload.part_count + 1)
    return [await objects.multipart.presign(upload.object_key, multipart_id, number, None, URLS_EXPIRE) for number in numbers]


async def join(database: Database, objects: ObjectStore, viewer: Viewer, upload: Row[Any], sent: Sequence[SentPart]) -> None:
    """Make one object of the parts. Nothing is done if an earlier call did.

    Raises `WrongState` if a part has not arrived, `InvalidInput` if `sent` are not the parts that have or the file is too large, or `QuotaExceeded`.
    """
    if upload.multipart_id is None:
        raise WrongState("UPLOADING", NOT_ARRIVED)
    arrived = await objects.multipart.arrived(upload.object_key, upload.multipart_id)
    if arrived is None:
        return
    parts = upload_parts.all_parts(arrived, upload.part_count, sent, NOT_ARRIVED)
    size, limit = sum(part.size for part in parts), state_settings().upload_max_bytes
    if size > limit:
        raise invalid("parts", message=f"These parts have {size:,} bytes; a file has at most {limit:,} here.")
    small = next((part for part in parts[:-1] if part.size < MIN_PART_BYTES), None)
    if small is not None:
        message = f"Part {small.number} has {small.size:,} bytes; each but the last has at least {MIN_PART_BYTES:,}."
        raise invalid("parts", message=message)
    async with database.work(viewer) as work:
        await work.run(update(ArtifactUpload).where(_is_open(upload)).values(size_bytes=size))
        quota.check_before_commit(work, upload.owner_id, size - upload.size_bytes)
    await objects.multipart.complete(upload.object_key, upload.multipart_id, parts)


async def measure(database: Database, objects: ObjectStore, upload: Row[Any], changes: dict[str, Any]) -> bool:
    """Note how much has arrived in parts, which counts in the quota of its account, with other changes of the row; return whether there is space for it."""
    arrived = None if upload.multipart_id is None else await objects.multipart.arrived(upload.object_key, upload.multipart_id)
    size = upload.size_bytes if arrived is None else sum(part.size for part in arrived.values())
    if size > state_settings().upload_max_bytes:
        return False
    try:
        async with database.work(SYSTEM) as work:
            await work.run(update(ArtifactUpload).where(_is_open(upload)).values(size_bytes=size, **changes))
            if upload.part_count is not None:
                quota.check_before_commit(work, upload.owner_id, size - upload.size_bytes)
    except QuotaExceeded:
        return False
    return True


async def remove(objects: ObjectStore, upload: Row[Any]) -> None:
    """Remove what has arrived of an upload that nobody completes any more."""
    if upload.part_count is not None:
        await objects.multipart.abort(upload.object_key)
    await objects.delete([upload.object_key])


def _is_open(upload: Row[Any]) -> Any:
    return (ArtifactUpload.id == upload.id) & (ArtifactUpload.state == ArtifactUploadState.OPEN)
