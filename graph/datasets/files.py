"""Downloadable files, and pending uploads."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Self
from uuid import UUID

import strawberry
from strawberry import ID

from db.core.page import MAX_SIZE
from db.queries import artifacts, versions
from db.services import item_links, upload_parts
from db.settings import state_settings
from db.tables.datasets import UploadState as StoredUploadState
from graph.core.context import Context, Info
from graph.core.costs import PRESIGN, costs
from graph.core.edges import one
from graph.core.errors import BadUserInput
from graph.core.ids import Node, encode
from graph.core.permissions import Scope
from graph.core.scalars import BigInt
from graph.datasets.enums import PUBLISHED_UPLOAD_STATES, UploadState
from graph.jobs.outputs import job_output

if TYPE_CHECKING:
    from graph.datasets.types import DatasetVersion

MIN_EXPIRY, MAX_EXPIRY = 60, 604_800  # S3 signs for a week at most


@job_output(artifacts.by_id)
@strawberry.type(
    description="A stored file of a dataset version, an item, a model version, an export or an explanation, or of the job that wrote it."
)
class Artifact(Node, prefix="artifact", found_by=artifacts.by_id, scope=Scope.READ):
    object_key: strawberry.Private[str]
    role: str = strawberry.field(
        description="The purpose of the file, such as RAW, PROCESSED, PREVIEW, MODEL, WEIGHTS, CHECKPOINT, MODEL_CARD, RESULTS, CONFIG or LOG."
    )
    filename: str = strawberry.field(description="The filename of a download.")
    content_type: str = strawberry.field(description="Its media type.")
    size_bytes: BigInt = strawberry.field(description="Its size in bytes.")
    sha256: str = strawberry.field(description="Its SHA-256 in hexadecimal.")
    path: str | None = strawberry.field(
        description="Its place among the files of its run, such as `checkpoints/step-000049.skops`; null for a file of no run."
    )
    step: int | None = strawberry.field(
        description="Of a CHECKPOINT: the step of the training after which the model was as in the file, counted from 0 as in the curves."
    )
    created_at: datetime = strawberry.field(description="When it was written.")

    @strawberry.field(
        metadata=costs(PRESIGN),
        description="A presigned URL that downloads the file without a token until it expires. Anyone who has the URL can use it. That of the preview"
        " of an item is valid for an hour at most, and a path at the API where `TRELLIS_PUBLIC_URL` is not set.",
    )
    async def download_url(
        self,
        info: Info,
        expires_in: Annotated[int, strawberry.argument(description="Seconds until the URL expires, 60 to 604,800 (a week).")] = 900,
    ) -> str:
        if not MIN_EXPIRY <= expires_in <= MAX_EXPIRY:
            raise BadUserInput(f"`expiresIn` is {expires_in}; it must be between {MIN_EXPIRY} and {MAX_EXPIRY} seconds.")
        if not self.object_key:  # a preview
            seconds = min(expires_in, item_links.MAX_EXPIRY)
            return item_links.url(state_settings(), item_links.LinkedPart.PREVIEW, self.uuid, seconds)
        return await info.context.objects.presign_get(self.object_key, self.filename, self.content_type, expires_in)


@strawberry.type(description="A header of an HTTP request.")
class HttpHeader:
    name: str = strawberry.field(description="Its name.")
    value: str = strawberry.field(description="Its value, to be sent unchanged.")


@strawberry.type(description="A part of a file that is uploaded in parts: bytes (number − 1) × the size of the first part, and on.")
class UploadPart:
    number: int = strawberry.field(description="Its number, counted from 1.")
    url: str = strawberry.field(description="The presigned URL to PUT exactly its bytes to, without a token and with no other headers.")
    size_bytes: BigInt = strawberry.field(description="Its size in bytes; only that of the last part differs.")


@strawberry.type(
    description="A presigned upload of one file. Send the file to `url` with `method` and exactly these headers, or its `parts` to their URLs, then"
    " call `completeUpload` with the `id`."
)
class Upload:
    row: strawberry.Private[Any]
    version_id: strawberry.Private[UUID]
    id: ID = strawberry.field(description="The id to pass to `completeUpload`.")
    method: str = strawberry.field(description="The HTTP method: PUT.")
    state: UploadState = strawberry.field(description="Whether the file can still be sent.")
    expires_at: datetime = strawberry.field(description="When the URL expires; of an upload in parts, when no part has a URL any more.")
    max_bytes: BigInt = strawberry.field(description="The announced size; the URL accepts exactly that many bytes.")
    version: Annotated["DatasetVersion", strawberry.lazy("graph.datasets.types")] = one(
        versions.by_id, key="version_id", description="The version that the file becomes, UPLOADING until it is completed."
    )

    @classmethod
    def of(cls, row: Any) -> Self:
        return cls(
            row=row,
            version_id=row.version_id,
            id=ID(encode("upload", row.id)),
            method="PUT",
            state=PUBLISHED_UPLOAD_STATES[row.state],
            expires_at=row.expires_at,
            max_bytes=row.size_bytes,
        )

    @strawberry.field(
        metadata=costs(PRESIGN),
        description="The presigned URL for the file. It is authorized by itself; send no token with it. Empty for an upload in parts, whose parts"
        " have URLs, and once the upload is not OPEN.",
    )
    async def url(self, info: Info) -> str:
        return (await self._presigned(info.context))[0]

    @strawberry.field(
        metadata=costs(entries=1),
        description="The signed headers; the object store rejects a request without them. None for an upload in parts.",
    )
    async def headers(self, info: Info) -> list[HttpHeader]:
        return [HttpHeader(name=name, value=value) for name, value in (await self._presigned(info.context))[1].items()]

    @strawberry.field(
        metadata=costs(PRESIGN, entries=1, scaled=("first", 1)),
        description="The parts that have not arrived yet, in order: after a break, exactly these are still to be sent. Their URLs are valid for 15"
        " minutes, unless the operator set another time, and are new in each answer. Empty for an upload by one PUT.",
    )
    async def parts(
        self,
        info: Info,
        first: Annotated[int, strawberry.argument(description="How many parts to return, 0 to 100.")] = 100,
        after: Annotated[int | None, strawberry.argument(description="Return only parts with a higher number.")] = None,
    ) -> list[UploadPart]:
        if not 0 <= first <= MAX_SIZE:
            raise BadUserInput(f"`first` is {first}; it must be between 0 and {MAX_SIZE}.")
        objects, row = info.context.objects, self.row
        self._require_write(info.context)
        numbers = await upload_parts.missing(objects, row, after or 0, first)
        sizes = {number: upload_parts.size_of_part(row, number) for number in numbers}
        expires = self._seconds_left(state_settings().upload_expires)
        sign = objects.multipart.presign
        return [
            UploadPart(number=number, size_bytes=size, url=await sign(row.object_key, row.multipart_id, number, size, expires))
            for number, size in sizes.items()
        ]

    async def _presigned(self, context: Context) -> tuple[str, dict[str, str]]:
        row = self.row
        self._require_write(context)
        if row.part_bytes is not None or row.state is not StoredUploadState.OPEN:
            return "", {}
        # The URL of a repeated call expires when the first one does.
        return await context.objects.presign_put(row.object_key, row.size_bytes, row.content_type, row.sha256, self._seconds_left())

    def _require_write(self, context: Context) -> None:
        """Who may only see what a team owns gets no URL to write to."""
        context.signed_in_viewer.require_write_in(self.row.owner_id)

    def _seconds_left(self, at_most: int | None = None) -> int:
        left = max(1, int((self.expires_at - datetime.now(UTC)).total_seconds()))
        return left if at_most is None else min(left, at_most)
