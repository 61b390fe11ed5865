"""Servers with settings of their own, beside the shared one, and requests written byte by byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from graph.settings import GraphSettings
from server.app import create_app
from server.settings import server_settings
from server.uvicorn_config import build_config


@asynccontextmanager
async def serving(limits: GraphSettings | None = None, *, shutdown_grace: int = 2, **changes: Any) -> AsyncGenerator[str]:
    """Run the real application in a real uvicorn with these settings; yield its address. At the end, connections have `shutdown_grace` seconds."""
    settings = server_settings().model_copy(update=changes)
    server = uvicorn.Server(build_config(create_app(settings, limits=limits), settings, port=0, timeout_graceful_shutdown=shutdown_grace))
    task = asyncio.create_task(server._serve())  # pyright: ignore[reportPrivateUsage] - `serve` would install signal handlers
    while not server.started:
        await asyncio.sleep(0.01)
        if task.done():
            task.result()
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await task


class RawConnection:
    """A connection that sends exactly the given bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *data: bytes) -> None:
        self.writer.write(b"".join(data))
        await self.writer.drain()

    async def read_head(self) -> tuple[int, dict[str, str]]:
        """Return the status and headers of the next response; (0, {}) if the connection was closed instead."""
        try:
            raw = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, OSError):
            return 0, {}
        status_line, *header_lines = raw.decode("latin-1").strip().split("\r\n")
        pairs = (line.split(": ", 1) for line in header_lines)
        return int(status_line.split()[1]), {name.lower(): value for name, value in pairs}

    async def read_response(self) -> tuple[int, dict[str, str], bytes]:
        status, headers = await self.read_head()
        return status, headers, await self.reader.readexactly(int(headers.get("content-length", "0")))

    async def read_to_end(self) -> bytes:
        """Read until the other side closes the connection."""
        try:
            return await self.reader.read()
        except OSError:
            return b""


@asynccontextmanager
async def raw_connection(url: str) -> AsyncGenerator[RawConnection]:
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield RawConnection(reader, writer)
    finally:
        writer.close()


QUERY = b'{"query": "{ __typename }"}'


def post_request(body: bytes = QUERY, *headers: bytes, length: int | None = None) -> bytes:
    """Return a whole request; `length` overrides its Content-Length."""
    lines = [b"POST /graphql HTTP/1.1", b"host: trellis", b"content-type: application/json", *headers]
    lines.append(b"content-length: %d" % (len(body) if length is None else length))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
