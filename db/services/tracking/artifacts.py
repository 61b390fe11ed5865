"""Files of external runs: sent to presigned URLs, then checked, copied to a key that no URL names, and shown under their paths; small ones at once."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Row, case, delete, func, insert, select, update

from db.core.checks import Checks
from db.core.policy import visible
from db.core.viewer import SYSTEM, Viewer
from db.core.work import Database, Work
from db.errors import Forbidden, NotFound, QuotaExceeded, UploadMismatch, WrongState, invalid
from db.queries import accounts
from db.queries.artifacts import ARTIFACT
from db.services import quota
from db.services.outputs import StoredFile, store_object
from db.services.tracking import artifact_parts
from db.services.tracking.runs import heartbeat, lock
from db.services.upload_parts import SentPart
from db.settings import MAX_PUT_BYTES, state_settings
from db.stores.objects import ObjectMissing, ObjectStore
from db.tables import Artifact, ArtifactUpload, Experiment, Run
from db.tables.experiments import ArtifactUploadState

PATH_LENGTH = 1_000
MAX_INLINE_BYTES = 64 * 1024**2  # larger files are checked by a maintenance task
DEFAULT_CONTENT_TYPE = "application/octet-stream"
BATCH_SIZE = 100
RETRY_DELAY = timedelta(minutes=10)  # after which the task looks again at what has not arrived
NOT_ARRIVED = "The file has not arrived. Send it with PUT to the upload's URL, then complete the upload."
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class NewArtifact:
    """A file that is to be sent; `sha256` is hex. One in `parts` has no size until these have arrived."""

    run_id: UUID
    path: str
    size_bytes: int = 0
    sha256: str | None = None
    content_type: str | None = None
    parts: int | None = None


async def request(work: Work, new: NewArtifact, *, is_sent: bool = False) -> Row[Any]:
    """Announce a file of an external run; return the upload's row. A file at the same path is replaced once this one is complete.

    One that `is_sent` is stored by the caller where it stays, since nobody gets a URL of that key. One in parts is begun by `artifact_parts.begin` after the
    commit.

    Raises `NotFound`, `WrongState` for the run of a job, or `InvalidInput`; the end of the unit of work raises `QuotaExceeded`.
    """
    run = await lock(work, new.run_id)
    checks = Checks()
    check_path(checks, new.path, "path")
    content_type = checks.name(new.content_type or DEFAULT_CONTENT_TYPE, "contentType")
    if not content_type.isascii():
        checks.add("contentType", message="A media type is plain ASCII, for instance text/csv.")
    limit = min(MAX_PUT_BYTES, state_settings().upload_max_bytes)
    if not 0 <= new.size_bytes <= limit:
        checks.add("sizeBytes", message=f"A file has between 0 and {limit} bytes here.")
    if new.parts is not None and not 1 <= new.parts <= artifact_parts.MAX_PARTS:
        checks.add("parts", message=f"A file is sent in 1 to {artifact_parts.MAX_PARTS:,} parts; send larger ones.")
    sha256 = None if new.sha256 is None else new.sha256.lower()
    if sha256 is not None and (len(sha256) != 64 or not _HEX.issuperset(sha256)):
        checks.add("sha256", message="A SHA-256 is 64 hexadecimal digits; leave it out when you do not know it.")
    checks.raise_if_invalid()
    quota.check_before_commit(work, run.owner_id, new.size_bytes)
    upload_id = uuid4()
    insertion = insert(ArtifactUpload).values(
        id=upload_id,
        owner_id=run.owner_id,
        created_by_id=work.viewer.maker_id,
        run_id=run.id,
        path=new.path,
        object_key=f"runs/{run.owner_id}/{run.id}/{upload_id}" if is_sent else f"uploads/{run.owner_id}/{upload_id}",
        content_type=content_type,
        size_bytes=new.size_bytes,
        sha256=sha256,
        part_count=new.parts,
        due_at=func.now() + (timedelta(seconds=state_settings().upload_expires) if new.parts is None else RETRY_DELAY),
    )
    row = await work.one(insertion.returning(*ArtifactUpload.__table__.c))
    after = {"path": new.path, "sizeBytes": new.size_bytes, "sha256": sha256, "contentType": content_type, "parts": new.parts}
    work.record("request_artifact_upload", "run", run.id, run.owner_id, after=after)
    return row


async def store(database: Database, objects: ObjectStore, viewer: Viewer, new: NewArtifact, content: bytes) -> UUID | None:
    """Add a file that is in memory; return the id of the artifact. Killed on the way, the upload is completed or expires as any other.

    Raises as `request` does.
    """
    viewer.require_write()
    async with database.work(viewer) as work:
        upload = await request(work, new, is_sent=True)
    await objects.write(upload.object_key, content, upload.content_type)
    digest = await asyncio.to_thread(hashlib.sha256, content)
    artifact_id, needless = await _add(database, viewer, upload, _file(upload, upload.object_key, len(content), digest.hexdigest()))
    await objects.delete(needless)
    return artifact_id


async def remove(work: Work, run_id: UUID, path: str) -> int:
    """Remove the file at this path of an external run, or all in the folder at it, the run's own with ""; return how many there were.

    A model version that was registered from them keeps its files. Raises `NotFound`, or `WrongState` for the run of a job.
    """
    run = await lock(work, run_id)
    is_below = (Artifact.path == path) | Artifact.path.startswith(f"{path}/" if path else "", autoescape=True)
    removed = await work.all(delete(Artifact).where(Artifact.run_id == run_id, Artifact.role == ARTIFACT, is_below).returning(Artifact.id))
    if removed:
        await work.run(update(Run).where(Run.id == run_id).values(heartbeat()))
        work.record("delete_artifacts", "run", run_id, run.owner_id, {"path": path, "files": len(removed)})
    return len(removed)


def check_path(checks: Checks, path: str, *place: str) -> None:
    """Validate a path, which is a name in a row and never a part of a key: names separated by slashes, none of them empty, `.` or `..`."""
    if not path or len(path) > PATH_LENGTH:
        checks.add(*place, message=f"A path has 1 to {PATH_LENGTH:,} characters.")
    elif not path.isprintable() or "\\" in path:
        checks.add(*place, message="Control characters and backslashes cannot stand in a path; its parts are separated by slashes.")
    elif any(part in {"", ".", ".."} for part in path.split("/")):
        checks.add(*place, message="A path is relative to the run, as in `plots/loss.png`: no part of it is empty, `.` or `..`.")


async def complete(
    database: Database, objects: ObjectStore, viewer: Viewer, upload_id: UUID, limit: int | None = MAX_INLINE_BYTES
) -> UUID | None:
    """Check the file that has arrived and add it to the run; return the id of the artifact. Repeated, it returns the same.

    None for a file of more than `limit` bytes, which a maintenance task completes soon. No transaction is open while the store is read.
    Raises `NotFound`, `WrongState` if it has not arrived or is not open any more, `UploadMismatch` (the file is deleted), or `QuotaExceeded`.
    """
    viewer.require_write()
    async with database.work(viewer) as work:
        upload = await _visible(work, upload_id)
    if upload.state is ArtifactUploadState.COMPLETED:
        return upload.artifact_id
    _require_open(upload)
    info = await objects.head(upload.object_key)
    if info is None:
        return await _missing(database, viewer, upload_id)
    if upload.part_count is None and info.size != upload.size_bytes:  # the sizes of parts were never announced
        await _reject(database, objects, viewer, upload, UploadMismatch("size in bytes", str(upload.size_bytes), str(info.size)))
    if limit is not None and info.size > limit:
        async with database.work(viewer) as work:
            is_open = (ArtifactUpload.id == upload_id) & (ArtifactUpload.state == ArtifactUploadState.OPEN)
            await work.run(update(ArtifactUpload).where(is_open).values(due_at=func.now()))
        return None
    key = f"runs/{upload.owner_id}/{upload.run_id}/{uuid4()}"
    try:
        await objects.copy(upload.object_key, key)
        sha256 = await objects.sha256(key, info.size)
    except ObjectMissing:
        return await _missing(database, viewer, upload_id)
    if upload.sha256 is not None and sha256 != upload.sha256:
        await objects.delete([key])
        await _reject(database, objects, viewer, upload, UploadMismatch("SHA-256", upload.sha256, str(sha256)))
    artifact_id, needless = await _add(database, viewer, upload, _file(upload, key, info.size, str(sha256)))
    await objects.delete([upload.object_key, *needless])
    return artifact_id


async def complete_parts(
    database: Database, objects: ObjectStore, viewer: Viewer, upload_id: UUID, sent: Sequence[SentPart]
) -> UUID | None:
    """Join the parts that have arrived, which must be those that were `sent`; then as `complete`.

    Raises as that and `artifact_parts.join` do, and `InvalidInput` for an upload that has no parts.
    """
    viewer.require_write()
    async with database.work(viewer) as work:
        upload = await _visible(work, upload_id)
    if upload.state is ArtifactUploadState.COMPLETED:
        return upload.artifact_id
    _require_open(upload)
    if upload.part_count is None:
        raise invalid("uploadId", message="This upload is sent by one PUT and has no parts.")
    await artifact_parts.join(database, objects, viewer, upload, sent)
    return await complete(database, objects, viewer, upload_id)


async def abort(database: Database, objects: ObjectStore, viewer: Viewer, upload_id: UUID) -> None:
    """Give an upload up, with what has arrived of it; one that was not completed and is not open any more stays as it is.

    Raises `NotFound`, or `WrongState` for one that is complete.
    """
    viewer.require_write()
    async with database.work(viewer) as work:
        upload = await _visible(work, upload_id)
        if upload.state is ArtifactUploadState.COMPLETED:
            _require_open(upload)
        aborted = await _give_up(work, upload)
    if aborted:
        await artifact_parts.remove(objects, upload)


async def _give_up(work: Work, upload: Row[Any]) -> bool:
    is_open = (ArtifactUpload.id == upload.id) & (ArtifactUpload.state == ArtifactUploadState.OPEN)
    if not await work.run(update(ArtifactUpload).where(is_open).values(state=ArtifactUploadState.ABORTED)):
        return False
    work.record("abort_artifact_upload", "run", upload.run_id, upload.owner_id, after={"path": upload.path})
    return True


def _file(upload: Row[Any], key: str, size: int, sha256: str) -> StoredFile:
    return StoredFile(key, size, sha256, ARTIFACT, upload.path.rpartition("/")[2], upload.content_type, path=upload.path)


async def _add(database: Database, viewer: Viewer, upload: Row[Any], file: StoredFile) -> tuple[UUID | None, list[str]]:
    """Add the file to the run, in place of one at its path; return its artifact, and the copy if it is not needed."""
    async with database.work(viewer) as work:
        await lock(work, upload.run_id)
        current = await _visible(work, upload.id)
        if current.state is ArtifactUploadState.COMPLETED:  # by a concurrent call
            return current.artifact_id, [file.key]
        _require_open(current)
        quota.check_before_commit(work, upload.owner_id)
        is_replaced = (Artifact.run_id == upload.run_id) & (Artifact.path == upload.path) & (Artifact.role == ARTIFACT)
        await work.run(delete(Artifact).where(is_replaced))
        object_id, stored_key = await store_object(work, upload.owner_id, file)
        values = {"owner_id": upload.owner_id, "object_id": object_id, "run_id": upload.run_id, "path": file.path, "role": file.role}
        insertion = insert(Artifact).values(values | {"filename": file.filename, "content_type": file.content_type})
        artifact_id: UUID = await work.scalar(insertion.returning(Artifact.id))
        completed = {"state": ArtifactUploadState.COMPLETED, "artifact_id": artifact_id}
        await work.run(update(ArtifactUpload).where(ArtifactUpload.id == upload.id).values(completed))
        await work.run(update(Run).where(Run.id == upload.run_id).values(heartbeat()))
        after = {"path": file.path, "sizeBytes": file.size, "sha256": file.sha256}
        work.record("complete_artifact_upload", "run", upload.run_id, upload.owner_id, after=after)
    return artifact_id, [] if stored_key == file.key else [file.key]


async def complete_or_expire(database: Database, objects: ObjectStore) -> int:
    """End the open uploads that are due: those that have arrived are completed as by who requested them, the others expire. Return how many.

    What has not arrived is looked at again until `upload_grace` after its URLs; one in parts is given up when there is no space for what has.
    """
    settings = state_settings()
    lifetime = case((ArtifactUpload.part_count.is_(None), settings.upload_expires), else_=artifact_parts.URLS_EXPIRE)
    is_late = ArtifactUpload.created_at < func.now() - func.make_interval(0, 0, 0, 0, 0, 0, lifetime + settings.upload_grace)
    is_due = (ArtifactUpload.state == ArtifactUploadState.OPEN) & (ArtifactUpload.due_at <= func.now())
    due = select(*ArtifactUpload.__table__.c, is_late.label("is_late")).where(is_due).order_by(ArtifactUpload.due_at).limit(BATCH_SIZE)
    ended = 0
    for row in await database.rows(due):
        if await _complete_as_maker(database, objects, row, limit=None):
            ended += 1
        elif row.is_late or not await artifact_parts.measure(database, objects, row, {"due_at": func.now() + RETRY_DELAY}):
            async with database.work(SYSTEM) as work:
                if row.is_late:
                    is_open = (ArtifactUpload.id == row.id) & (ArtifactUpload.state == ArtifactUploadState.OPEN)
                    is_ended = bool(await work.run(update(ArtifactUpload).where(is_open).values(state=ArtifactUploadState.EXPIRED)))
                else:
                    is_ended = await _give_up(work, row)
            if is_ended:
                await artifact_parts.remove(objects, row)
                ended += 1
    return ended


async def complete_arrived(database: Database, objects: ObjectStore, run_id: UUID) -> list[Row[Any]]:
    """Complete the files of a run that have arrived, oldest first, as by who sent them; return the uploads that are still open: of files that are large,
    or not there yet.
    """
    is_open = (ArtifactUpload.run_id == run_id) & (ArtifactUpload.state == ArtifactUploadState.OPEN)
    rows = await database.rows(select(*ArtifactUpload.__table__.c).where(is_open).order_by(ArtifactUpload.created_at).limit(BATCH_SIZE))
    return [row for row in rows if not await _complete_as_maker(database, objects, row)]


async def _complete_as_maker(database: Database, objects: ObjectStore, upload: Row[Any], limit: int | None = MAX_INLINE_BYTES) -> bool:
    """Complete an upload as by who requested it; return whether that was possible."""
    maker = await accounts.viewer_of(database, upload.created_by_id)
    if maker is not None:
        with suppress(NotFound, WrongState, UploadMismatch, QuotaExceeded, Forbidden):
            return await complete(database, objects, maker, upload.id, limit) is not None
    return False


async def _visible(work: Work, upload_id: UUID) -> Row[Any]:
    statement = (
        select(*ArtifactUpload.__table__.c)
        .join(Run, Run.id == ArtifactUpload.run_id)
        .join(Experiment, Experiment.id == Run.experiment_id)
        .where(
            ArtifactUpload.id == upload_id, Run.deleted_at.is_(None), Experiment.deleted_at.is_(None), visible(ArtifactUpload, work.viewer)
        )
    )
    row = await work.first(statement)
    if row is None:
        raise NotFound(str(upload_id))
    work.viewer.require_write_in(row.owner_id)
    return row


def _require_open(upload: Row[Any]) -> None:
    if upload.state is not ArtifactUploadState.OPEN:
        raise WrongState(upload.state.name, f"This upload is {upload.state.value} already. Ask for a new one to send the file again.")


async def _missing(database: Database, viewer: Viewer, upload_id: UUID) -> UUID | None:
    """The artifact of an upload whose file is not there since a concurrent call completed it. Raises `WrongState` if it has not arrived."""
    async with database.work(viewer) as work:
        current = await _visible(work, upload_id)
    if current.state is ArtifactUploadState.COMPLETED:
        return current.artifact_id
    _require_open(current)
    raise WrongState(current.state.name, NOT_ARRIVED)


async def _reject(database: Database, objects: ObjectStore, viewer: Viewer, upload: Row[Any], mismatch: UploadMismatch) -> None:
    """Give the upload up, and raise why."""
    async with database.work(viewer) as work:
        is_open = (ArtifactUpload.id == upload.id) & (ArtifactUpload.state == ArtifactUploadState.OPEN)
        was_open = await work.run(update(ArtifactUpload).where(is_open).values(state=ArtifactUploadState.MISMATCHED))
        if was_open:
            after = {"path": upload.path, "issue": mismatch.message}
            work.record("complete_artifact_upload", "run", upload.run_id, upload.owner_id, after=after)
    if was_open:
        await objects.delete([upload.object_key])
    raise mismatch
