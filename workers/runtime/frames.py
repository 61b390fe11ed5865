"""Messages between a worker and its children: four bytes of length, then JSON."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from typing import Any

import orjson

MAX_FRAME_BYTES = (
    32 * 1024**2
)  # what the widest table yields has 7 MB, and several times that where its texts are escaped; more belongs in a file
THREAD_DECODE_BYTES = 1024**2  # bytes of a message that is not decoded while leases wait
_LENGTH = struct.Struct("!I")
_INVALID_TEXT = re.compile(rb"\\u0000|\\u[dD][89abAB]|\\u[dD][c-fC-F]")


class BadFrame(Exception):
    """A child sent something that is not a message."""


class FrameTooLarge(BadFrame):
    """A message is longer than fits."""


def encode(message: dict[str, Any]) -> bytes:
    """The message as bytes; NaN and infinities are written as JavaScript names them."""
    body = json.dumps(message).encode("ascii")
    if len(body) > MAX_FRAME_BYTES:
        raise FrameTooLarge(f"What the job answered has {len(body):,} bytes, and {MAX_FRAME_BYTES:,} fit. Give it less to do.")
    return _LENGTH.pack(len(body)) + body


def decode(body: bytes) -> dict[str, Any]:
    """The message, made fit for PostgreSQL: NaN and infinities are null, NUL and lone surrogates are U+FFFD."""
    try:
        message = orjson.loads(body)  # several times as fast, and a worker has leases to keep
    except orjson.JSONDecodeError:
        message = _decode_lenient(body)
    if not isinstance(message, dict):
        raise BadFrame("A message is an object.")
    return sanitize(message) if _INVALID_TEXT.search(body) else message  # pyright: ignore[reportUnknownVariableType] - JSON


def _decode_lenient(body: bytes) -> Any:
    """What Python writes and JSON does not know: NaN, infinities, lone surrogates."""
    try:
        return json.loads(body, parse_constant=lambda _name: None)
    except (ValueError, RecursionError) as error:
        raise BadFrame(str(error)) from error


def sanitize(value: Any) -> Any:
    """The value with U+FFFD for all that PostgreSQL keeps in no text."""
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd").encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, dict):
        return {sanitize(key): sanitize(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType] - JSON
    if isinstance(value, list):
        return [sanitize(item) for item in value]  # pyright: ignore[reportUnknownVariableType] - JSON
    return value


async def read(reader: asyncio.StreamReader) -> dict[str, Any] | None:
    """The next message; None when the other side has gone."""
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        if length > MAX_FRAME_BYTES:
            raise BadFrame(f"A message of {length:,} bytes was announced; {MAX_FRAME_BYTES:,} fit.")
        body = await reader.readexactly(length)
        return decode(body) if length < THREAD_DECODE_BYTES else await asyncio.to_thread(decode, body)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def receive(connection: socket.socket) -> dict[str, Any] | None:
    """The same, blocking."""
    header = _receive_exactly(connection, _LENGTH.size)
    if header is None:
        return None
    body = _receive_exactly(connection, _LENGTH.unpack(header)[0])
    return None if body is None else decode(body)


def _receive_exactly(connection: socket.socket, count: int) -> bytes | None:
    received = bytearray()
    while len(received) < count:
        chunk = connection.recv(min(count - len(received), 1024**2))
        if not chunk:
            return None
        received += chunk
    return bytes(received)
