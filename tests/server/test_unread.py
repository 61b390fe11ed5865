"""Clients that do not read: their connections are closed in time by the usual reasons, and little is buffered for them meanwhile."""

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
from server.commands.user_operations import revoke_tokens
from server.protocol.http_protocol import LimitedHttpProtocol
from server.protocol.websocket_protocol import LimitedWebSocketProtocol
from tests.client import Client
from tests.event_writer import create_waiting_jobs, write_events
from tests.server.serving import serving
from tests.server.test_sockets import HANDSHAKE, bearer, wait_closed
from tests.server.test_sockets import open_websocket as reading

NO_MASK = b"\0\0\0\0"
EVENTS = "subscription($id: ID!) { jobEvents(id: $id) { sequence message } }"
UPDATES = "subscription { jobUpdates { id } }"


def frame(data: bytes, opcode: int = 1) -> bytes:
    length = bytes([0x80 | len(data)]) if len(data) < 126 else bytes([0x80 | 126]) + struct.pack(">H", len(data))
    return bytes([0x80 | opcode]) + length + NO_MASK + data


def message(**members: object) -> bytes:
    return frame(json.dumps(members).encode())


class NonReadingConnection:
    """A connection that reads only on request."""

    def __init__(self, raw_socket: socket.socket) -> None:
        self._socket = raw_socket
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._socket, data)

    async def read_until(self, end: bytes) -> bytes:
        received = b""
        async with asyncio.timeout(60):
            while end not in received:
                received += await self._loop.sock_recv(self._socket, 1)
        return received


@asynccontextmanager
async def non_reading_connection(url: str) -> AsyncGenerator[NonReadingConnection]:
    host, port = url.removeprefix("http://").split(":")
    with socket.socket() as raw_socket:
        raw_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw_socket.settimeout(0)
        await asyncio.get_running_loop().sock_connect(raw_socket, (host, int(port)))
        yield NonReadingConnection(raw_socket)


def open_sockets() -> list[LimitedWebSocketProtocol]:
    """Return the open websockets of this process."""
    return [protocol for protocol in gc.get_objects() if type(protocol) is LimitedWebSocketProtocol and not protocol.disconnected]


def paused_streams() -> list[LimitedHttpProtocol]:
    """Return the connections whose stream is paused by flow control."""
    return [
        protocol
        for protocol in gc.get_objects()
        if type(protocol) is LimitedHttpProtocol
        and protocol.flow is not None  # pyright: ignore[reportUnnecessaryComparison] - uvicorn begins with None
        and protocol.flow.write_paused
    ]


async def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for less than it takes until the pings (31 s) or the general deadline of what is sent (60 s) would end a connection."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.05)


async def write_events_until(database: Database, job: UUID, condition: Callable[[], bool]) -> None:
    """Write long events of the job until the condition holds, such as that the client's buffers are full."""
    async with asyncio.timeout(60):
        while not condition():
            await write_events(database, [job], 200, "x" * 8000)
            await asyncio.sleep(0.1)


async def create_waiting_job(client: Client, database: Database) -> tuple[UUID, dict[str, object]]:
    """Create a job that no worker claims; return it and the operation that follows it."""
    me = decode("user", (await client.one("{ viewer { id } }"))["id"])
    (job,) = await create_waiting_jobs(database, me, 1)
    return job, {"query": EVENTS, "variables": {"id": encode("job", job)}}


@asynccontextmanager
async def blocked_socket(url: str, client: Client, database: Database) -> AsyncGenerator[NonReadingConnection]:
    """An initialised socket with more pending events than its client's buffers hold."""
    job, operation = await create_waiting_job(client, database)
    await wait_until(lambda: not open_sockets())
    async with non_reading_connection(url) as connection:
        await connection.send(HANDSHAKE)
        assert b" 101 " in await connection.read_until(b"\r\n\r\n")
        await connection.send(message(type="connection_init", payload=bearer(client)))
        await connection.read_until(b"connection_ack")
        await connection.send(message(id="1", type="subscribe", payload=operation))
        await write_events_until(database, job, lambda: any(not kept.writable.is_set() for kept in open_sockets()))
        yield connection


@asynccontextmanager
async def blocked_stream(url: str, client: Client, database: Database) -> AsyncGenerator[None]:
    """A stream with more pending events than its client's buffers hold."""
    job, operation = await create_waiting_job(client, database)
    body = json.dumps(operation).encode()
    async with non_reading_connection(url) as connection:
        head = f"POST /graphql HTTP/1.1\r\nhost: t\r\nauthorization: Bearer {client.token}\r\naccept: text/event-stream\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        await connection.send(head.encode() + body)
        assert b" 200 " in await connection.read_until(b"\r\n\r\n")
        await write_events_until(database, job, lambda: bool(paused_streams()))
        yield


@pytest.mark.exhaustive
async def test_pings_find_out_who_does_not_read(ada: Client, notifying_database: Database) -> None:
    async with serving(socket_ping_interval=0.3) as url, blocked_socket(url, ada, notifying_database):
        await wait_until(lambda: not open_sockets())


@pytest.mark.exhaustive
async def test_who_writes_without_reading_has_a_deadline(
    ada: Client, notifying_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.protocol.websocket_protocol.SEND_TIMEOUT", 0.5)
    async with blocked_socket(ada.url, ada, notifying_database) as connection:
        await connection.send(message(type="pong"))
        await wait_until(lambda: not open_sockets())


@pytest.mark.exhaustive
async def test_a_token_that_is_revoked_closes_a_socket_that_is_not_read(
    ada: Client, notifying_database: Database, settings: StateSettings
) -> None:
    async with blocked_socket(ada.url, ada, notifying_database):
        await revoke_tokens(settings, "ada@example.org")
        await wait_until(lambda: not open_sockets())


async def test_pings_that_are_not_read_either_are_the_end(ada: Client, notifying_database: Database) -> None:
    async with blocked_socket(ada.url, ada, notifying_database) as connection:
        (protocol,) = open_sockets()
        before = protocol.transport.get_write_buffer_size()
        await connection.send(frame(b"x" * 125, 9) * 500)
        await wait_until(lambda: not open_sockets())
        assert protocol.transport.get_write_buffer_size() <= before


async def test_a_close_that_is_not_read_ends_the_connection_all_the_same(ada: Client) -> None:
    """Fewer bytes are pending than what pauses the server: sending the close frame waits for buffer space, with a timeout."""
    async with serving() as url, non_reading_connection(url) as connection:
        await wait_until(lambda: not open_sockets())
        await connection.send(HANDSHAKE)
        await connection.read_until(b"\r\n\r\n")
        (protocol,) = open_sockets()
        protocol.close_timeout = 0.5
        await connection.send(message(type="connection_init", payload=bearer(ada)))
        await connection.read_until(b"connection_ack")
        await connection.send(message(type="subscribe"))
        await wait_until(lambda: not open_sockets())


async def test_a_token_that_is_revoked_ends_a_stream_that_is_not_read(
    ada: Client, notifying_database: Database, settings: StateSettings
) -> None:
    async with blocked_stream(ada.url, ada, notifying_database):
        await revoke_tokens(settings, "ada@example.org")
        await wait_until(lambda: not paused_streams())


@pytest.mark.exhaustive
async def test_shutdown_does_not_wait_for_clients_that_do_not_read_and_notifies_those_that_do(
    ada: Client, notifying_database: Database
) -> None:
    async with AsyncExitStack() as clients:
        server = serving(shutdown_grace=60)
        url = await server.__aenter__()
        await clients.enter_async_context(blocked_socket(url, ada, notifying_database))
        await clients.enter_async_context(blocked_stream(url, ada, notifying_database))
        attentive = await clients.enter_async_context(reading(url, bearer(ada)))
        following = ada.http.stream("POST", f"{url}/graphql", json={"query": UPDATES}, headers={"accept": "text/event-stream"})
        stream = await clients.enter_async_context(following)
        assert stream.status_code == 200
        began = time.monotonic()
        await server.__aexit__(None, None, None)
        assert time.monotonic() - began < 30, "before the server aborts the remaining connections"
        assert await wait_closed(attentive) == (1012, "")
        async with asyncio.timeout(1):
            with pytest.raises(httpx.RemoteProtocolError):
                await stream.aread()
