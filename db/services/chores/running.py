"""Doing a chore: one worker at a time, not more often than it is due, and told in its row.

The lock is an advisory one of a session that does nothing else, so it lasts over the chore's transactions and ends with its process. A
worker that loses that session (Postgres restarted) may for a moment do a chore beside another; every chore bears that.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import Double, Text, bindparam, case, cast, column, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.sql import Column
from db.core.viewer import SYSTEM
from db.core.work import Database
from db.errors import Unavailable
from db.services.chores.ground import ChoreFailed, Ground
from db.services.chores.registry import CHORES, Chore
from db.tables import Chore as Row

log: structlog.stdlib.BoundLogger = structlog.get_logger()

AGAIN = 60.0  # seconds until a chore that failed, or that nobody ended, is done again, if it is not due sooner


@dataclass(frozen=True, slots=True)
class Ran:
    """How a chore went. `changed` counts rows or objects; `error` says why it failed."""

    name: str
    changed: int
    error: str | None = None


async def run_chore(ground: Ground, name: str, worker: str) -> Ran | None:
    """Do this chore now, due or not, and say how it went; None while another process does it. `KeyError` for a name that there is not."""
    return await _run(ground, CHORES[name], worker, 0.0)


async def run_if_due(ground: Ground, name: str, worker: str) -> Ran | None:
    """The same, but only when it is due; None also when it is not."""
    chore = CHORES[name]
    return await _run(ground, chore, worker, chore.every(ground.settings))


def _left(every: Any) -> Any:
    """Seconds until a chore is due; one that failed or was broken off is due sooner."""
    pause = case((or_(Row.ended_at.is_(None), Row.error.is_not(None)), func.least(every, AGAIN)), else_=every)
    return pause - func.extract("epoch", func.clock_timestamp() - Row.started_at)


def _waiting() -> Any:
    names = func.unnest(bindparam("names", type_=ARRAY(Text)), bindparam("every", type_=ARRAY(Double)))
    known = names.table_valued(column("name", Text), column("every", Double)).render_derived(name="known")
    return select(known.c.name, func.coalesce(_left(known.c.every), 0.0).label("left")).outerjoin(Row, Row.name == known.c.name)


_WAITING = _waiting()


async def waits(ground: Ground) -> dict[str, float]:
    """How many seconds each chore still waits, by name; those that are due have none left, those that are turned off are left out."""
    every = {chore.name: chore.every(ground.settings) for chore in CHORES.values() if chore.every(ground.settings) > 0}
    rows = await ground.database.rows(_WAITING, {"names": list(every), "every": list(every.values())})
    return {row.name: max(float(row.left), 0.0) for row in rows}


async def _run(ground: Ground, chore: Chore, worker: str, every: float) -> Ran | None:
    async with _alone(ground.database, chore.name) as alone:
        if not alone or not await _begin(ground.database, chore.name, worker, every):
            return None
        changed, error = 0, None
        try:
            changed = await chore.step(ground)
        except (ChoreFailed, Unavailable) as failed:
            error = str(failed)
            log.warning("chore_failed", chore=chore.name, error=error)
        except Exception as failed:  # recorded like any other end, for an operator to find
            error = f"{type(failed).__name__}: {failed}"
            log.exception("chore_failed", chore=chore.name)
        await _end(ground.database, chore.name, changed, error)
        if changed:
            log.info("chore_done", chore=chore.name, changed=changed)
        return Ran(chore.name, changed, error)


@asynccontextmanager
async def _alone(database: Database, name: str) -> AsyncGenerator[bool]:
    """Whether nobody else does this chore, for as long as the block lasts."""
    number = func.hashtextextended(literal(f"chore {name}", Text), 0)
    async with database.session() as connection:
        if not (await connection.execute(select(func.pg_try_advisory_lock(number)))).scalar():
            yield False
            return
        try:
            yield True
        finally:
            try:
                await connection.execute(select(func.pg_advisory_unlock(number)))
            except BaseException:
                await connection.invalidate()  # or the pool would lend the lock to somebody else
                raise


async def _begin(database: Database, name: str, worker: str, every: float) -> bool:
    """Whether it was due: another may have done it since we looked."""
    row = upsert(Row).values(name=name, worker=worker, started_at=func.clock_timestamp())
    due = or_(Row.started_at.is_(None), _left(cast(every, Double)) <= 0) if every > 0 else None
    begun = row.on_conflict_do_update(
        index_elements=["name"], set_={"worker": worker, "started_at": func.clock_timestamp(), "ended_at": None}, where=due
    )
    async with database.work(SYSTEM) as work:
        return await work.scalar(begun.returning(Row.name)) is not None


async def _end(database: Database, name: str, changed: int, error: str | None) -> None:
    ended: dict[str, Column | Any] = {
        "ended_at": func.clock_timestamp(),
        "runs": Row.runs + 1,
        "failures": Row.failures + int(error is not None),
        "changed": Row.changed + changed,
        "error": error[:2_000] if error is not None else None,
    }
    async with database.work(SYSTEM) as work:
        await work.run(update(Row).where(Row.name == name).values(ended))
