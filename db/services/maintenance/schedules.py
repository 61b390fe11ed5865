"""Run the import schedules that are due."""

from __future__ import annotations

from db.services import import_schedules
from db.services.maintenance.context import MaintenanceContext

BATCH_SIZE = 100


async def run_import_schedules(context: MaintenanceContext) -> int:
    """Submit the imports that are due; return how many schedules were due."""
    total = 0
    while True:
        ran = await import_schedules.run_due(context.database, BATCH_SIZE)
        total += ran
        if ran < BATCH_SIZE:
            return total
