"""Downloadable files, and pending uploads."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Self
from uuid import UUID

import strawberry
from strawberry import ID

from db.queries import artifacts, versions
from graph.core.context import Info
from graph.core.costs import PRESIGN, costs
from graph.core.edges import one
from graph.core.errors import BadUserInput
from graph.core.ids import Node, encode
from graph.core.permissions import Scope
from graph.core.scalars import BigInt
from graph.jobs.outputs import job_output

if TYPE_CHECKING:
    from graph.datasets.types import DatasetVersion

MIN_EXPIRY, MAX_EXPIRY = 60, 604_800  # S3 signs for a week at most


@job_output(artifacts.by_id)
@strawberry.type(description="A stored file of a dataset version, of a model version, of an export, or of the job that wrote it.")
class Artifact(Node, prefix="artifact", found_by=artifacts.by_id, scope=Scope.READ):
    object_key: strawberry.Private[str]
    role: str = strawberry.field(description="The purpose of the file, such as RAW, PROCESSED, MODEL, MODEL_CARD or LOG.")
    filename: str = strawberry.field(description="The filename of a download.")
    content_type: str = strawberry.field(description="Its media type.")
    size_bytes: BigInt = strawberry.field(description="Its size in bytes.")
    sha256: str = strawberry.field(description="Its SHA-256 in hexadecimal.")
    created_at: datetime = strawberry.field(description="When it was written.")

    @strawberry.field(
        metadata=costs(PRESIGN),
        description="A presigned URL that downloads the file without a token until it expires. Anyone who has the URL can use it.",
    )
    async def download_url(
        self,
        info: Info,
        expires_in: Annotated[int, strawberry.argument(description="Seconds until the URL expires, 60 to 604,800 (a week).")] = 900,
    ) -> str:
        if not MIN_EXPIRY <= expires_in <= MAX_EXPIRY:
            raise BadUserInput(f"`expiresIn` is {expires_in}; it must be between {MIN_EXPIRY} and {MAX_EXPIRY} seconds.")
        return await info.context.objects.presign_get(self.object_key, self.filename, self.content_type, expires_in)


@strawberry.type(description="A header of an HTTP request.")
class HttpHeader:
    name: str = strawberry.field(description="Its name.")
    value: str = strawberry.field(description="Its value, to be sent unchanged.")


@strawberry.type(
    description="A presigned upload of one file. Send the file to `url` with `method` and exactly these headers, then call `completeUpload` with the `id`."
)
class Upload:
    version_id: strawberry.Private[UUID]
    id: ID = strawberry.field(description="The id to pass to `completeUpload`.")
    method: str = strawberry.field(description="The HTTP method: PUT.")
    url: str = strawberry.field(description="The presigned URL for the file. It is authorized by itself; send no token with it.")
    headers: list[HttpHeader] = strawberry.field(
        metadata=costs(entries=1), description="The signed headers; the object store rejects a request without them."
    )
    expires_at: datetime = strawberry.field(description="When the URL expires.")
    max_bytes: BigInt = strawberry.field(description="The announced size; the URL accepts exactly that many bytes.")
    version: Annotated[DatasetVersion, strawberry.lazy("graph.datasets.types")] = one(
        versions.by_id, key="version_id", description="The version that the file becomes, UPLOADING until it is completed."
    )

    @classmethod
    def of(cls, row: Any, url: str, headers: dict[str, str]) -> Self:
        return cls(
            version_id=row.version_id,
            id=ID(encode("upload", row.id)),
            method="PUT",
            url=url,
            headers=[HttpHeader(name=name, value=value) for name, value in headers.items()],
            expires_at=row.expires_at,
            max_bytes=row.size_bytes,
        )
