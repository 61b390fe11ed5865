"""Import a dataset version: an IMPORT job fetches a file from an address, or from a location in S3 that the operator allows, and reads it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote
from uuid import UUID

from sqlalchemy import Row

from db.core.audit import ref
from db.core.checks import Checks
from db.core.work import Work
from db.services import datasets, extras, idempotency, jobs, reading_options, versions
from db.services.reading_options import ReadingOptions
from db.settings import state_settings
from db.stores.outbound import MAX_URL_LENGTH, parse_url
from db.tables import DatasetProfile, DatasetVersion, SchemaProposal
from db.tables.datasets import DatasetSource, DatasetVersionStatus
from db.tables.jobs import JobKind

OPERATION = "importDataset"
DEFAULT_FILENAME = "import"
CONTENT_TYPE = "application/octet-stream"
S3_SCHEME = "s3://"
_HEX = frozenset("0123456789abcdef")
_NO_PART = frozenset({"", ".", ".."})  # of a key: what is no name of a file or a folder

IMPORT = jobs.declare(
    jobs.JobKindSpec(
        JobKind.IMPORT,
        title="import",
        queue="upload",
        outputs=(DatasetVersion, DatasetProfile, SchemaProposal),
        on_change=versions.follow_ingest,
        on_retry=versions.reopen,
    )
)


@dataclass(frozen=True, slots=True)
class NewImport:
    """The file to fetch; `sha256` is hex."""

    dataset_id: UUID
    url: str
    sha256: str | None = None
    label: str | None = None
    reading: ReadingOptions | None = None
    idempotency_key: str | None = None


async def submit(work: Work, new: NewImport) -> tuple[UUID, UUID]:
    """Add a PENDING version and submit the job that fetches it; return the ids of both.

    Raises `NotFound`, `InvalidInput`, `Conflict` or `QuotaExceeded`; the end of the unit of work raises `InsufficientCredits`.
    """
    work.viewer.require_write()
    request_input = {key: value for key, value in asdict(new).items() if key != "idempotency_key"}
    stored_answer = await idempotency.recall(work, OPERATION, new.idempotency_key, request_input)
    if stored_answer is not None:
        return UUID(stored_answer["version"]), UUID(stored_answer["job"])
    checks = Checks()
    url = checked_url(new.url, checks)
    label = None if new.label is None else checks.name(new.label, "label")
    sha256 = None if new.sha256 is None else new.sha256.lower()
    if sha256 is not None and (len(sha256) != 64 or not _HEX.issuperset(sha256)):
        checks.add("sha256", message="A SHA-256 is 64 hexadecimal digits; leave it out when you do not know it.")
    reading = reading_options.validated(new.reading, checks)
    checks.raise_if_invalid()
    dataset = await datasets.lock(work, new.dataset_id)
    version_id, number, job_id = await add(work, dataset, url, DatasetSource.IMPORTED, sha256=sha256, label=label, reading=reading)
    await idempotency.remember(work, new.idempotency_key, {"version": str(version_id), "job": str(job_id)})
    imported = {"dataset": ref("dataset", dataset.id), "number": number, "url": without_query(url), "sha256": sha256, "label": label}
    work.record("import_dataset", "version", version_id, dataset.owner_id, after={**imported, "job": ref("job", job_id)})
    return version_id, job_id


async def add(
    work: Work,
    dataset: Row[Any],
    url: str,
    source: DatasetSource,
    *,
    sha256: str | None = None,
    label: str | None = None,
    reading: dict[str, Any] | None = None,
) -> tuple[UUID, int, UUID]:
    """Add the version of an import and submit its job; return the version's id and number, and the id of the job."""
    filename = filename_of(url)
    version_id, number = await versions.add(
        work,
        dataset.id,
        label=label,
        status=DatasetVersionStatus.PENDING,
        source=source,
        original_filename=filename,
        content_type=CONTENT_TYPE,
        reading=reading,
    )
    job = await jobs.submit(
        work,
        jobs.NewJob(
            owner_id=dataset.owner_id,
            kind=IMPORT.kind,
            queue=jobs.queue_for(IMPORT.kind, dataset.modality),
            extras=extras.of_modality(dataset.modality),
            parameters={"url": url, "sha256": sha256} | ({} if reading is None else {"reading": reading}),
            dataset_id=dataset.id,
            dataset_version_id=version_id,
            requires_space=True,
        ),
    )
    return version_id, number, job.id


def checked_url(text: str, checks: Checks) -> str:
    """Return the address as it is fetched. The worker checks it once more, with every address that its host has then."""
    if text.startswith(S3_SCHEME):
        if s3_location(text) is None:
            message = "This is no location in S3 from which this Trellis may import. Whoever runs it can allow it."
            checks.add("url", message=message)
        return text
    try:
        return str(parse_url(text, insecure=bool(state_settings().import_allowed_networks)))
    except ValueError as error:
        checks.add("url", message=str(error))
        return text


def s3_location(url: str) -> tuple[str, str] | None:
    """Return bucket and key of `s3://bucket/key`; None unless the operator allows them. The bucket of this Trellis is never allowed.

    Nor is a key with a part that is empty, `.` or `..`: stores that keep objects as files follow it to other folders, and to other buckets.
    """
    settings = state_settings()
    bucket, slash, key = url.removeprefix(S3_SCHEME).partition("/")
    if not slash or bucket == settings.s3_bucket or len(url) > MAX_URL_LENGTH or "\x00" in url or _NO_PART & {*key.split("/")}:
        return None
    return (bucket, key) if any(_is_under(bucket, key, location) for location in settings.import_s3_locations) else None


def _is_under(bucket: str, key: str, location: str) -> bool:
    allowed_bucket, _, prefix = location.partition("/")
    if bucket != allowed_bucket:
        return False
    return not prefix or key == prefix or key.startswith(prefix if prefix.endswith("/") else f"{prefix}/")


def without_query(url: str) -> str:
    """Return the address as the audit has it, which is kept as it was written: what follows the path is often a signature or a token."""
    return url if url.startswith(S3_SCHEME) else url.partition("?")[0]


def filename_of(url: str) -> str:
    """Return the name of the file: the last part of the path, as far as it can be a name."""
    path = url.partition("://")[2].partition("?")[0].partition("/")[2]
    checks = Checks()
    name = checks.name(PurePosixPath(unquote(path)).name[-255:], "url", length=255)
    return DEFAULT_FILENAME if checks.issues else name
