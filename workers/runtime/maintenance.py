"""A worker's part in the chores: it looks which are due, and does those that nobody else is doing."""

from __future__ import annotations

import random

from db.services import maintenance

MIN_PAUSE, MAX_PAUSE = 0.5, 30.0
BUSY_PAUSE = 10.0  # seconds after which a chore that another worker does is asked about again


class Maintenance:
    """`round` looks once; `pause` says in how many seconds to look again."""

    def __init__(self, context: maintenance.MaintenanceContext, worker: str) -> None:
        self._context = context
        self._worker = worker
        self.pause = MIN_PAUSE

    async def run_due(self) -> None:
        """One statement when nothing is due."""
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
        # Not all workers at the same instant: only one of them can do it.
        self.pause = min(self.pause, max(MIN_PAUSE, seconds) * random.uniform(1.0, 1.1))  # noqa: S311 - spreads load, guards nothing
