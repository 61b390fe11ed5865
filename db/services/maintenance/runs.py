"""End external runs that are not heard of any more."""

from __future__ import annotations

from datetime import timedelta

from db.services.maintenance.context import MaintenanceContext
from db.services.tracking import runs


async def abandon_runs(context: MaintenanceContext) -> int:
    """End the runs that nothing was logged to for `run_silence` seconds; return how many."""
    return await runs.abandon_silent(context.database, timedelta(seconds=context.settings.run_silence))
