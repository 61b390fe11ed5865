"""The part of the S3 client that is used here, typed: the library generates its methods at run time and types none of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from db.settings import StateSettings

if TYPE_CHECKING:
    import aioboto3


class Body(Protocol):
    """The body of a response, read as it arrives."""

    async def read(self) -> bytes: ...

    def iter_chunks(self, chunk_size: int) -> AsyncIterator[bytes]: ...

    def close(self) -> None: ...


class Paginator(Protocol):
    def paginate(self, **parameters: Any) -> AsyncIterator[dict[str, Any]]: ...


class S3Client(Protocol):
    """Parameters and responses are named as in Amazon's S3 API reference."""

    async def head_bucket(self, **parameters: Any) -> dict[str, Any]: ...

    async def list_objects_v2(self, **parameters: Any) -> dict[str, Any]: ...

    async def create_bucket(self, **parameters: Any) -> dict[str, Any]: ...

    async def head_object(self, **parameters: Any) -> dict[str, Any]: ...

    async def get_object(self, **parameters: Any) -> dict[str, Any]: ...

    async def put_object(self, **parameters: Any) -> dict[str, Any]: ...

    async def copy_object(self, **parameters: Any) -> dict[str, Any]: ...

    async def delete_objects(self, **parameters: Any) -> dict[str, Any]: ...

    async def create_multipart_upload(self, **parameters: Any) -> dict[str, Any]: ...

    async def upload_part(self, **parameters: Any) -> dict[str, Any]: ...

    async def upload_part_copy(self, **parameters: Any) -> dict[str, Any]: ...

    async def complete_multipart_upload(self, **parameters: Any) -> dict[str, Any]: ...

    async def abort_multipart_upload(self, **parameters: Any) -> dict[str, Any]: ...

    async def list_parts(self, **parameters: Any) -> dict[str, Any]: ...

    async def generate_presigned_url(self, method: str, **parameters: Any) -> str: ...

    def get_paginator(self, operation: str) -> Paginator: ...


@cache
def _session() -> aioboto3.Session:
    """The session of the process, which loads the description of S3 once (0.2 s) however often the store is opened."""
    import aioboto3

    return aioboto3.Session()


def s3_client(settings: StateSettings, url: str, *, read_timeout: float, attempts: int) -> AbstractAsyncContextManager[S3Client]:
    """Return a client of the store at `url`. `attempts` includes the first one."""
    from aiobotocore.config import AioConfig

    config = AioConfig(
        signature_version="s3v4",
        s3={"addressing_style": "path"},  # a bucket as a host name needs DNS of its own, which few private stores have
        connect_timeout=3,
        read_timeout=read_timeout,
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=32,
        # Checksums in trailers, the library's default, are unknown to many S3 servers; we keep SHA-256 of our own.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return cast("Any", _session()).client(
        "s3",
        endpoint_url=url,
        region_name=settings.s3_region,
        aws_access_key_id=settings.s3_access_key_id,
        aws_secret_access_key=settings.s3_secret_access_key.get_secret_value(),
        config=config,
    )


class LazyClient:
    """An `S3Client` that is made when it is first used, and closed by `clients`.

    To import the library takes some 90 ms, and to make a client 20 to 70 ms: too long for a start.
    """

    def __init__(self, clients: AsyncExitStack, make: Callable[[], AbstractAsyncContextManager[S3Client]]) -> None:
        self._clients = clients
        self._make = make
        self._made: S3Client | None = None
        self._making = asyncio.Lock()

    async def made(self) -> S3Client:
        if self._made is None:
            async with self._making:
                if self._made is None:
                    await asyncio.to_thread(import_module, "aioboto3")  # so that the event loop goes on meanwhile
                    self._made = await self._clients.enter_async_context(self._make())
        return self._made

    def get_paginator(self, operation: str) -> Paginator:
        return _LazyPaginator(self, operation)

    def __getattr__(self, operation: str) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any, **parameters: Any) -> Any:
            return await getattr(await self.made(), operation)(*arguments, **parameters)

        return call


class _LazyPaginator:
    def __init__(self, client: LazyClient, operation: str) -> None:
        self._client = client
        self._operation = operation

    async def paginate(self, **parameters: Any) -> AsyncIterator[dict[str, Any]]:
        async for page in (await self._client.made()).get_paginator(self._operation).paginate(**parameters):
            yield page
