"""The maintenance task that removes what was recorded of the API's use."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services.maintenance.context import MaintenanceContext, MaintenanceTaskFailed
from db.services.maintenance.rows import delete_in_batches
from db.tables import ApiMetric, ApiRequest

_MONTH = re.compile(r"api_requests_(\d{4})_(\d{2})", re.ASCII)
_PARTITIONS = text("SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'api_requests'::regclass ORDER BY 1")
_LOCK_NOT_AVAILABLE = "55P03"
# Dropping a partition locks `users`, which its foreign key refers to: whoever reads users queues behind the wait for that lock.
LOCK_TIMEOUT = "200ms"


async def forget_api_usage(context: MaintenanceContext) -> int:
    """Delete requests and sums that the retention is over for; return how many rows, and how many partitions. Partitions are dropped whole."""
    settings, database = context.settings, context.database
    (clock,) = await database.rows(select(func.now().label("now")))
    requests_since = clock.now - timedelta(seconds=settings.api_request_retention)
    metrics_since = clock.now - timedelta(seconds=settings.api_metrics_retention)
    dropped = 0
    for row in await database.rows(_PARTITIONS):
        match = _MONTH.fullmatch(row.name)
        if match is not None and _month_after(int(match[1]), int(match[2])) <= requests_since:
            await _drop(database, row.name)
            dropped += 1
    removed = await delete_in_batches(database, ApiRequest, ApiRequest.created_at < requests_since)
    return dropped + removed + await delete_in_batches(database, ApiMetric, ApiMetric.hour < metrics_since)


def _month_after(year: int, month: int) -> datetime:
    return datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)


async def _drop(database: Database, partition: str) -> None:
    try:
        async with database.work(SYSTEM) as work:
            await work.run(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
            await work.run(text(f"DROP TABLE IF EXISTS {partition}"))
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
            raise
        raise MaintenanceTaskFailed(f"{partition} was in use, and was not dropped. The next run tries again.") from None
