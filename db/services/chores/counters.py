"""Counters that triggers keep, counted anew."""

from __future__ import annotations

from typing import Any

import structlog
from sqlalchemy import BigInteger, Column, ColumnElement, cast, func, literal, select, text, update

from db.core.base import Table
from db.core.viewer import SYSTEM
from db.services.chores.ground import Ground
from db.tables import StoredObject, User

log: structlog.stdlib.BoundLogger = structlog.get_logger()

PATIENCE = "15min"  # every row of a table is recounted in one statement

REFERENCES: tuple[Column[object], ...] = tuple(
    key.parent for table in Table.metadata.sorted_tables for key in table.foreign_keys if key.column is StoredObject.__table__.c.id
)
"""The columns that refer to stored objects, whichever tables come to have one."""


def _references() -> ColumnElement[int]:
    counts = [select(func.count()).where(column == StoredObject.id).scalar_subquery() for column in REFERENCES]
    return sum(counts, start=cast(literal(0), BigInteger))


def _stored() -> ColumnElement[int]:
    sizes = select(func.coalesce(func.sum(StoredObject.size_bytes), 0)).where(StoredObject.owner_id == User.id)
    return cast(sizes.scalar_subquery(), BigInteger)


async def reconcile_counters(ground: Ground) -> int:
    """How many counters had drifted; each is logged and set right. None ever should: triggers keep them."""
    drifted = 0
    counters: tuple[tuple[Any, Any, ColumnElement[int]], ...] = (
        (StoredObject, StoredObject.reference_count, _references()),
        (User, User.storage_bytes, _stored()),
    )
    for of, counter, truth in counters:
        async with ground.database.work(SYSTEM) as work:
            await work.run(text(f"SET LOCAL statement_timeout = '{PATIENCE}'"))
            await work.run(text("SET LOCAL transaction_timeout = 0"))
            found = await work.all(select(of.id).where(counter != truth).order_by(of.id))
        for row in found:
            # Whoever changes what is counted holds or awaits this row's lock for its trigger's update: once it is ours, whatever the next
            # statement sees is counted already, and whatever it does not see is added after us.
            async with ground.database.work(SYSTEM) as work:
                before = await work.scalar(select(counter).where(of.id == row.id).with_for_update(key_share=True))
                repair = update(of).where(of.id == row.id, counter != truth).values({counter.key: truth}).returning(counter)
                after = await work.scalar(repair)
            if after is not None:
                drifted += 1
                log.warning("counter_had_drifted", counter=f"{of.__tablename__}.{counter.key}", row=str(row.id), was=before, is_now=after)
    return drifted
