"""A reader's state after a frame, from which a reader in another process can resume."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any, Final

ReaderState = dict[str, Any]
"""JSON-serializable; valid only for the same version of the reader."""

MAX_CARRY_BYTES: Final = 64 * 1024
"""Maximum bytes of an incomplete row in a state. With more there is no state; a later block will have one."""


def encode_bytes(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def decode_bytes(text: str) -> bytes:
    return b64decode(text)
