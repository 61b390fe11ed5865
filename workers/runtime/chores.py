"""A worker's part in the chores: it looks which are due, and does those that nobody else is doing."""

from __future__ import annotations

import random

from db.services import chores

SHORTEST, LONGEST = 0.5, 30.0
BUSY = 10.0  # seconds after which a chore that another worker does is asked about again


class Chores:
    """`round` looks once; `pause` says in how many seconds to look again."""

    def __init__(self, ground: chores.Ground, worker: str) -> None:
        self._ground = ground
        self._worker = worker
        self.pause = SHORTEST

    async def round(self) -> None:
        """One statement when nothing is due."""
        self.pause = LONGEST
        waits = await chores.waits(self._ground)
        for name, left in waits.items():
            if left > 0:
                self._look_in(left)
            elif await chores.run_if_due(self._ground, name, self._worker) is None:
                self._look_in(BUSY)
            else:
                self._look_in(chores.CHORES[name].every(self._ground.settings))

    def _look_in(self, seconds: float) -> None:
        # Not all workers at the same instant: only one of them can do it.
        self.pause = min(self.pause, max(SHORTEST, seconds) * random.uniform(1.0, 1.1))  # noqa: S311 - spreads load, guards nothing
