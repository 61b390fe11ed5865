"""Clients that do not read: whatever closes others closes them too, in time, and little waits for them meanwhile."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import struct
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import UUID

import httpx
import pytest

from db.core.work import Database
from db.settings import StateSettings
from graph.core.ids import decode, encode
from server.preparing import revoke
from server.protocol.frames import GuardedSocket
from server.protocol.guard import GuardedProtocol
from tests.client import Client
from tests.server.serving import serving
from tests.server.test_sockets import HANDSHAKE, bearer, closed
from tests.server.test_sockets import socket as reading
from tests.telling import tell, waiting_jobs

NO_MASK = b"\0\0\0\0"
EVENTS = "subscription($id: ID!) { jobEvents(id: $id) { sequence message } }"
UPDATES = "subscription { jobUpdates { id } }"


def frame(data: bytes, opcode: int = 1) -> bytes:
    length = bytes([0x80 | len(data)]) if len(data) < 126 else bytes([0x80 | 126]) + struct.pack(">H", len(data))
    return bytes([0x80 | opcode]) + length + NO_MASK + data


def message(**members: object) -> bytes:
    return frame(json.dumps(members).encode())


class Deaf:
    """A connection of which nothing is read unless it is said."""

    def __init__(self, plain: socket.socket) -> None:
        self._plain = plain
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._plain, data)

    async def until(self, end: bytes) -> bytes:
        got = b""
        async with asyncio.timeout(10):
            while end not in got:
                got += await self._loop.sock_recv(self._plain, 1)
        return got


@asynccontextmanager
async def deaf(url: str) -> AsyncGenerator[Deaf]:
    host, port = url.removeprefix("http://").split(":")
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.settimeout(0)
        await asyncio.get_running_loop().sock_connect(plain, (host, int(port)))
        yield Deaf(plain)


def sockets() -> list[GuardedSocket]:
    """Those of this process that are open."""
    return [kept for kept in gc.get_objects() if type(kept) is GuardedSocket and not kept.disconnected]


def streams() -> list[GuardedProtocol]:
    """Connections whose stream is held back."""
    return [kept for kept in gc.get_objects() if type(kept) is GuardedProtocol and kept.flow is not None and kept.flow.write_paused]  # pyright: ignore[reportUnnecessaryComparison] - uvicorn begins with None


async def until(holds: Callable[[], bool], seconds: float = 20) -> float:
    """How many seconds it took."""
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.05)
    return time.monotonic() - began


async def told_until(database: Database, job: UUID, holds: Callable[[], bool]) -> None:
    """Long events of the job, until there are more of them on their way than a client takes."""
    async with asyncio.timeout(20):
        while not holds():
            await tell(database, [job], 200, "x" * 8000)
            await asyncio.sleep(0.1)


async def a_job(client: Client, database: Database) -> tuple[UUID, dict[str, object]]:
    """One that no worker takes, and how it is followed."""
    me = decode("user", (await client.one("{ viewer { id } }"))["id"])
    (job,) = await waiting_jobs(database, me, 1)
    return job, {"query": EVENTS, "variables": {"id": encode("job", job)}}


@asynccontextmanager
async def stuck_socket(url: str, client: Client, database: Database) -> AsyncGenerator[Deaf]:
    """Initialised, and with more events on their way than its client takes."""
    job, followed = await a_job(client, database)
    await until(lambda: not sockets())
    async with deaf(url) as wire:
        await wire.send(HANDSHAKE)
        assert b" 101 " in await wire.until(b"\r\n\r\n")
        await wire.send(message(type="connection_init", payload=bearer(client)))
        await wire.until(b"connection_ack")
        await wire.send(message(id="1", type="subscribe", payload=followed))
        await told_until(database, job, lambda: any(not kept.writable.is_set() for kept in sockets()))
        yield wire


@asynccontextmanager
async def stuck_stream(url: str, client: Client, database: Database) -> AsyncGenerator[None]:
    """A stream with more events on their way than its client takes."""
    job, followed = await a_job(client, database)
    body = json.dumps(followed).encode()
    async with deaf(url) as wire:
        head = f"POST /graphql HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {client.token}\r\naccept: text/event-stream\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        await wire.send(head.encode() + body)
        assert b" 200 " in await wire.until(b"\r\n\r\n")
        await told_until(database, job, lambda: bool(streams()))
        yield


async def test_pings_find_out_who_does_not_read(ada: Client, announcing: Database) -> None:
    async with serving(socket_ping_every=0.3) as url, stuck_socket(url, ada, announcing):
        assert await until(lambda: not sockets()) < 5


async def test_who_writes_without_reading_has_a_deadline(ada: Client, announcing: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.protocol.frames.READING", 0.5)
    async with stuck_socket(ada.url, ada, announcing) as wire:
        await wire.send(message(type="pong"))
        assert await until(lambda: not sockets()) < 2


async def test_a_token_that_is_revoked_closes_a_socket_that_is_not_read(ada: Client, announcing: Database, settings: StateSettings) -> None:
    async with stuck_socket(ada.url, ada, announcing):
        await asyncio.to_thread(revoke, settings, "ada@example.org")
        assert await until(lambda: not sockets()) < 2


async def test_pings_that_are_not_read_either_are_the_end(ada: Client, announcing: Database) -> None:
    async with stuck_socket(ada.url, ada, announcing) as wire:
        (kept,) = sockets()
        before = kept.transport.get_write_buffer_size()
        await wire.send(frame(b"x" * 125, 9) * 500)
        assert await until(lambda: not sockets()) < 2
        assert kept.transport.get_write_buffer_size() <= before


async def test_a_close_that_is_not_read_ends_the_connection_all_the_same(ada: Client) -> None:
    """With less on its way than what pauses the server: the close frame waits for its place, and not for ever."""
    async with serving() as url, deaf(url) as wire:
        await until(lambda: not sockets())
        await wire.send(HANDSHAKE)
        await wire.until(b"\r\n\r\n")
        (kept,) = sockets()
        kept.close_timeout = 0.5
        await wire.send(message(type="connection_init", payload=bearer(ada)))
        await wire.until(b"connection_ack")
        await wire.send(message(type="subscribe"))
        assert await until(lambda: not sockets()) < 2


async def test_a_token_that_is_revoked_ends_a_stream_that_is_not_read(ada: Client, announcing: Database, settings: StateSettings) -> None:
    async with stuck_stream(ada.url, ada, announcing):
        await asyncio.to_thread(revoke, settings, "ada@example.org")
        assert await until(lambda: not streams()) < 2


async def test_stopping_waits_for_nobody_who_does_not_read_and_tells_those_who_do(ada: Client, announcing: Database) -> None:
    async with AsyncExitStack() as clients:
        server = serving()
        url = await server.__aenter__()
        await clients.enter_async_context(stuck_socket(url, ada, announcing))
        await clients.enter_async_context(stuck_stream(url, ada, announcing))
        attentive = await clients.enter_async_context(reading(url, bearer(ada)))
        following = ada.http.stream("POST", f"{url}/graphql", json={"query": UPDATES}, headers={"accept": "text/event-stream"})
        stream = await clients.enter_async_context(following)
        assert stream.status_code == 200
        began = time.monotonic()
        await server.__aexit__(None, None, None)
        assert time.monotonic() - began < 1.9, "which is before the server cuts off what is left"
        assert await closed(attentive) == (1012, "")
        async with asyncio.timeout(1):
            with pytest.raises(httpx.RemoteProtocolError):
                await stream.aread()
