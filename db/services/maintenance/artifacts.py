"""End the uploads of files of external runs that nobody ended."""

from __future__ import annotations

from db.services.maintenance.context import MaintenanceContext
from db.services.tracking import artifacts


async def complete_artifacts(context: MaintenanceContext) -> int:
    """Complete the uploads that have arrived, and expire the others once `upload_grace` is over; return how many ended."""
    return await artifacts.complete_or_expire(context.database, context.objects)
