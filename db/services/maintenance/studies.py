"""Schedule the studies that nothing else scheduled."""

from __future__ import annotations

from db.services.maintenance.context import MaintenanceContext
from db.services.studies import scheduling


async def schedule_studies(context: MaintenanceContext) -> int:
    """Schedule the studies of which a process died before it did, and those whose time is over; return how many there were."""
    return await scheduling.schedule_due(context.database)
