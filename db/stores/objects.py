"""The objects in S3: presigned URLs for clients, streams for workers. PostgreSQL holds what each object means."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Self, cast

from db.errors import Unavailable
from db.settings import StateSettings
from db.stores.content_disposition import content_disposition
from db.stores.multipart import MultipartUploads
from db.stores.s3 import Body, LazyClient, S3Client, s3_client
from db.stores.s3_errors import (
    MISSING_CODES,
    REFUSED_STATUSES,
    SERVICE,
    ObjectMissing,
    error_code,
    interruptions,
    refusals,
    status_of,
    translate_errors,
)

MIB = 1024**2
CHUNK_SIZE = MIB
PART_SIZE = 8 * MIB
MAX_PARTS = 10_000
MAX_PLAIN_COPY = 5 * 1024**3
COPY_PART_SIZE = 512 * MIB
MAX_READ_BACK = 64 * MIB  # an upload up to this size is read back; reading larger objects would keep the caller waiting
DELETE_BATCH = 1_000
READ_TIMEOUT = 30.0
ATTEMPTS = 3
ABORT_TIMEOUT = 2.0  # seconds for aborting a multipart upload: a caller that failed or was cancelled waits for it
# The response to a copy comes when it is done: rclone copies about 200 MB/s, so 50 GB take four minutes; the rest is for slower disks.
COPY_TIMEOUT = 3_600.0


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """The metadata of an object. `etag` is empty where the store has none, and need not be a checksum."""

    size: int
    etag: str
    content_type: str


@dataclass(frozen=True, slots=True)
class ListedObject:
    key: str
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class ListedPage:
    """Some objects, and the store's clock when it listed them, rounded up: it has whole seconds, and timestamps of objects have fractions."""

    now: datetime
    objects: list[ListedObject]


class ObjectStore:
    """One bucket. Every method raises `Unavailable` when the store does not reply or refuses the request, after the client's retries."""

    def __init__(self, bucket: str, region: str, client: S3Client, signer: S3Client, copier: S3Client) -> None:
        self.bucket = bucket
        self.region = region
        self._client = client
        self._signer = signer
        self._copier = copier
        self.multipart = MultipartUploads(bucket, client, signer)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: StateSettings) -> AsyncGenerator[Self]:
        """Open the store for the life of a process; it connects on first use. Usable in the event loop that opened it."""
        async with AsyncExitStack() as clients:

            def client(url: str, read_timeout: float, attempts: int) -> S3Client:
                make = partial(s3_client, settings, url, read_timeout=read_timeout, attempts=attempts)
                return cast("S3Client", LazyClient(clients, make))

            url = settings.s3_endpoint_url
            # Signing sends nothing; it needs its own client because the signature covers the host that clients will call.
            signer = client(settings.s3_public_url or url, READ_TIMEOUT, 1)
            copier = client(url, COPY_TIMEOUT, 2)
            yield cls(settings.s3_bucket, settings.s3_region, client(url, READ_TIMEOUT, ATTEMPTS), signer, copier)

    def of_bucket(self, bucket: str) -> ObjectStore:
        """Return the store with another bucket, which the same account can read."""
        return ObjectStore(bucket, self.region, self._client, self._signer, self._copier)

    async def ensure_bucket(self) -> None:
        """Create the bucket if it does not exist."""
        with translate_errors():
            try:
                await self._head_bucket()
            except refusals() as error:
                if error_code(error) not in MISSING_CODES | {"NoSuchBucket"}:
                    raise
            else:
                return
            location = {} if self.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": self.region}}
            try:
                await self._client.create_bucket(Bucket=self.bucket, **location)
            except refusals() as error:
                if error_code(error) not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:  # another process was faster
                    raise

    async def check(self) -> None:
        """Return if the store replies and has the bucket; else raise."""
        with translate_errors():
            await self._head_bucket()

    async def _head_bucket(self) -> None:
        try:
            await self._client.head_bucket(Bucket=self.bucket)
        except refusals() as error:
            if status_of(error) in REFUSED_STATUSES:  # the answer to HEAD has no body, and so no code that says what is wrong
                await self._client.list_objects_v2(Bucket=self.bucket, MaxKeys=1)
            raise

    async def presign_put(self, key: str, size: int, content_type: str, sha256_hex: str | None, expires: int) -> tuple[str, dict[str, str]]:
        """Return a URL that accepts one file of exactly `size` bytes for `expires` seconds, and the headers to send with it, all signed.

        A claimed SHA-256 is signed too, but not every store checks it: what was uploaded is verified before it counts.
        """
        parameters: dict[str, Any] = {"Bucket": self.bucket, "Key": key, "ContentType": content_type, "ContentLength": size}
        headers = {"Content-Type": content_type, "Content-Length": str(size)}
        if sha256_hex is not None:
            checksum = base64.b64encode(bytes.fromhex(sha256_hex)).decode()
            parameters["ChecksumSHA256"] = headers["x-amz-checksum-sha256"] = checksum
        with translate_errors():
            url = await self._signer.generate_presigned_url("put_object", Params=parameters, ExpiresIn=expires, HttpMethod="PUT")
        return url, headers

    async def presign_get(self, key: str, filename: str, content_type: str, expires: int) -> str:
        """Return a URL that downloads the object under any `filename`, and never displays it in a browser."""
        with translate_errors():
            return await self._signer.generate_presigned_url(
                "get_object",
                Params={
                    "Bucket": self.bucket,
                    "Key": key,
                    "ResponseContentDisposition": content_disposition(filename),
                    "ResponseContentType": content_type,
                },
                ExpiresIn=expires,
                HttpMethod="GET",
            )

    async def head(self, key: str) -> ObjectInfo | None:
        """Return the metadata of an object; None where there is none."""
        with translate_errors():
            try:
                response = await self._client.head_object(Bucket=self.bucket, Key=key)
            except refusals() as error:
                if error_code(error) in MISSING_CODES:
                    return None
                raise
        return ObjectInfo(response["ContentLength"], response.get("ETag", "").strip('"'), response.get("ContentType", ""))

    async def copy(self, key_from: str, key_to: str) -> None:
        """Copy inside the store. Raises `ObjectMissing`."""
        info = await self.head(key_from)
        if info is None:
            raise ObjectMissing(key_from)
        if info.size > MAX_PLAIN_COPY and await self._copy_in_parts(key_from, key_to, info.size):
            return
        with translate_errors(key_from):
            await self._copier.copy_object(Bucket=self.bucket, Key=key_to, CopySource={"Bucket": self.bucket, "Key": key_from})

    async def _copy_in_parts(self, key_from: str, key_to: str, size: int) -> bool:
        """Copy in parts; return False where the store cannot (rclone): its plain copy has no size limit."""
        source = {"Bucket": self.bucket, "Key": key_from}

        async def send(upload: dict[str, Any]) -> list[dict[str, Any]]:
            parts: list[dict[str, Any]] = []
            for number, start in enumerate(range(0, size, COPY_PART_SIZE), 1):
                end = min(start + COPY_PART_SIZE, size) - 1
                part = await self._copier.upload_part_copy(
                    **upload, PartNumber=number, CopySource=source, CopySourceRange=f"bytes={start}-{end}"
                )
                etag = part.get("CopyPartResult", {}).get("ETag")
                if not etag:
                    raise _PartCopyUnsupported
                parts.append({"PartNumber": number, "ETag": etag})
            return parts

        with translate_errors(key_from):
            try:
                await self._multipart_upload(self._copier, {"Bucket": self.bucket, "Key": key_to}, send)
            except _PartCopyUnsupported:
                return False
        return True

    async def download(self, key: str, path: Path) -> tuple[int, str]:
        """Write the object to `path`, a MiB at a time; return its size and SHA-256. A transfer that is cut resumes where it stopped.

        Raises `ObjectMissing`.
        """
        digest = hashlib.sha256()
        with path.open("wb") as file:

            def write_chunk(chunk: bytes) -> None:
                file.write(chunk)
                digest.update(chunk)

            async for chunk in self._stream(key):
                await asyncio.to_thread(write_chunk, chunk)
            return file.tell(), digest.hexdigest()

    async def upload(self, file: BinaryIO, key: str, content_type: str) -> tuple[int, str]:
        """Store an open file, in parts where it is large; return its size and SHA-256 (hexadecimal) as they were read.

        The stored object is compared with them. Raises `Unavailable` if it differs: a retry may succeed.
        """
        size, sha256, is_confirmed = await self._send(file, key, content_type)
        if not is_confirmed:
            await self._compare(key, size, sha256)
        return size, sha256

    async def _compare(self, key: str, size: int, sha256: str) -> None:
        """Compare a stored object with what was sent. Raises `Unavailable` if they differ."""
        info = await self.head(key)
        if info is None or info.size != size:
            raise Unavailable(SERVICE, f"of {size:,} bytes that were sent, {'none' if info is None else f'{info.size:,}'} were stored")
        # The store's own checksum is not used: some stores return the one that was claimed. Larger files are checked part by part (Content-MD5).
        try:
            stored = await self.sha256(key, MAX_READ_BACK)
        except ObjectMissing as error:
            raise Unavailable(SERVICE, str(error)) from error
        if stored not in (None, sha256):
            raise Unavailable(SERVICE, "the bytes that were stored are not those that were sent")

    async def _send(self, file: BinaryIO, key: str, content_type: str) -> tuple[int, str, bool]:
        """Send the file; return its size, its SHA-256, and whether the store confirmed that it received these bytes."""
        size = os.fstat(file.fileno()).st_size
        part_size = max(PART_SIZE, -(-size // MAX_PARTS))
        digest = hashlib.sha256()
        sent = 0
        with translate_errors():

            def next_part() -> bytes:
                part = file.read(part_size)
                digest.update(part)
                return part

            target = {"Bucket": self.bucket, "Key": key}
            if size <= part_size:
                body = await asyncio.to_thread(next_part)
                md5 = _md5(body)
                response = await self._client.put_object(**target, Body=body, ContentType=content_type, ContentMD5=_content_md5(md5))
                # An ETag equal to the MD5 of what was sent was computed from what arrived. Stores that encrypt answer with another one.
                return len(body), digest.hexdigest(), response.get("ETag", "").strip('"') == md5.hex()

            # One part at a time and in order: memory stays at one part, and rclone requires the order.
            async def send(upload: dict[str, Any]) -> list[dict[str, Any]]:
                nonlocal sent
                parts: list[dict[str, Any]] = []
                while body := await asyncio.to_thread(next_part):
                    part = await self._client.upload_part(
                        **upload, PartNumber=len(parts) + 1, Body=body, ContentMD5=_content_md5(_md5(body))
                    )
                    parts.append({"PartNumber": len(parts) + 1, "ETag": part["ETag"]})
                    sent += len(body)
                return parts

            await self._multipart_upload(self._client, target, send, ContentType=content_type)
        return sent, digest.hexdigest(), False

    async def write(self, key: str, body: bytes, content_type: str) -> None:
        """Store a small object that is in memory already."""
        with translate_errors():
            await self._client.put_object(Bucket=self.bucket, Key=key, Body=body, ContentType=content_type)

    async def read(self, key: str, limit: int) -> bytes:
        """Return the first `limit` bytes of the object. Raises `ObjectMissing`."""
        with translate_errors(key):
            try:
                response = await self._client.get_object(Bucket=self.bucket, Key=key, Range=f"bytes=0-{limit - 1}")
            except refusals() as error:
                if error_code(error) == "InvalidRange":  # an empty object has no first byte
                    return b""
                raise
            body: Body = response["Body"]
            try:
                return (await body.read())[:limit]
            finally:
                body.close()

    async def stream(self, key: str, offset: int, length: int) -> AsyncGenerator[bytes]:
        """Yield a range of the object in chunks of at most a MiB. Raises `ObjectMissing`."""
        if length:
            async with aclosing(self._stream(key, offset, offset + length)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def sha256(self, key: str, limit: int) -> str | None:
        """Read the object and return its SHA-256 in hexadecimal; None where it is larger than `limit` bytes. Raises `ObjectMissing`."""
        info = await self.head(key)
        if info is None:
            raise ObjectMissing(key)
        if info.size > limit:
            return None
        digest = hashlib.sha256()
        async for chunk in self._stream(key):
            digest.update(chunk)
        return digest.hexdigest()

    async def delete(self, keys: Iterable[str]) -> None:
        """Delete these objects; those that do not exist are no error."""
        remaining = [{"Key": key} for key in keys]
        for start in range(0, len(remaining), DELETE_BATCH):
            batch = remaining[start : start + DELETE_BATCH]
            with translate_errors():
                response = await self._client.delete_objects(Bucket=self.bucket, Delete={"Objects": batch, "Quiet": True})
            if errors := response.get("Errors"):
                raise Unavailable(SERVICE, f"{len(errors)} objects could not be removed, first {errors[0]}")

    async def list(self, prefix: str) -> AsyncIterator[ListedObject]:
        """Yield every object whose key begins with `prefix`, in the order of keys, a thousand a request."""
        async for page in self.pages(prefix):
            for listed in page.objects:
                yield listed

    async def pages(self, prefix: str) -> AsyncIterator[ListedPage]:
        """Yield the same by request."""
        with translate_errors():
            async for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
                now = parsedate_to_datetime(page["ResponseMetadata"]["HTTPHeaders"]["date"]) + timedelta(seconds=1)
                yield ListedPage(
                    now, [ListedObject(listed["Key"], listed["Size"], listed["LastModified"]) for listed in page.get("Contents", [])]
                )

    async def _stream(self, key: str, offset: int = 0, end: int | None = None) -> AsyncGenerator[bytes]:
        """Yield the object's bytes, or those of a range, in chunks of at most a MiB; resume where a transfer was cut."""
        size, failures = offset + 1, 0
        with translate_errors(key):
            while offset < size:
                last = "" if end is None else end - 1
                range_header = {"Range": f"bytes={offset}-{last}"} if offset or end is not None else {}
                response = await self._client.get_object(Bucket=self.bucket, Key=key, **range_header)
                size = offset + response["ContentLength"]
                body: Body = response["Body"]
                try:
                    async for chunk in body.iter_chunks(CHUNK_SIZE):
                        offset += len(chunk)
                        yield chunk
                except interruptions():
                    failures += 1
                    if failures == ATTEMPTS:
                        raise
                    await asyncio.sleep(0.2 * 2**failures)
                finally:
                    body.close()

    async def _multipart_upload(
        self, client: S3Client, target: dict[str, str], send: Callable[[dict[str, Any]], Any], **properties: str
    ) -> None:
        """Run a multipart upload: complete it with the parts that `send` returns, abort it when `send` raises."""
        created = await client.create_multipart_upload(**target, **properties)
        upload = {**target, "UploadId": created["UploadId"]}
        try:
            parts = await send(upload)
            await client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        except BaseException:
            # Also on cancellation: parts of an upload that is not completed take space until the store removes them.
            await asyncio.shield(_abort_quietly(client.abort_multipart_upload(**upload)))
            raise


class _PartCopyUnsupported(Exception):
    """The store replied to a copy of a part without having made it."""


def _md5(body: bytes) -> bytes:
    return hashlib.md5(body, usedforsecurity=False).digest()


def _content_md5(md5: bytes) -> str:
    """Return the value of the header Content-MD5, which stores compare with what arrives."""
    return base64.b64encode(md5).decode()


async def _abort_quietly(abort: Any) -> None:
    try:
        async with asyncio.timeout(ABORT_TIMEOUT):
            await abort
    except (refusals(), *interruptions()):
        return
