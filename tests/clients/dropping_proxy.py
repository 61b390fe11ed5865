"""A TCP proxy that cuts connections in the middle of a stream's frames."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

_EVENT = b'"type":"next"'


class DroppingProxy:
    """Cut each of the first `drops` connections that carry a subscription, within its third event."""

    def __init__(self, target: str, drops: int) -> None:
        self.address = ""
        self.drops_left = drops
        self._target = urlsplit(target)
        self._upward: set[asyncio.Task[None]] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        upward = asyncio.create_task(self._copy(reader, there_writer))
        self._upward.add(upward)
        await self._copy_events(there_reader, writer)
        upward.cancel()
        for each in (writer, there_writer):
            each.transport.abort()

    async def close(self) -> None:
        """End what the clients left open."""
        for task in self._upward:
            task.cancel()
        await asyncio.gather(*self._upward, return_exceptions=True)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _copy_events(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        count = 0
        with suppress(OSError):
            while data := await reader.read(65536):
                before, *events = data.split(_EVENT)
                if self.drops_left and count + len(events) >= 3:
                    self.drops_left -= 1
                    writer.write(_EVENT.join([before, *events[: 2 - count]]))
                    await writer.drain()
                    return
                count += len(events)
                writer.write(data)
                await writer.drain()


@asynccontextmanager
async def dropping_proxy(target: str, drops: int) -> AsyncGenerator[DroppingProxy]:
    proxy = DroppingProxy(target, drops)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    proxy.address = f"http://{host}:{port}"
    yield proxy
    server.close()
    await proxy.close()
