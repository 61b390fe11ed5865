"""Uploads in parts that clients send by presigned URLs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from db.stores.s3 import S3Client
from db.stores.s3_errors import error_code, refusals, translate_errors

NO_SUCH_UPLOAD = "NoSuchUpload"


@dataclass(frozen=True, slots=True)
class ArrivedPart:
    """A part that is in the store. `etag` is without quotes."""

    number: int
    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class UnfinishedUpload:
    """An upload in parts that takes space in the store, and when it began by the store's clock."""

    key: str
    id: str
    begun: datetime


class MultipartUploads:
    """The uploads in parts of one bucket. Every method raises `Unavailable` as those of `ObjectStore` do."""

    def __init__(self, bucket: str, client: S3Client, signer: S3Client) -> None:
        self._bucket = bucket
        self._client = client
        self._signer = signer

    async def begin(self, key: str, content_type: str) -> str:
        """Return the id of a new upload."""
        with translate_errors():
            created = await self._client.create_multipart_upload(Bucket=self._bucket, Key=key, ContentType=content_type)
        return created["UploadId"]

    async def presign(self, key: str, upload_id: str, number: int, size: int | None, expires: int) -> str:
        """Return a URL that accepts one part of exactly `size` bytes, or of any size with None, for `expires` seconds."""
        part: dict[str, Any] = {"Bucket": self._bucket, "Key": key, "UploadId": upload_id, "PartNumber": number}
        if size is not None:
            part["ContentLength"] = size
        with translate_errors():
            return await self._signer.generate_presigned_url("upload_part", Params=part, ExpiresIn=expires, HttpMethod="PUT")

    async def arrived(self, key: str, upload_id: str) -> dict[int, ArrivedPart] | None:
        """Return the parts that have arrived, by number; None if the upload was completed or aborted."""
        parts: dict[int, ArrivedPart] = {}
        marker: dict[str, Any] = {}
        while True:
            with translate_errors():
                try:
                    page = await self._client.list_parts(Bucket=self._bucket, Key=key, UploadId=upload_id, **marker)
                except refusals() as error:
                    if error_code(error) == NO_SUCH_UPLOAD:
                        return None
                    raise
            for part in page.get("Parts", ()):
                number: int = part["PartNumber"]
                parts[number] = ArrivedPart(number, part["Size"], part["ETag"].strip('"'))
            if not page.get("IsTruncated"):
                return parts
            marker = {"PartNumberMarker": page["NextPartNumberMarker"]}

    async def complete(self, key: str, upload_id: str, parts: Sequence[ArrivedPart]) -> None:
        """Make one object of the parts, which are in the order of their numbers. An upload that was completed or aborted before is no error."""
        listed = [{"PartNumber": part.number, "ETag": f'"{part.etag}"'} for part in parts]
        with translate_errors():
            try:
                await self._client.complete_multipart_upload(
                    Bucket=self._bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": listed}
                )
            except refusals() as error:
                if error_code(error) != NO_SUCH_UPLOAD:
                    raise

    async def unfinished(self, prefix: str) -> list[UnfinishedUpload]:
        """Return the uploads that were neither completed nor aborted, under keys that begin with `prefix`."""
        found: list[UnfinishedUpload] = []
        with translate_errors():
            try:
                async for page in self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=prefix):
                    found += [
                        UnfinishedUpload(upload["Key"], upload["UploadId"], upload["Initiated"]) for upload in page.get("Uploads", ())
                    ]
            except refusals() as error:
                if error_code(error) != NO_SUCH_UPLOAD:  # as rclone answers for a bucket that has never had any
                    raise
        return found

    async def abort(self, prefix: str) -> None:
        """Abort all uploads under keys that begin with `prefix`, and remove their parts: also one whose id was never kept."""
        for upload in await self.unfinished(prefix):
            await self.abort_one(upload.key, upload.id)

    async def abort_one(self, key: str, upload_id: str) -> None:
        """Abort one upload and remove its parts. One that was completed or aborted before is no error."""
        with translate_errors():
            try:
                await self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload_id)
            except refusals() as error:
                if error_code(error) != NO_SUCH_UPLOAD:
                    raise
