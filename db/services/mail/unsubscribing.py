"""Links that stop mails with one click (RFC 8058): each is for one person and for the events of one mail, and signs nobody in.

A link is an HMAC-SHA-256 over what it is for, under a key that is derived from `TRELLIS_SECRET_KEY`, so a copy of the database makes none. Mails have
none without that key, or without `TRELLIS_PUBLIC_URL`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
import time
from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from db.services.notifications.preferences import OF_ACCOUNTS
from db.settings import StateSettings
from db.tables.notifications import EventType

PATH = "/unsubscribe/"
LIFETIME = 90 * 86_400  # seconds
_LINK = struct.Struct(">B16sI")
_VERSION = 1
_MAC_LENGTH = 32


@dataclass(frozen=True, slots=True)
class StopLink:
    """What a link is for: these events are mailed to this person no more."""

    user_id: UUID
    event_types: tuple[EventType, ...]
    expires_at: int  # seconds since 1970

    @property
    def is_expired(self) -> bool:
        return self.expires_at < time.time()


def url(settings: StateSettings, user_id: UUID, event_types: Collection[EventType]) -> str | None:
    """The address of a link; None if there can be none."""
    if not settings.public_url or not settings.secret_key.get_secret_value():
        return None
    names = ",".join(sorted(event_type.value for event_type in event_types))
    content = _LINK.pack(_VERSION, user_id.bytes, int(time.time()) + LIFETIME) + names.encode()
    token = base64.urlsafe_b64encode(content + _mac(settings, content)).decode().rstrip("=")
    return f"{settings.public_url.rstrip('/')}{PATH}{token}"


def headers(address: str | None) -> dict[str, str]:
    """The headers of a mail by which its reader's program offers to stop such mails."""
    return {} if address is None else {"List-Unsubscribe": f"<{address}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}


def read(settings: StateSettings, token: str) -> StopLink | None:
    """What a token is for, expired or not; None for one that was not made here."""
    if not settings.secret_key.get_secret_value():
        return None
    try:
        signed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        return None
    content, mac = signed[:-_MAC_LENGTH], signed[-_MAC_LENGTH:]
    if len(content) <= _LINK.size or not hmac.compare_digest(mac, _mac(settings, content)):
        return None
    version, user_id, expires_at = _LINK.unpack(content[: _LINK.size])
    known = {event_type.value for event_type in set(EventType) - OF_ACCOUNTS}
    event_types = tuple(EventType(name) for name in content[_LINK.size :].decode().split(",") if name in known)
    return StopLink(UUID(bytes=user_id), event_types, expires_at) if version == _VERSION and event_types else None


def _mac(settings: StateSettings, content: bytes) -> bytes:
    key = hmac.digest(settings.secret_key.get_secret_value().encode(), b"trellis unsubscribe links", hashlib.sha256)
    return hmac.digest(key, content, hashlib.sha256)
