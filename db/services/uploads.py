"""Uploads: the client requests presigned URLs, sends the file, then completes the upload; an INGEST job parses the file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Row, Select, Text, func, insert, literal_column, select, update

from db.core.audit import ref
from db.core.checks import Checks
from db.core.policy import visible
from db.core.sql import equals_any
from db.core.viewer import SYSTEM, Viewer
from db.core.work import Database, Work
from db.errors import Forbidden, NotFound, QuotaExceeded, StateError, UploadMismatch, WrongState
from db.queries import accounts
from db.services import datasets, extras, idempotency, jobs, quota, reading_options, upload_parts, versions
from db.services.reading_options import ReadingOptions
from db.services.upload_parts import SentPart
from db.settings import MAX_PUT_BYTES, state_settings
from db.stores.objects import ObjectMissing, ObjectStore
from db.tables import Dataset, DatasetProfile, DatasetVersion, SchemaProposal, Upload
from db.tables.datasets import DatasetSource, DatasetVersionStatus, Modality, UploadState
from db.tables.jobs import JobKind

OPERATION = "completeUpload"
AUDITED_AS = "complete_upload"
ABORTED_ISSUE = {
    "code": "UPLOAD_ABORTED",
    "message": "The upload was aborted. Ask for a new one to send the file again.",
    "column": None,
    "row": None,
}
MAX_INLINE_HASH_BYTES = 64 * 1024**2  # larger files are hashed by the ingest while it parses
DEFAULT_CONTENT_TYPE = "application/octet-stream"
_KINDS = {
    extension: kind
    for kind, extensions in {
        "an image": ".png .jpg .jpeg .gif .webp .bmp .tif .tiff .svg",
        "a recording": ".wav .mp3 .flac .ogg .oga .opus .m4a .aac",
        "a video": ".mp4 .m4v .mov .avi .mkv .webm",
        "an archive": ".zip .tar .tgz .gz .tzst .zst",
        "an archive of another kind": ".bz2 .xz .7z .rar",
        "a NumPy array": ".npy .npz",
        "a MATLAB file": ".mat",
        "a SEG-Y file": ".sgy .segy",
        "a document": ".pdf .doc .docx .odt .ppt .pptx .html .htm",
        "a spreadsheet or table of another program": ".ods .numbers .dta .sav .sas7bdat .rds .rdata",
        "an Arrow, ORC, Avro or HDF5 file": ".arrow .feather .orc .avro .h5 .hdf5",
        "a database": ".sqlite .sqlite3 .duckdb",
        "a pickle": ".pkl .pickle .joblib .pt .pth",
    }.items()
    for extension in extensions.split()
}
"""What a filename promises, by its extension: what a dataset does not take is refused before it is sent. An ingest decides by the content."""
_ARCHIVES = frozenset({".zip", ".tar", ".tgz", ".gz", ".tzst", ".zst"})
_READABLE = {
    Modality.TABULAR: (
        frozenset({".zip"}),
        "Send the data as CSV, JSON, JSON lines, Parquet or Excel, under a name with that extension, or as a .zip of Parquet files by split.",
    ),
    Modality.SIGNAL: (
        _ARCHIVES | {".wav", ".npy", ".npz", ".mat", ".sgy", ".segy"},
        "Send signals as CSV, NPY, NPZ, MAT, WAV or SEG-Y, one file or an archive (.zip, .tar, .tar.gz, .tar.zst) of them.",
    ),
    Modality.IMAGE: (
        _ARCHIVES | {".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff"},
        "Send images as PNG, JPEG, WebP, TIFF, GIF or BMP, one file or an archive (.zip, .tar, .tar.gz, .tar.zst) of them.",
    ),
    Modality.AUDIO: (
        _ARCHIVES | {".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3"},
        "Send recordings as WAV, FLAC, Ogg or MP3, one file or an archive (.zip, .tar, .tar.gz, .tar.zst) of them.",
    ),
    Modality.TEXT: (
        _ARCHIVES,
        "Send texts as .txt or .md, one file or an archive (.zip, .tar, .tar.gz, .tar.zst) of them, or a table with a column of texts.",
    ),
    Modality.VIDEO: (
        _ARCHIVES | {".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi"},
        "Send videos as MP4, MOV, WebM, MKV or AVI, one file or an archive (.zip, .tar, .tar.gz, .tar.zst) of them.",
    ),
    Modality.MULTIMODAL: (
        _ARCHIVES,
        "Send an archive (.zip, .tar, .tar.gz, .tar.zst) of a table and of the files that a column of it names.",
    ),
}
"""Extensions of `_KINDS` that a dataset of this modality takes, and what to send."""
_ALONE = dict.fromkeys(
    (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".xlsx", ".xls"), "a table without the files that it names"
)
"""What a MULTIMODAL dataset does not take in addition."""
_HEX = frozenset("0123456789abcdef")

INGEST = jobs.declare(
    jobs.JobKindSpec(
        JobKind.INGEST,
        title="ingest",
        queue="upload",
        price_refusal="`completeUpload` cannot report insufficient credits, so an ingest has no price.",
        outputs=(DatasetVersion, DatasetProfile, SchemaProposal),
        on_change=versions.follow_ingest,
        on_retry=versions.reopen,
    )
)


@dataclass(frozen=True, slots=True)
class NewUpload:
    """What the client announces of the file; `sha256` is hex."""

    dataset_id: UUID
    filename: str
    size_bytes: int
    sha256: str | None = None
    content_type: str | None = None
    label: str | None = None
    reading: ReadingOptions | None = None
    multipart: bool = False
    idempotency_key: str | None = None


class RequestedUpload(NamedTuple):
    """The upload's row, and a READY version of the same owner that was read from the same bytes."""

    row: Row[Any]
    duplicate_of_id: UUID | None


async def request(work: Work, new: NewUpload) -> RequestedUpload:
    """Create a version in the status UPLOADING and its upload. The caller begins an upload in parts with `upload_parts.begin` after the commit.

    Raises `NotFound`, `InvalidInput` or `Conflict`; the end of the unit of work raises `QuotaExceeded`.
    """
    work.viewer.require_write()
    request_input = {key: value for key, value in asdict(new).items() if key != "idempotency_key"}
    if not new.multipart:
        del request_input["multipart"]  # so that a key of before there were parts is known
    stored_answer = await idempotency.recall(work, "requestUpload", new.idempotency_key, request_input)
    if stored_answer is not None:
        upload = await work.first(_visible_upload(work, UUID(stored_answer["upload"])))
        if upload is None:  # the dataset was deleted since, and its URL must not be signed again
            raise NotFound(str(new.dataset_id))
        return RequestedUpload(upload, await _duplicate_of(work, upload))
    dataset = await datasets.lock(work, new.dataset_id)
    can_read = dataset.modality is not Modality.VIDEO or await extras.can_read_videos(work, jobs.queue_for(JobKind.INGEST, Modality.VIDEO))
    values = _validated(new, dataset.modality, can_read=can_read)
    label, reading = values.pop("label"), values.pop("reading")
    quota.check_before_commit(work, dataset.owner_id, new.size_bytes)
    version_id, number = await versions.add(
        work,
        dataset.id,
        label=label,
        status=DatasetVersionStatus.UPLOADING,
        source=DatasetSource.UPLOAD,
        original_filename=values["filename"],
        content_type=values["content_type"],
        reading=reading,
    )
    upload_id = await work.scalar(select(func.uuidv7()))
    lifetime = state_settings().upload_parts_expire if new.multipart else state_settings().upload_expires
    upload_insertion = insert(Upload).values(
        id=upload_id,
        owner_id=dataset.owner_id,
        created_by_id=work.viewer.maker_id,
        version_id=version_id,
        object_key=f"uploads/{dataset.owner_id}/{upload_id}",
        part_bytes=upload_parts.part_size(new.size_bytes) if new.multipart else None,
        expires_at=func.now() + timedelta(seconds=lifetime),
        **values,
    )
    row = await work.one(upload_insertion.returning(Upload))
    await idempotency.remember(work, new.idempotency_key, {"upload": str(upload_id)})
    announced = {key: values[key] for key in ("filename", "content_type", "size_bytes", "sha256")}
    requested = {"upload": ref("upload", upload_id), "dataset": ref("dataset", dataset.id), "number": number, "label": label, **announced}
    work.record("request_upload", "version", version_id, dataset.owner_id, after=requested)
    return RequestedUpload(row, await _duplicate_of(work, row))


async def _duplicate_of(work: Work, upload: Row[Any]) -> UUID | None:
    """Return the newest READY version that the upload's owner has of the same bytes, if the client said what their SHA-256 is."""
    if upload.sha256 is None:
        return None
    is_ready = DatasetVersion.status == literal_column(f"'{DatasetVersionStatus.READY.value}'", Text)  # as the index has it
    return await work.scalar(
        select(DatasetVersion.id)
        .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
        .where(is_ready, DatasetVersion.sha256 == upload.sha256, DatasetVersion.size_bytes == upload.size_bytes)
        .where(Dataset.owner_id == upload.owner_id, Dataset.deleted_at.is_(None), DatasetVersion.deleted_at.is_(None))
        .order_by(DatasetVersion.id.desc())
        .limit(1)
    )


def _validated(new: NewUpload, modality: Modality, *, can_read: bool) -> dict[str, Any]:
    checks = Checks()
    if not can_read:
        checks.add("datasetId", message=extras.NO_VIDEO)
    readable, advice = _READABLE[modality]
    filename = checks.name(new.filename.replace("\\", "/").rsplit("/", 1)[-1], "filename", length=255)
    extension = PurePosixPath(filename.lower()).suffix
    kinds = _KINDS | _ALONE if modality is Modality.MULTIMODAL else _KINDS
    if extension in kinds and extension not in readable:
        checks.add("filename", message=f"A file that ends in {extension} is {kinds[extension]}, which cannot be read. {advice}")
    content_type = checks.name(new.content_type or DEFAULT_CONTENT_TYPE, "contentType")
    if not content_type.isascii():
        checks.add("contentType", message="A media type is plain ASCII, for instance text/csv.")
    label = None if new.label is None else checks.name(new.label, "label")
    limit = state_settings().upload_max_bytes
    if new.size_bytes < 1:
        checks.add("sizeBytes", message="An empty file holds no data; give the file's size in bytes.")
    elif new.size_bytes > limit:
        checks.add("sizeBytes", message=f"The file has {new.size_bytes} bytes; at most {limit} are accepted.")
    elif new.size_bytes > MAX_PUT_BYTES and not new.multipart:
        message = f"The file has {new.size_bytes} bytes; more than {MAX_PUT_BYTES} are sent in parts: ask for them with `multipart: true`."
        checks.add("sizeBytes", message=message)
    sha256 = new.sha256.lower() if new.sha256 is not None else None
    if sha256 is not None and (len(sha256) != 64 or not _HEX.issuperset(sha256)):
        checks.add("sha256", message="A SHA-256 is 64 hexadecimal digits; leave it out when you do not know it.")
    reading = reading_options.validated(new.reading, checks)
    checks.raise_if_invalid()
    return {
        "reading": reading,
        "filename": filename,
        "content_type": content_type,
        "size_bytes": new.size_bytes,
        "sha256": sha256,
        "label": label,
    }


async def complete(
    database: Database,
    objects: ObjectStore,
    viewer: Viewer,
    upload_id: UUID,
    idempotency_key: str | None = None,
    sent: Sequence[SentPart] | None = None,
) -> tuple[UUID, UUID]:
    """Check the uploaded object and submit its INGEST job; return the ids of version and job. No transaction is open while the store is read.

    The object of an upload in parts is made of those that have arrived; `sent` are those that the client knows of, which are compared.

    Raises `NotFound`, `InvalidInput`, `WrongState`, `UploadMismatch` (the object is deleted, the version is FAILED), `Conflict`, or
    `QuotaExceeded` (the upload stays open).
    """
    viewer.require_write()
    request_input: dict[str, Any] = {"upload_id": str(upload_id)}
    if sent is not None:
        request_input["parts"] = [[part.number, part.etag] for part in sent]

    async def load(work: Work) -> tuple[tuple[UUID, UUID] | None, Row[Any] | None]:
        """Read the upload, then the stored result of a call with the same key: if that call commits between the two reads, the second sees it."""
        upload = await work.first(_visible_upload(work, upload_id))
        return _parse_answer(await idempotency.recall(work, OPERATION, idempotency_key, request_input, claim=False)), upload

    async with database.work(viewer) as work:
        stored_answer, upload = await load(work)
    if stored_answer is not None:
        return stored_answer
    upload = _require_open(upload_id, upload)
    try:
        await upload_parts.assemble(objects, upload, sent)
        await _verify(objects, upload)
    except (UploadMismatch, WrongState) as problem:
        # A concurrent call may have completed it, and its job deleted the object: then return that call's result.
        async with database.work(viewer) as work:
            stored_answer, current = await load(work)
            if stored_answer is not None:
                return stored_answer
            upload = _require_open(upload_id, current)
            was_rejected = isinstance(problem, UploadMismatch) and await _reject(work, upload, problem)
        if was_rejected:  # else a concurrent call completed it, and its job needs the object
            await objects.delete([upload.object_key])
        raise
    async with database.work(viewer) as work:
        stored_answer = _parse_answer(await idempotency.recall(work, OPERATION, idempotency_key, request_input))
        if stored_answer is not None:
            return stored_answer
        dataset = (await datasets.lock_shared(work, upload.dataset_id)).get(upload.dataset_id)
        if dataset is None:
            raise NotFound(str(upload_id))
        quota.check_before_commit(work, dataset.owner_id)  # since the request, jobs may have stored more, or the limit may be lower
        completion = update(Upload).where(Upload.id == upload_id, Upload.state == UploadState.OPEN)
        if not await work.run(completion.values(state=UploadState.COMPLETED, completed_at=func.now())):
            _require_open(upload_id, await work.first(_visible_upload(work, upload_id)))
        version_update = update(DatasetVersion).where(DatasetVersion.id == upload.version_id)
        await work.run(version_update.values(status=DatasetVersionStatus.UPLOADED, size_bytes=upload.size_bytes, sha256=upload.sha256))
        job = await jobs.submit(
            work,
            jobs.NewJob(
                owner_id=dataset.owner_id,
                kind=INGEST.kind,
                queue=jobs.queue_for(INGEST.kind, dataset.modality),
                extras=extras.of_modality(dataset.modality),
                parameters={"filename": upload.filename, "sizeBytes": upload.size_bytes, "sha256": upload.sha256}
                | ({} if upload.reading is None else {"reading": upload.reading}),
                dataset_id=dataset.id,
                dataset_version_id=upload.version_id,
            ),
        )
        await work.run(update(Upload).where(Upload.id == upload_id).values(job_id=job.id))
        await idempotency.remember(work, idempotency_key, {"version": str(upload.version_id), "job": str(job.id)})
        completed = {"status": DatasetVersionStatus.UPLOADED, "job": ref("job", job.id)}
        work.record(AUDITED_AS, "version", upload.version_id, dataset.owner_id, {"status": upload.version_status}, completed)
    return upload.version_id, job.id


async def notice(database: Database, keys: Sequence[str]) -> None:
    """Remember that the store said that these objects were created; those of no open upload are ignored."""
    is_open = equals_any(Upload.object_key, keys) & (Upload.state == UploadState.OPEN)
    async with database.work(SYSTEM) as work:
        await work.run(update(Upload).where(is_open, Upload.noticed_at.is_(None)).values(noticed_at=func.now()))


async def complete_forgotten(database: Database, objects: ObjectStore, upload_id: UUID) -> bool:
    """Complete an open upload whose file has arrived, as its maker, who did not say so. Return whether an ingest was submitted.

    Nothing is done if the file has not arrived or does not fit in the quota, or its maker may not complete it any more. A file that is not the
    announced one is removed, as by `complete`.
    """
    for upload in await database.rows(select(Upload.created_by_id, Upload.owner_id).where(Upload.id == upload_id)):
        maker = await accounts.viewer_of(database, upload.created_by_id)
        if maker is not None:
            with suppress(NotFound, WrongState, UploadMismatch, QuotaExceeded, Forbidden):
                await complete(database, objects, maker, upload_id)
                return True
    return False


async def abort(work: Work, upload_id: UUID) -> Row[Any]:
    """Give up an open upload: its version becomes FAILED. Return the upload's row; the caller removes what has arrived after the commit.

    Raises `NotFound` or `WrongState`.
    """
    work.viewer.require_write()
    upload = _require_open(upload_id, await work.first(_visible_upload(work, upload_id)))
    is_open = (Upload.id == upload_id) & (Upload.state == UploadState.OPEN)
    if not await work.run(update(Upload).where(is_open).values(state=UploadState.ABORTED)):
        upload = _require_open(upload_id, await work.first(_visible_upload(work, upload_id)))
    await versions.mark_failed(work, upload.version_id, [ABORTED_ISSUE])
    failed = {"status": DatasetVersionStatus.FAILED}
    work.record("abort_upload", "version", upload.version_id, upload.owner_id, {"status": upload.version_status}, failed)
    return upload


def _visible_upload(work: Work, upload_id: UUID) -> Select[Upload, UUID, dict[str, Any] | None, DatasetVersionStatus]:
    return (
        select(Upload, DatasetVersion.dataset_id, DatasetVersion.reading, DatasetVersion.status.label("version_status"))
        .join(DatasetVersion, DatasetVersion.id == Upload.version_id)
        .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
        .where(Upload.id == upload_id, Dataset.deleted_at.is_(None), DatasetVersion.deleted_at.is_(None), visible(Upload, work.viewer))
    )


def _require_open(upload_id: UUID, upload: Row[Any] | None) -> Row[Any]:
    """Return the upload if it can still be completed."""
    if upload is None:
        raise NotFound(str(upload_id))
    if upload.state is not UploadState.OPEN:
        raise WrongState(
            upload.version_status.name,
            f"This upload is {upload.state.value} already. Ask for a new upload to bring another file.",
        )
    return upload


def _parse_answer(stored: dict[str, Any] | None) -> tuple[UUID, UUID] | None:
    return None if stored is None else (UUID(stored["version"]), UUID(stored["job"]))


async def _verify(objects: ObjectStore, upload: Row[Any]) -> None:
    """Compare the stored object with what was announced; the hash only up to `MAX_INLINE_HASH_BYTES`."""
    not_uploaded = WrongState("UPLOADING", upload_parts.NOT_ARRIVED)
    info = await objects.head(upload.object_key)
    if info is None:
        raise not_uploaded
    if info.size != upload.size_bytes:
        raise UploadMismatch("size in bytes", str(upload.size_bytes), str(info.size))
    if upload.sha256 is not None and info.size <= MAX_INLINE_HASH_BYTES:
        try:
            actual = await objects.sha256(upload.object_key, MAX_INLINE_HASH_BYTES)
        except ObjectMissing as error:
            raise not_uploaded from error
        if actual is not None and actual != upload.sha256:
            raise UploadMismatch("SHA-256", upload.sha256, actual)


async def _reject(work: Work, upload: Row[Any], mismatch: StateError) -> bool:
    """Mark an open upload as mismatched and its version as FAILED. Return whether it was open."""
    rejection = update(Upload).where(Upload.id == upload.id, Upload.state == UploadState.OPEN)
    was_open = bool(await work.run(rejection.values(state=UploadState.MISMATCHED)))
    if was_open:
        issue = {"code": versions.UPLOAD_MISMATCH, "message": mismatch.message, "column": None, "row": None}
        version_update = update(DatasetVersion).where(DatasetVersion.id == upload.version_id)
        await work.run(version_update.values(status=DatasetVersionStatus.FAILED, issues=[issue], issue_count=1))
        failed = {"status": DatasetVersionStatus.FAILED, "issue": mismatch.message}
        work.record(AUDITED_AS, "version", upload.version_id, upload.owner_id, {"status": upload.version_status}, failed)
    return was_open
