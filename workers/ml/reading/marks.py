"""Where a reader stands after a frame, written down so that another process can go on there."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any, Final

Mark = dict[str, Any]
"""Fit for JSON; of no use to another version of the reader."""

CARRIED: Final = 64 * 1024
"""Bytes of an unfinished row that a mark may hold. With more there is no mark: the next block will have one."""


def packed(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def unpacked(text: str) -> bytes:
    return b64decode(text)
