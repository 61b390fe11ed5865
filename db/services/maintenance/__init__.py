"""Maintenance tasks: recurring removals, recounts and checks. One worker at a time runs each; `run_task` runs one now."""

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
