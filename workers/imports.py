"""IMPORT: a file is fetched from an address and read into a ready dataset version."""

from __future__ import annotations

from pathlib import Path

from db.core.outbound import parse_networks
from db.queries.artifacts import RAW
from db.services.importing import CONTENT_TYPE, S3_SCHEME, filename_of, s3_location
from db.services.jobs import Failure
from db.services.outputs import StoredFile
from db.settings import state_settings
from db.stores.objects import ObjectMissing
from db.stores.outbound import Fetched, FetchFailed, fetch
from db.tables.jobs import JobKind
from workers.datasets import Source, read_version
from workers.registry import task
from workers.runtime.attempt import Attempt, Effects
from workers.runtime.failures import BodyFailed

FETCH = ("fetch", "Fetch")
_FETCHED_PERCENT = 40.0


@task(JobKind.IMPORT)
async def import_file(attempt: Attempt) -> Effects:
    """Fetch a file and read it as if it had been uploaded. An attempt that was killed leaves a file of its own folder, and the next fetches again."""
    url: str = attempt.job.parameters["url"]
    filename = filename_of(url)

    async def obtain(key: str, path: Path) -> StoredFile:
        try:
            await (_fetch_s3(attempt, url, path) if url.startswith(S3_SCHEME) else _fetch(attempt, url, path))
        except FetchFailed as error:
            raise BodyFailed(Failure(error.code, error.message, retryable=error.retryable)) from None
        attempt.progress(_FETCHED_PERCENT, "Store the file")
        return await attempt.upload(path, key, RAW, filename, CONTENT_TYPE)

    source = Source(FETCH, obtain, filename, CONTENT_TYPE, sha256=attempt.job.parameters["sha256"], obtained_percent=_FETCHED_PERCENT + 2)
    return await read_version(attempt, source)


async def _fetch(attempt: Attempt, url: str, path: Path) -> Fetched:
    settings = state_settings()

    def progress(size: int, total: int | None) -> None:
        percent = _FETCHED_PERCENT * size / max(total or settings.upload_max_bytes, 1)
        attempt.progress(percent, f"Fetch: {size // 1024**2:,} MiB")

    attempt.progress(0, "Fetch")
    allowed = parse_networks(settings.import_allowed_networks)
    return await fetch(url, path, max_bytes=settings.upload_max_bytes, allowed=allowed, progress=progress)


async def _fetch_s3(attempt: Attempt, url: str, path: Path) -> Fetched:
    location = s3_location(url)
    if location is None:
        raise FetchFailed("ADDRESS_REFUSED", "This is no location in S3 from which this Trellis may import.")
    bucket, key = location
    limit = state_settings().upload_max_bytes
    objects = attempt.objects.of_bucket(bucket)
    missing = FetchFailed("NOT_THERE", f"There is no object {url}.")
    info = await objects.head(key)
    if info is None:
        raise missing
    if info.size > limit:
        raise FetchFailed("TOO_LARGE", f"The file is larger than {limit:,} bytes, the most that is accepted.")
    attempt.progress(0, "Fetch")
    try:
        size, sha256 = await objects.download(key, path)
    except ObjectMissing:
        raise missing from None
    return Fetched(size, sha256)
