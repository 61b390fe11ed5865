"""The maintenance task that removes what was recorded of the API's use."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func, select

from db.services.maintenance.context import MaintenanceContext
from db.services.maintenance.partitions import drop_partition, months
from db.services.maintenance.rows import delete_in_batches
from db.tables import ApiMetric, ApiRequest


async def forget_api_usage(context: MaintenanceContext) -> int:
    """Delete requests and sums that the retention is over for; return how many rows, and how many partitions. Partitions are dropped whole."""
    settings, database = context.settings, context.database
    (clock,) = await database.rows(select(func.now().label("now")))
    requests_since = clock.now - timedelta(seconds=settings.api_request_retention)
    metrics_since = clock.now - timedelta(seconds=settings.api_metrics_retention)
    dropped = 0
    for partition, ends in await months(database, "api_requests"):
        if ends <= requests_since:
            await drop_partition(database, partition)
            dropped += 1
    removed = await delete_in_batches(database, ApiRequest, ApiRequest.created_at < requests_since)
    return dropped + removed + await delete_in_batches(database, ApiMetric, ApiMetric.hour < metrics_since)
