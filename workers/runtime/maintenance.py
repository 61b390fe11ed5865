"""A worker's scheduler of maintenance tasks: runs those that are due and that no other worker is running."""

from __future__ import annotations

import random

from db.services import maintenance

MIN_PAUSE, MAX_PAUSE = 0.5, 30.0
BUSY_PAUSE = 10.0  # seconds before checking again for a task that another worker is running


class Maintenance:
    """`run_due` checks once; `pause` is the number of seconds until the next check."""

    def __init__(self, context: maintenance.MaintenanceContext, worker: str) -> None:
        self._context = context
        self._worker = worker
        self.pause = MIN_PAUSE

    async def run_due(self) -> None:
        """Run all due tasks. One statement if none is due."""
        self.pause = MAX_PAUSE
        delays = await maintenance.seconds_until_due(self._context)
        for name, delay in delays.items():
            if delay > 0:
                self._schedule_next(delay)
            elif await maintenance.run_if_due(self._context, name, self._worker) is None:
                self._schedule_next(BUSY_PAUSE)
            else:
                self._schedule_next(maintenance.MAINTENANCE_TASKS[name].interval(self._context.settings))

    def _schedule_next(self, seconds: float) -> None:
        # Jitter, because only one worker can run the task.
        self.pause = min(self.pause, max(MIN_PAUSE, seconds) * random.uniform(1.0, 1.1))  # noqa: S311 - spreads load, guards nothing
