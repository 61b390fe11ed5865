"""Partitions by month, dropped as a whole once the retention is over for them.

A partition is detached in one transaction and dropped in another: DETACH CONCURRENTLY is refused beside a DEFAULT partition. Both lock the partitioned table
or what its foreign keys refer to, and whoever uses these queues behind the wait for the lock; so they wait a fifth of a second at most, and try again.
A partition that was detached and not dropped is found by its name.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, TypeVar

import structlog
from sqlalchemy import func, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import DBAPIError

from db.core.database_errors import is_transient
from db.core.viewer import SYSTEM
from db.core.work import Database, Work
from db.queries.retention import Partition, RetainedTable, is_over
from db.services.maintenance.context import MaintenanceTaskFailed
from db.tables import DroppedPartition, RetentionTotal

log: structlog.stdlib.BoundLogger = structlog.get_logger()

T = TypeVar("T")

LOCK_TIMEOUT = "200ms"
ATTEMPTS = 8
PAUSE = (0.5, 2.0)  # seconds between attempts: those who waited meanwhile go first
_DETACHED, _REPLACEMENT = "_detached", "_replacement"
_LEFT_BEHIND = text(
    "SELECT c.oid::regclass::text AS name FROM pg_class c WHERE c.relkind = 'r' AND NOT c.relispartition AND pg_table_is_visible(c.oid)"
    " AND c.relname ~ :pattern ORDER BY 1"
)
_FOREIGN_KEYS = text(
    "SELECT confrelid::regclass::text AS target, pg_get_constraintdef(oid) AS definition FROM pg_constraint"
    " WHERE conrelid = CAST(:parent AS regclass) AND contype = 'f' ORDER BY 1, 2"
)
_COLUMNS = text(
    "SELECT quote_ident(attname) AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute"
    " WHERE attrelid = CAST(:parent AS regclass) AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum"
)


class NotOver(Exception):
    """A parent of the month has begun again, or the rows are not those that were archived."""


async def drop_month(database: Database, partition: Partition) -> None:
    """Detach a partition and drop it. Raises `MaintenanceTaskFailed` if it is in use all the time."""

    async def detach(work: Work) -> None:
        await _lock(work, partition)
        await _detach(work, partition)

    await _attempt(database, partition.name, detach)
    await drop_detached(database, partition.parent)


async def replace_month(
    database: Database, retained: RetainedTable, partition: Partition, since: datetime, archived_rows: int | None = None
) -> int:
    """Put a partition with the rows that stay in the place of one that is past its retention, and drop that; return how many rows went.

    Rows that were written or deleted since the check, or since the archive, are seen: nobody can write any from the moment on in which they are
    counted. So an archive has exactly the rows that the partition had. Raises `NotOver`, and `MaintenanceTaskFailed` if it is in use all the time.
    """
    parent = retained.parent
    assert parent is not None
    columns = ", ".join(column.name for column in await columns_of(database, partition.parent))
    keys = await database.rows(_FOREIGN_KEYS, {"parent": partition.parent})
    replacement = partition.name + _REPLACEMENT

    async def prepare(work: Work) -> None:
        # The foreign keys are added while it is empty: they lock what they refer to.
        await work.run(text(f"DROP TABLE IF EXISTS {replacement}"))
        await work.run(text(f"CREATE TABLE {replacement} (LIKE {partition.parent} INCLUDING ALL)"))
        for key in keys:
            await work.run(text(f"ALTER TABLE {replacement} ADD {key.definition}"))

    async def swap(work: Work) -> int:
        await work.run(text(f"LOCK TABLE {partition.name} IN SHARE ROW EXCLUSIVE MODE"))
        if not await is_over(work.all, retained, partition, since):
            raise NotOver
        counts = f"SELECT count(*) AS rows, pg_total_relation_size('{partition.name}') AS size_bytes FROM {partition.name}"  # noqa: S608 - our own names
        row = await work.one(text(counts))
        if archived_rows not in (None, row.rows):
            raise NotOver
        kept = 0
        if parent.stays is not None:
            kept = await work.run(
                text(
                    f"INSERT INTO {replacement} ({columns}) SELECT {', '.join(f't.{name}' for name in columns.split(', '))}"  # noqa: S608 - our own names
                    f" FROM {retained.source.format(partition.name)} WHERE {parent.stays}"
                )
            )
        await _lock(work, partition)
        await _detach(work, partition)
        first, end = partition.ids
        await work.run(text(f"ALTER TABLE {replacement} RENAME TO {partition.name}"))
        await work.run(text(f"ALTER TABLE {partition.parent} ATTACH PARTITION {partition.name} FOR VALUES FROM ('{first}') TO ('{end}')"))
        await _record_drop(work, partition, row.rows - kept, kept, row.size_bytes)
        return row.rows - kept

    await _attempt(database, partition.name, prepare)
    gone = await _attempt(database, partition.name, swap)
    log.info("partition_dropped", partition=partition.name, rows=gone)
    await drop_detached(database, partition.parent)
    return gone


async def drop_detached(database: Database, parent: str) -> None:
    """Drop the partitions of a table that were detached, and replacements that were not attached, those of killed runs among them."""
    pattern = rf"^{parent}_\d{{4}}_\d{{2}}({_DETACHED}|{_REPLACEMENT})$"
    for row in await database.rows(_LEFT_BEHIND, {"pattern": pattern}):

        async def drop(work: Work, name: str = row.name) -> None:
            await work.run(text(f"DROP TABLE IF EXISTS {name}"))

        await _attempt(database, row.name, drop)


async def columns_of(database: Database, parent: str) -> Sequence[Any]:
    """Return the columns of a table as the database has them, each with `name`, quoted, and `type`."""
    return await database.rows(_COLUMNS, {"parent": parent})


async def add_to_totals(work: Work, table: str, rows: int, partitions: int = 0) -> None:
    """Count what was removed of a table."""
    insertion = upsert(RetentionTotal).values(table_name=table, rows=rows, partitions=partitions)
    await work.run(
        insertion.on_conflict_do_update(
            index_elements=["table_name"],
            set_={
                "rows": RetentionTotal.rows + insertion.excluded.rows,
                "partitions": RetentionTotal.partitions + insertion.excluded.partitions,
            },
        )
    )


async def _record_drop(work: Work, partition: Partition, gone: int, kept: int, size_bytes: int) -> None:
    insertion = upsert(DroppedPartition).values(
        name=partition.name, table_name=partition.parent, drops=1, rows=gone, kept_rows=kept, size_bytes=size_bytes, dropped_at=func.now()
    )
    new = insertion.excluded
    added: dict[str, Any] = {
        "drops": DroppedPartition.drops + 1,
        "rows": DroppedPartition.rows + new.rows,
        "kept_rows": new.kept_rows,
        "size_bytes": DroppedPartition.size_bytes + new.size_bytes,
        "dropped_at": new.dropped_at,
    }
    await work.run(insertion.on_conflict_do_update(index_elements=["name"], set_=added))
    await add_to_totals(work, partition.parent, gone, 1)


async def _lock(work: Work, partition: Partition) -> None:
    """Lock what the foreign keys of a table refer to, then the table: in the order in which transactions come to them, so that none waits for another."""
    for key in await work.all(_FOREIGN_KEYS, {"parent": partition.parent}):
        await work.run(text(f"LOCK TABLE {key.target} IN SHARE ROW EXCLUSIVE MODE"))
    await work.run(text(f"LOCK TABLE ONLY {partition.parent} IN ACCESS EXCLUSIVE MODE"))


async def _detach(work: Work, partition: Partition) -> None:
    await work.run(text(f"ALTER TABLE {partition.parent} DETACH PARTITION {partition.name}"))
    await work.run(text(f"ALTER TABLE {partition.name} RENAME TO {partition.name}{_DETACHED}"))


async def _attempt(database: Database, name: str, change: Callable[[Work], Awaitable[T]]) -> T:
    """Run a transaction that waits for locks only briefly; again if it got none. Raises `MaintenanceTaskFailed` in the end."""
    for attempt in range(ATTEMPTS):
        if attempt:
            await asyncio.sleep(random.uniform(*PAUSE))  # noqa: S311 - spreads load, guards nothing
        try:
            async with _brief(database) as work:
                return await change(work)
        except DBAPIError as error:
            if not is_transient(error):
                raise
            log.info("partition_in_use", partition=name, attempt=attempt + 1)
    raise MaintenanceTaskFailed(f"{name} was in use, and was not dropped. The next run tries again.")


@asynccontextmanager
async def _brief(database: Database) -> AsyncGenerator[Work]:
    async with database.work(SYSTEM) as work:
        # Counting the rows of a month may take longer than a statement of the API, but nobody waits for it.
        for name, value in (("lock_timeout", LOCK_TIMEOUT), ("statement_timeout", "0"), ("transaction_timeout", "0")):
            await work.run(text(f"SET LOCAL {name} = '{value}'"))
        yield work
