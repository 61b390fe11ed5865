"""Partitions by month, dropped as a whole once the retention is over for them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services.maintenance.context import MaintenanceTaskFailed

_PARTITIONS = text("SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = CAST(:parent AS regclass) ORDER BY 1")
_LOCK_NOT_AVAILABLE = "55P03"
# Dropping a partition locks `users`, which its foreign key refers to: whoever reads users queues behind the wait for that lock.
LOCK_TIMEOUT = "200ms"


async def months(database: Database, table: str) -> Sequence[tuple[str, datetime]]:
    """Return the partitions of a table that have a month, each with when it ends."""
    month = re.compile(rf"{table}_(\d{{4}})_(\d{{2}})", re.ASCII)
    names = [row.name for row in await database.rows(_PARTITIONS, {"parent": table})]
    return [(match[0], _month_after(int(match[1]), int(match[2]))) for name in names if (match := month.fullmatch(name))]


def _month_after(year: int, month: int) -> datetime:
    return datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)


async def drop_partition(database: Database, partition: str) -> None:
    """Drop a partition. Raises `MaintenanceTaskFailed` if somebody uses it."""
    try:
        async with database.work(SYSTEM) as work:
            await work.run(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
            await work.run(text(f"DROP TABLE IF EXISTS {partition}"))
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
            raise
        raise MaintenanceTaskFailed(f"{partition} was in use, and was not dropped. The next run tries again.") from None
