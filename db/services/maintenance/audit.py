"""Maintenance tasks of the audit."""

from __future__ import annotations

import structlog

from db.services import audit
from db.services.maintenance.context import MaintenanceContext, MaintenanceTaskFailed

log: structlog.stdlib.BoundLogger = structlog.get_logger()


async def seal_audit(context: MaintenanceContext) -> int:
    """Seal the events of finished transactions; return how many."""
    return await audit.seal_events(context.database)


async def verify_audit(context: MaintenanceContext) -> int:
    """Compare all events with their seals; return 0, since nothing is changed. Fails if something does not fit."""
    report = await audit.verify(context.database)
    if report.problems:
        log.error("audit_does_not_fit", problems=report.problems)
        raise MaintenanceTaskFailed(f"{report.problems[0]} `trellis audit verify` shows all {len(report.problems)} problems.")
    return 0
