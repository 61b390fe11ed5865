"""Many graphql-transport-ws clients in one process, kept minimal so that the server dominates the measurement.

Each counts its messages, checks that they arrive in order and without gaps, and records their age at arrival.
"""

from __future__ import annotations

import asyncio
import base64
import ctypes
import multiprocessing as mp
import os
import struct
import time
from array import array
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from typing import Any, cast
from urllib.parse import urlsplit

import orjson
import uvloop

MAX_OPENING = 100  # connections opened concurrently
OPEN_TIMEOUT = 30  # seconds within which a server must respond


@dataclass(frozen=True)
class Report:
    """The messages that clients received: their number, those out of order, and ages in seconds."""

    received: int
    misplaced: int
    ages: Sequence[float]


def _frame(payload: bytes) -> bytes:
    """Return a client's text frame; the mask may be zero."""
    length = len(payload)
    header = struct.pack("!BB", 0x81, 0x80 | length) if length < 126 else struct.pack("!BBH", 0x81, 0x80 | 126, length)
    return header + bytes(4) + payload


class _Client(asyncio.Protocol):
    def __init__(self, path: str, subprotocol: str, opening: Sequence[bytes], total: Synchronized[int], ages: array[float]) -> None:
        self._path, self._subprotocol, self._opening = path, subprotocol, list(opening)
        self._total, self._ages = total, ages
        self._buffer = bytearray()
        self._upgraded = False
        self._sequence = 0
        self.misplaced = 0
        self.received = 0
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's transports are no registered subclasses
        key = base64.b64encode(os.urandom(16)).decode()
        protocol_header = f"Sec-WebSocket-Protocol: {self._subprotocol}\r\n" if self._subprotocol else ""
        self._transport.write(
            f"GET {self._path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{protocol_header}"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(f"closed before it was open: {bytes(self._buffer)[:200]!r} {exc}"))

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        if not self._upgraded:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            if not buffer.startswith(b"HTTP/1.1 101"):
                self._transport.close()
                return
            del buffer[: end + 4]
            self._upgraded = True
            self._send_next()
        while len(buffer) >= 2:
            length, start = buffer[1] & 0x7F, 2
            if length == 126:
                if len(buffer) < 4:
                    return
                length, start = struct.unpack_from("!H", buffer, 2)[0], 4
            if len(buffer) < start + length:
                return
            opcode, payload = buffer[0] & 0x0F, bytes(buffer[start : start + length])
            del buffer[: start + length]
            if opcode == 9:
                self._transport.write(b"\x8a" + bytes([0x80 | len(payload)]) + bytes(4) + payload)
            elif opcode == 1:
                self._handle_message(payload)

    def _send_next(self) -> None:
        if self._opening:
            self._transport.write(_frame(self._opening.pop(0)))
        if not self._opening and not self.ready.done():
            self.ready.set_result(None)

    def _handle_message(self, payload: bytes) -> None:
        sequence_start = payload.find(b'"sequence":')
        if sequence_start < 0:
            self._send_next()  # connection_ack
            return
        sequence_end = payload.find(b",", sequence_start)
        sequence = int(payload[sequence_start + 11 : sequence_end].strip(b'"'))
        if self._sequence and sequence != self._sequence + 1:
            self.misplaced += 1
        self._sequence = sequence
        message_start = payload.find(b'"message":"', sequence_end)
        if message_start >= 0:
            self._ages.append(time.time() - int(payload[message_start + 11 : payload.find(b'"', message_start + 11)]) / 1e9)
        self.received += 1
        self._total.value += 1


async def _run(url: str, path: str, subprotocol: str, openings: Sequence[Sequence[bytes]], total: Synchronized[int], pipe: Any) -> None:
    address = urlsplit(url)
    assert address.hostname
    assert address.port
    host, port = address.hostname, address.port
    loop = asyncio.get_running_loop()
    ages: array[float] = array("d")
    clients: list[_Client] = []
    semaphore = asyncio.Semaphore(MAX_OPENING)

    async def open_one(opening: Sequence[bytes]) -> None:
        async with semaphore, asyncio.timeout(OPEN_TIMEOUT):
            _, client = await loop.create_connection(lambda: _Client(path, subprotocol, opening, total, ages), host, port)
            clients.append(client)
            await client.ready

    await asyncio.gather(*(open_one(opening) for opening in openings))
    pipe.send("open")
    await loop.run_in_executor(None, pipe.recv)
    pipe.send(Report(sum(client.received for client in clients), sum(client.misplaced for client in clients), ages.tolist()))


def _main(url: str, path: str, subprotocol: str, openings: Sequence[Sequence[bytes]], total: Synchronized[int], pipe: Any) -> None:
    uvloop.run(_run(url, path, subprotocol, openings, total, pipe))


class Clients:
    """Clients in another process; `received` is the total of their messages."""

    def __init__(self, pipe: Connection, total: Synchronized[int]) -> None:
        self._pipe = pipe
        self._total = total

    @property
    def received(self) -> int:
        return self._total.value

    def wait_for(self, messages: int, timeout: float) -> bool:
        """Return whether so many messages have arrived within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self.received < messages:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.0005)
        return True

    def report(self) -> Report:
        self._pipe.send("enough")
        return self._pipe.recv()


@contextmanager
def start_clients(url: str, path: str, openings: Sequence[Sequence[bytes]], subprotocol: str = "") -> Generator[Clients]:
    """Start one client for each of `openings`, the messages that it sends, each after a response to the previous one; end them with the block."""
    context = mp.get_context("spawn")
    total: Any = context.Value(ctypes.c_longlong, 0, lock=False)
    parent_pipe, child_pipe = context.Pipe()
    process = context.Process(target=_main, args=(url, path, subprotocol, openings, total, child_pipe), daemon=True)
    process.start()
    child_pipe.close()
    try:
        assert parent_pipe.recv() == "open"
        yield Clients(parent_pipe, total)
    finally:
        process.terminate()
        process.join(10)


def subscribe_messages(token: str, query: str, **variables: Any) -> list[bytes]:
    """Return the messages that a client sends to follow a subscription."""
    return [
        orjson.dumps({"type": "connection_init", "payload": {"Authorization": f"Bearer {token}"}}),
        orjson.dumps({"id": "1", "type": "subscribe", "payload": {"query": query, "variables": variables}}),
    ]
