"""Where a reader stands after a frame, written down so that another process can go on there."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any, Final

ReaderState = dict[str, Any]
"""Fit for JSON; of no use to another version of the reader."""

MAX_CARRY_BYTES: Final = 64 * 1024
"""Bytes of an unfinished row that a mark may hold. With more there is no mark: the next block will have one."""


def encode_bytes(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def decode_bytes(text: str) -> bytes:
    return b64decode(text)
