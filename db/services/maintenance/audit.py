"""Maintenance tasks of the audit."""

from __future__ import annotations

import structlog

from db.queries.retention import months
from db.services import audit
from db.services.maintenance.context import MaintenanceContext, MaintenanceTaskFailed
from db.services.maintenance.partitions import drop_detached, drop_month

log: structlog.stdlib.BoundLogger = structlog.get_logger()


async def seal_audit(context: MaintenanceContext) -> int:
    """Seal the events of finished transactions; return how many."""
    return await audit.seal_events(context.database)


async def verify_audit(context: MaintenanceContext) -> int:
    """Compare all events with their seals, then drop the months that the retention is over for; return how many.

    Fails if something does not fit, and then drops nothing.
    """
    database, retention = context.database, context.settings.audit_retention
    report = await audit.verify(database, retention=retention)
    if report.problems:
        log.error("audit_does_not_fit", problems=report.problems)
        raise MaintenanceTaskFailed(f"{report.problems[0]} `trellis audit verify` shows all {len(report.problems)} problems.")
    if retention is None:
        return 0
    await audit.seal_events(database)
    await drop_detached(database, "audit_events")
    first_kept, dropped = await audit.first_kept_id(database, retention), 0
    for partition in await months(database, "audit_events"):
        if partition.ids[1] <= first_kept:
            await drop_month(database, partition)
            log.info("audit_month_dropped", partition=partition.name)
            dropped += 1
    return dropped
