"""What a body tells, thinned out: however fast it reports, its job writes only a few events a second."""

from __future__ import annotations

import time
from collections import deque
from typing import Any
from uuid import UUID

from db.core.viewer import SYSTEM
from db.core.work import Database, Work

from db.services.jobs import Claim, NodeChange, Point, Says, events, metrics, nodes
from db.tables.jobs import JobEventType, JobNodeStatus

LOG_BYTES = 8_000
WAITING_LINES = 2_000
WINDOW = 1.0

_STEPS = frozenset({JobNodeStatus.RUNNING, JobNodeStatus.COMPLETED, JobNodeStatus.FAILED})


class Superseded(Exception):
    """The claim is held no longer: nothing more may be written."""


class Reports:
    """Collects for one attempt; `flush` writes what is due. Progress never falls and keeps 100 for the end."""

    def __init__(self, database: Database, claim: Claim, *, events_per_second: int, log_events: int) -> None:
        self._database = database
        self._claim = claim
        self._log_events = log_events
        self._written: deque[float] = deque(maxlen=events_per_second)
        self._percent = 0
        self._step: str | None = None
        self._moved = False
        self._nodes: dict[str, NodeChange] = {}
        self._steps: dict[str, str] = {}
        self._points: list[Point] = []
        self._lines: deque[str] = deque(maxlen=WAITING_LINES)
        self._turn = 0
        self.run_id: UUID | None = None

    def progress(self, percent: float, step: str | None) -> None:
        percent = max(self._percent, min(99, int(percent)))
        step = step[:200] if step is not None else self._step
        self._moved = self._moved or percent != self._percent or step != self._step
        self._percent, self._step = percent, step

    def node(self, change: NodeChange) -> None:
        self._nodes[change.key] = change
        if change.status in _STEPS:
            self._steps[change.key] = change.status.value

    def point(self, point: Point) -> None:
        self._points.append(point)

    def line(self, line: str) -> None:
        self._lines.append(line)

    async def flush(self, *, everything: bool = False) -> None:
        """Write what the second still has room for, or all there is. Raises `Superseded` or `Unavailable`."""
        kinds = [self._progress_due, self._points_due, self._lines_due]
        self._turn = (self._turn + 1) % len(kinds)
        due = [kind for kind in kinds[self._turn :] + kinds[: self._turn] if kind()]
        if not everything:
            due = due[: self._room()]
        if not due:
            return
        writes = {self._progress_due: self._write_progress, self._points_due: self._write_points, self._lines_due: self._write_lines}
        async with self._database.work(SYSTEM) as work:
            for kind in due:
                await writes[kind](work)
                self._written.append(time.monotonic())

    def _room(self) -> int:
        recent = sum(at > time.monotonic() - WINDOW for at in self._written)
        return (self._written.maxlen or 0) - recent

    def _progress_due(self) -> bool:
        return self._moved or bool(self._nodes)

    def _points_due(self) -> bool:
        return bool(self._points) and self.run_id is not None

    def _lines_due(self) -> bool:
        return bool(self._lines) and self._log_events > 0

    async def _write_progress(self, work: Work) -> None:
        changes, steps, self._nodes, self._steps, self._moved = self._nodes, self._steps, {}, {}, False
        kind, data = JobEventType.PROGRESS, None
        if steps:
            ended = any(status != JobNodeStatus.RUNNING.value for status in steps.values())
            kind = JobEventType.STEP_COMPLETED if ended else JobEventType.STEP_STARTED
            data = {"nodes": [{"key": key, "status": status.upper()} for key, status in steps.items()]}
        await self._append(work, Says(kind, data=data), progress=self._percent, step=self._step)
        await nodes.record(work, self._claim, changes)

    async def _write_points(self, work: Work) -> None:
        points, self._points = self._points, []
        assert self.run_id is not None
        if await metrics.record(work, self._claim, self.run_id, points) is None:
            raise Superseded

    async def _write_lines(self, work: Work) -> None:
        self._log_events -= 1
        text, length = [], 0
        while self._lines and length < LOG_BYTES:
            line = self._lines.popleft()[:LOG_BYTES]
            length += len(line) + 1
            text.append(line)
        if self._log_events == 0:
            text.append("The log is cut here: this attempt has written as much as a job may.")
        await self._append(work, Says(JobEventType.LOG, "\n".join(text)))

    async def _append(self, work: Work, says: Says, **values: Any) -> None:
        if await events.append(work, self._claim, says, **values) is None:
            raise Superseded
