"""What recurs without anybody asking: sweeps, removals, recounts. One worker at a time does each; `run_chore` does one now."""

from db.services.maintenance.registry import MAINTENANCE_TASKS, MaintenanceContext, MaintenanceTask, MaintenanceTaskFailed
from db.services.maintenance.rows import PARTITIONS_AHEAD
from db.services.maintenance.runner import MaintenanceResult, run_if_due, run_task, seconds_until_due

__all__ = [
    "MAINTENANCE_TASKS",
    "PARTITIONS_AHEAD",
    "MaintenanceContext",
    "MaintenanceResult",
    "MaintenanceTask",
    "MaintenanceTaskFailed",
    "run_if_due",
    "run_task",
    "seconds_until_due",
]
