"""Compare the events of the audit with their seals."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Row, cast, func, select, text, true

from db.core.audit import ref
from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services.audit.digests import NO_SEAL, read_events, seal_digest
from db.services.audit.sealing import is_in_seals, is_unsealed, oldest_unsealed
from db.tables import AuditEvent, AuditSeal

BATCH_SIZE = 20  # seals that are read at once
MAX_NAMED = 10  # events that a problem names
STATEMENT_TIMEOUT = "15min"  # all events are compared with all seals in one statement


@dataclass(frozen=True, slots=True)
class KnownSeal:
    """A seal as it was noted outside of the database."""

    number: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What a verification found: how many seals and sealed events there are, how many events wait for a seal, and what does not fit.

    `dropped` counts sealed events that are not there because the retention is over for their month.
    """

    seals: int
    events: int
    waiting: int
    last: KnownSeal | None
    problems: Sequence[str]
    dropped: int = 0


async def verify(database: Database, known: KnownSeal | None = None, retention: float | None = None) -> AuditReport:
    """Recompute all seals. Problems name events that are missing or were added, and seals that do not fit, the first one first.

    With a `retention` in seconds, months before may be gone. Of a seal with such events only the link to the next one can be checked.
    """
    problems: list[str] = []
    sealed, dropped, last, newest_id = 0, 0, KnownSeal(0, NO_SEAL), None
    first_kept = None if retention is None else await first_kept_id(database, retention)
    async for seal in _seals(database):
        if seal.number != last.number + 1:
            problems.append(f"Of the seals, {_range(last.number + 1, seal.number - 1)} missing.")
        events = await read_events(database.rows, seal.event_ids)
        missing = [id_ for id_ in seal.event_ids if id_ not in events]
        if missing and first_kept is not None and max(missing) < first_kept:
            dropped += len(missing)
        elif seal_digest(last.sha256, seal.number, events.values()) != seal.sha256:
            problems.append(_misfit(seal, missing))
        if known is not None and known.number == seal.number and known.sha256 != seal.sha256:
            problems.append(f"Seal {seal.number} is {seal.sha256.hex()}, and not the one that was noted: the audit was rewritten.")
        sealed, last, newest_id = sealed + len(events), KnownSeal(seal.number, seal.sha256), seal.newest_id
    if known is not None and known.number > last.number:
        problems.append(f"Seal {known.number}, which was noted, does not exist: the audit was cut off after seal {last.number}.")
    oldest = None if newest_id is None else oldest_unsealed(newest_id)
    if oldest is not None and (added := await _added_before(database, oldest)):
        problems.append(f"In no seal, though older than the last one: {_named(added)}. They were added later.")
    (waiting,) = await database.rows(select(func.count().label("events")).select_from(AuditEvent).where(is_unsealed(oldest)))
    return AuditReport(last.number, sealed, waiting.events, last if last.number else None, problems, dropped)


async def first_kept_id(database: Database, retention: float) -> UUID:
    """Return the least id of an event of the month in which the retention, in seconds, begins. What is older is dropped by month."""
    begins = func.date_trunc("month", func.now() - timedelta(seconds=retention), "UTC")
    (row,) = await database.rows(select(cast(func.extract("epoch", begins) * 1_000, BigInteger).label("milliseconds")))
    return UUID(int=row.milliseconds << 80)


async def _seals(database: Database) -> AsyncGenerator[Row[Any]]:
    number = 0
    while True:
        statement = select(AuditSeal.__table__).where(AuditSeal.number > number).order_by(AuditSeal.number).limit(BATCH_SIZE)
        seals = await database.rows(statement)
        for seal in seals:
            yield seal
        if len(seals) < BATCH_SIZE:
            return
        number = seals[-1].number


async def _added_before(database: Database, oldest: UUID) -> Sequence[UUID]:
    """The first events older than any that may be in no seal, and yet in none."""
    statement = select(AuditEvent.id).where(AuditEvent.id < oldest, ~is_in_seals(true())).order_by(AuditEvent.id)
    async with database.work(SYSTEM) as work:
        await work.run(text(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'"))
        await work.run(text("SET LOCAL transaction_timeout = 0"))
        return [row.id for row in await work.all(statement.limit(MAX_NAMED + 1))]


def _misfit(seal: Row[Any], missing: Sequence[UUID]) -> str:
    count = len(seal.event_ids)
    if missing:
        return f"Seal {seal.number} does not fit: {len(missing)} of its {count} events are missing: {_named(missing)}."
    span = f"from {ref('audit', seal.event_ids[0])} to {ref('audit', seal.event_ids[-1])}" if count > 1 else ref("audit", seal.event_ids[0])
    return f"Seal {seal.number} does not fit: of its {count} events, {span}, one or more were changed, or the seal was."


def _named(ids: Sequence[UUID]) -> str:
    names = ", ".join(ref("audit", id_) for id_ in ids[:MAX_NAMED])
    return names if len(ids) <= MAX_NAMED else f"{names} and more"


def _range(first: int, last: int) -> str:
    return f"{first} is" if first == last else f"{first} to {last} are"
