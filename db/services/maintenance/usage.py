"""The maintenance task that removes what was recorded of the API's use."""

from __future__ import annotations

from db.queries.retention import API_METRICS, API_REQUESTS, is_over, kept_since, months
from db.services.maintenance.context import MaintenanceContext
from db.services.maintenance.partitions import drop_detached, drop_month
from db.services.maintenance.rows import forget
from db.tables import ApiMetric, ApiRequest


async def forget_api_usage(context: MaintenanceContext) -> int:
    """Delete requests and sums that the retention is over for; return how many rows, and how many partitions. Partitions are dropped whole."""
    database = context.database
    await drop_detached(database, API_REQUESTS.name)
    since = await kept_since(database, API_REQUESTS, context.settings)
    dropped = 0
    for partition in await months(database, API_REQUESTS.name):
        if since is not None and await is_over(database.rows, API_REQUESTS, partition, since):
            await drop_month(database, partition)
            dropped += 1
    return dropped + await forget(context, API_REQUESTS, ApiRequest) + await forget(context, API_METRICS, ApiMetric)
