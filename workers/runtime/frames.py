"""Messages between a worker and its child processes: four bytes of length (big-endian), then JSON."""

from __future__ import annotations

import json
import re
import socket
import struct
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from asyncio import StreamReader

# The result for the widest table has 7 MB, and several times that if its texts are escaped; more belongs in a file.
MAX_FRAME_BYTES = 32 * 1024**2
THREAD_DECODE_BYTES = 1024**2  # messages from this size are decoded in a thread, so that heartbeats are not delayed
_LENGTH = struct.Struct("!I")
_INVALID_TEXT = re.compile(rb"\\u0000|\\u[dD][89abAB]|\\u[dD][c-fC-F]")


class BadFrame(Exception):
    """A child sent an invalid message."""


class FrameTooLarge(BadFrame):
    """A message exceeds `MAX_FRAME_BYTES`."""


def encode(message: dict[str, Any]) -> bytes:
    """Encode a message; NaN and infinities become JavaScript's literals."""
    payload = json.dumps(message).encode("ascii")
    if len(payload) > MAX_FRAME_BYTES:
        raise FrameTooLarge(f"The result of the job has {len(payload):,} bytes; the limit is {MAX_FRAME_BYTES:,}. Give it less to do.")
    return _LENGTH.pack(len(payload)) + payload


def decode(payload: bytes) -> dict[str, Any]:
    """Decode a message for PostgreSQL: NaN and infinities become null, NUL and lone surrogates U+FFFD."""
    try:
        message = orjson.loads(payload)  # several times as fast as `json`, so that heartbeats are not delayed
    except orjson.JSONDecodeError:
        message = _decode_lenient(payload)
    if not isinstance(message, dict):
        raise BadFrame("A message must be an object.")
    return sanitize(message) if _INVALID_TEXT.search(payload) else message  # pyright: ignore[reportUnknownVariableType] - JSON


def _decode_lenient(payload: bytes) -> Any:
    """Decode what Python writes beyond JSON: NaN, infinities, lone surrogates."""
    try:
        return json.loads(payload, parse_constant=lambda _name: None)
    except (ValueError, RecursionError) as error:
        raise BadFrame(str(error)) from error


def sanitize(value: Any) -> Any:
    """Replace characters that PostgreSQL's text and jsonb cannot hold by U+FFFD."""
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd").encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, dict):
        return {sanitize(key): sanitize(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType] - JSON
    if isinstance(value, list):
        return [sanitize(item) for item in value]  # pyright: ignore[reportUnknownVariableType] - JSON
    return value


async def read(reader: StreamReader) -> dict[str, Any] | None:
    """Read the next message; None at the end of the stream."""
    import asyncio  # a forkserver imports this module and has no event loop

    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        if length > MAX_FRAME_BYTES:
            raise BadFrame(f"A message has {length:,} bytes; the limit is {MAX_FRAME_BYTES:,}.")
        payload = await reader.readexactly(length)
        return decode(payload) if length < THREAD_DECODE_BYTES else await asyncio.to_thread(decode, payload)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def receive(connection: socket.socket) -> dict[str, Any] | None:
    """Like `read`, blocking."""
    header = _receive_exactly(connection, _LENGTH.size)
    if header is None:
        return None
    payload = _receive_exactly(connection, _LENGTH.unpack(header)[0])
    return None if payload is None else decode(payload)


def _receive_exactly(connection: socket.socket, count: int) -> bytes | None:
    received = bytearray()
    while len(received) < count:
        chunk = connection.recv(min(count - len(received), 1024**2))
        if not chunk:
            return None
        received += chunk
    return bytes(received)
