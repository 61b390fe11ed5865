"""Seal the events of finished transactions. No mutation waits for another's: an event whose transaction commits late is in a later seal."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, exists, func, insert, select, true

from db.core.viewer import SYSTEM
from db.core.work import Database, Work
from db.services.audit.digests import NO_SEAL, read_events, seal_digest
from db.tables import AuditEvent, AuditSeal

log: structlog.stdlib.BoundLogger = structlog.get_logger()

MAX_EVENTS = 1_000  # of one seal
MAX_COMMIT_DELAY = timedelta(hours=1)  # from an event's id to its commit; `transaction_timeout` ends transactions long before
_LOCK = 7_263_005  # of PostgreSQL's advisory locks


async def seal_events(database: Database) -> int:
    """Seal all events that are committed and not sealed yet; return how many."""
    total = 0
    while True:
        async with database.work(SYSTEM) as work:
            count = await _seal(work)
        total += count
        if count < MAX_EVENTS:
            return total


async def _seal(work: Work) -> int:
    await work.run(select(func.pg_advisory_xact_lock(_LOCK)))  # from before the last seal is read until the new one is committed
    last = await work.first(select(AuditSeal.number, AuditSeal.sha256, AuditSeal.newest_id).order_by(AuditSeal.number.desc()).limit(1))
    oldest = None if last is None else oldest_unsealed(last.newest_id)
    ids = [row.id for row in await work.all(select(AuditEvent.id).where(is_unsealed(oldest)).order_by(AuditEvent.id).limit(MAX_EVENTS))]
    if not ids:
        return 0
    number, previous = (1, NO_SEAL) if last is None else (last.number + 1, last.sha256)
    events = await read_events(work.all, ids)
    sha256 = seal_digest(previous, number, events.values())
    await work.run(insert(AuditSeal).values(number=number, event_ids=ids, newest_id=ids[-1], sha256=sha256))
    # A log that is kept elsewhere shows later whether the seals are still these.
    log.info("audit_sealed", number=number, events=len(ids), sha256=sha256.hex())
    return len(ids)


def is_unsealed(oldest: UUID | None) -> ColumnElement[bool]:
    """The condition for events in no seal, from `oldest` on."""
    if oldest is None:
        return true()
    return (AuditEvent.id >= oldest) & ~is_in_seals(AuditSeal.newest_id >= oldest)


def is_in_seals(which: ColumnElement[bool]) -> ColumnElement[bool]:
    """The condition for events in one of the seals that meet a condition."""
    sealed = (
        select(func.unnest(AuditSeal.event_ids).label("id")).where(which).subquery("sealed")
    )  # EXISTS is hashed, however many there are
    return exists().where(sealed.c.id == AuditEvent.id)


def oldest_unsealed(newest_id: UUID) -> UUID:
    """The least id that an event in no seal may have, where `newest_id` is the newest event of the last seal.

    Seals take the oldest events first, so those that were committed before it are in one.
    """
    milliseconds = (newest_id.int >> 80) - int(MAX_COMMIT_DELAY.total_seconds() * 1_000)
    return UUID(int=max(milliseconds, 0) << 80)
