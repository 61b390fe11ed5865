"""The stages of an ingest that its body does, which are nodes of the job."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from workers.ml.reporting import Reporter

READ, PROFILE, PROPOSE = "read", "profile", "propose"


class Stage:
    """Reports the progress of a stage as that of the body, from `start` to `end` percent, and as that of the stage's node."""

    def __init__(self, reporter: Reporter, key: str, start: float, end: float) -> None:
        self._reporter = reporter
        self._key = key
        self._start, self._end = start, end
        self._node_percent = 0
        self.output: dict[str, Any] = {}

    def progress(self, percent: float, step: str) -> None:
        """Report `percent` of the whole body."""
        self._reporter.progress(percent, step)
        node_percent = int(100 * (percent - self._start) / (self._end - self._start))
        if node_percent > self._node_percent:
            self._node_percent = node_percent
            self._reporter.node(self._key, "running", node_percent)


@contextmanager
def stage(reporter: Reporter, key: str, start: float, end: float) -> Generator[Stage]:
    """Report the node as running and, unless the block raises, as completed with the stage's `output`. The worker ends a node that failed."""
    reporter.node(key, "running")
    current = Stage(reporter, key, start, end)
    yield current
    reporter.node(key, "completed", 100, current.output)
