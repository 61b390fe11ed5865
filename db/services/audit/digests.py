"""The bytes of events that a seal is made of: each value as PostgreSQL writes it, with its length in front, so that no two events have the same."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeAlias
from uuid import UUID

from sqlalchemy import Executable, Row, Text, cast, func, select

from db.core.sql import equals_any
from db.tables import AuditEvent

FORMAT = b"trellis audit 1"  # a later format may cover more columns; old seals keep this one
NO_SEAL = bytes(32)  # precedes the first seal

Read: TypeAlias = Callable[[Executable], Awaitable[Sequence[Row[Any]]]]

# Their order is a part of the format.
_COLUMNS = (
    AuditEvent.actor_id,
    AuditEvent.credential_id,
    AuditEvent.owner_id,
    AuditEvent.action,
    AuditEvent.subject_id,
    AuditEvent.before,
    AuditEvent.after,
    AuditEvent.origin,
    AuditEvent.ip_address,
    AuditEvent.request_id,
)
_TIME = func.to_char(func.timezone("UTC", AuditEvent.created_at), "YYYY-MM-DD HH24:MI:SS.US")
_CANONICAL = select(AuditEvent.id, _TIME.label("created_at"), *(cast(column, Text).label(column.key) for column in _COLUMNS))


async def read_events(read: Read, ids: Sequence[UUID]) -> dict[UUID, bytes]:
    """The canonical bytes of those of the events that exist, in the order of their ids."""
    rows = await read(_CANONICAL.where(equals_any(AuditEvent.id, ids)).order_by(AuditEvent.id))
    return {row.id: _encoded((row.id.hex, *row[1:])) for row in rows}


def _encoded(values: Iterable[str | None]) -> bytes:
    return b"".join(b"-" if value is None else b"%d:%b" % (len(data := value.encode()), data) for value in values)


def seal_digest(previous: bytes, number: int, events: Iterable[bytes]) -> bytes:
    """The SHA-256 of a seal: of the one before, its number, and its events."""
    digest = hashlib.sha256(FORMAT + previous + number.to_bytes(8, "big"))
    for event in events:
        digest.update(len(event).to_bytes(8, "big") + event)
    return digest.digest()
