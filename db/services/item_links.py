"""Links to the bytes of an item: expiring, usable without a token, and each for one item alone.

A link is an HMAC-SHA-256 over what it leads to, under a key that is derived from `TRELLIS_SECRET_KEY`, or from the secret of the object store where that is
not set: whoever has that can read the bytes anyway. The key is outside the database, so a copy of it opens nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
import time
from dataclasses import dataclass
from enum import IntEnum
from uuid import UUID

from db.settings import StateSettings

PATH = "/items/"
MIN_EXPIRY, MAX_EXPIRY = 60, 3_600  # seconds; who left a team gets no new link
_LINK = struct.Struct(">B16sI")
_MAC_LENGTH = 32


class LinkedPart(IntEnum):
    """What of an item a link leads to."""

    CONTENT = 1
    PREVIEW = 2


@dataclass(frozen=True, slots=True)
class ItemLink:
    part: LinkedPart
    item_id: UUID
    expires_at: int  # seconds since 1970

    @property
    def is_expired(self) -> bool:
        return self.expires_at < time.time()


def url(settings: StateSettings, part: LinkedPart, item_id: UUID, expires_in: int) -> str:
    """Return the address; without `TRELLIS_PUBLIC_URL`, its path at the API."""
    content = _LINK.pack(part, item_id.bytes, int(time.time()) + expires_in)
    token = base64.urlsafe_b64encode(content + _mac(settings, content)).decode().rstrip("=")
    return f"{settings.public_url.rstrip('/')}{PATH}{token}"


def read(settings: StateSettings, token: str) -> ItemLink | None:
    """Return what a token leads to, expired or not; None for one that was not made here."""
    try:
        content = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        return None
    content, mac = content[: _LINK.size], content[_LINK.size :]
    if len(mac) != _MAC_LENGTH or not hmac.compare_digest(mac, _mac(settings, content)):
        return None
    part, item_id, expires_at = _LINK.unpack(content)
    return ItemLink(LinkedPart(part), UUID(bytes=item_id), expires_at)


def _mac(settings: StateSettings, content: bytes) -> bytes:
    secret = settings.secret_key.get_secret_value() or settings.s3_secret_access_key.get_secret_value()
    key = hmac.digest(secret.encode(), b"trellis item links", hashlib.sha256)
    return hmac.digest(key, content, hashlib.sha256)
