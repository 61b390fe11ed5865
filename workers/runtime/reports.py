"""What a body tells, thinned out: however fast it reports, its job writes only a few events a second."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from db.core.viewer import SYSTEM
from db.core.work import Database, Work
from db.services.jobs import Claim, NodeChange, Point, events, metrics, nodes
from db.tables.jobs import JobEventType, JobNodeStatus

LINE = 2_000
LOG_EVENT = 8_000
LAST_LOG_EVENT = 64_000
KEPT_LINES = 2_000
WINDOW = 1.0

_ENDED = frozenset({JobNodeStatus.COMPLETED, JobNodeStatus.FAILED})


class Superseded(Exception):
    """The claim is held no longer: nothing more may be written."""


@dataclass(slots=True)
class Pending:
    """What is yet to be written."""

    moved: bool = False
    nodes: dict[str, NodeChange] = field(default_factory=dict[str, NodeChange])
    started: list[str] = field(default_factory=list[str])
    ended: dict[str, str] = field(default_factory=dict[str, str])
    points: list[Point] = field(default_factory=list[Point])
    lines: deque[str] = field(default_factory=deque[str])
    dropped: int = 0


class Reports:
    """Collects for one attempt; `flush` writes what is due. Progress never falls and keeps 100 for the end."""

    def __init__(self, database: Database, claim: Claim, *, events_per_second: int, log_events: int) -> None:
        self._database = database
        self._claim = claim
        self._log_events = log_events
        self._written: deque[float] = deque(maxlen=events_per_second)
        self._percent = 0
        self._step: str | None = None
        self._pending = Pending()
        self._started: set[str] = set()
        self._turn = 0
        self._flushing = asyncio.Lock()
        self.run_id: UUID | None = None

    def progress(self, percent: float, step: str) -> None:
        whole = max(self._percent, min(99, int(percent)))
        if (whole, step) != (self._percent, self._step):
            self._percent, self._step = whole, step[:200]
            self._pending.moved = True

    def node(self, change: NodeChange) -> None:
        self._pending.nodes[change.key] = change
        if change.status is JobNodeStatus.RUNNING and change.key not in self._started:
            self._started.add(change.key)
            self._pending.started.append(change.key)
        elif change.status in _ENDED:
            self._pending.ended[change.key] = change.status.name

    def point(self, point: Point) -> None:
        if self.run_id is not None:
            self._pending.points.append(point)

    def line(self, line: str) -> None:
        pending = self._pending
        if self._log_events == 0 or len(pending.lines) >= KEPT_LINES:
            pending.dropped += 1
        else:
            pending.lines.append(line[:LINE])

    async def flush(self, *, everything: bool = False) -> None:
        """Write what the second still has room for, or all there is. What could not be written stays. Raises `Superseded`, `Unavailable`."""
        async with self._flushing:
            for kind in self._due():
                events = self._events_of(kind)
                if everything or events <= self._room():
                    async with self._database.work(SYSTEM) as work:
                        await self._write(work, kind, last=everything)
                    self._written.extend([time.monotonic()] * events)

    def _due(self) -> list[str]:
        """The kinds of which there is something, another one first each time, so that none starves the others."""
        pending = self._pending
        something = {"progress": pending.moved or bool(pending.nodes), "points": bool(pending.points), "lines": bool(pending.lines)}
        kinds = [kind for kind, there in something.items() if there]
        self._turn += 1
        shift = self._turn % len(kinds) if kinds else 0
        return kinds[shift:] + kinds[:shift]

    def _events_of(self, kind: str) -> int:
        """Steps that started and steps that ended are told apart, even where both happened since the last flush."""
        return 2 if kind == "progress" and self._pending.started and self._pending.ended else 1

    def _room(self) -> int:
        recent = sum(at > time.monotonic() - WINDOW for at in self._written)
        return (self._written.maxlen or 0) - recent

    async def _write(self, work: Work, kind: str, *, last: bool) -> None:
        """Each takes its part out first, since bodies go on reporting meanwhile, and puts it back when it was not written."""
        if kind == "progress":
            await self._write_progress(work)
        elif kind == "points":
            await self._write_points(work)
        else:
            await self._write_lines(work, last=last)

    async def _write_progress(self, work: Work) -> None:
        pending = self._pending
        changes, started, ended = pending.nodes, pending.started, pending.ended
        pending.nodes, pending.started, pending.ended, pending.moved = {}, [], {}, False
        steps = {
            JobEventType.STEP_STARTED: [{"key": key, "status": JobNodeStatus.RUNNING.name} for key in started],
            JobEventType.STEP_COMPLETED: [{"key": key, "status": status} for key, status in ended.items()],
        }
        told = {kind: {"nodes": parts} for kind, parts in steps.items() if parts} or {JobEventType.PROGRESS: None}
        try:
            for kind, data in told.items():
                await self._append(work, kind, data=data, progress=self._percent, step=self._step)
            await nodes.record(work, self._claim, changes)
        except BaseException:
            pending.nodes, pending.started = {**changes, **pending.nodes}, started + pending.started
            pending.ended, pending.moved = {**ended, **pending.ended}, True
            raise

    async def _write_points(self, work: Work) -> None:
        pending = self._pending
        points, pending.points = pending.points, []
        assert self.run_id is not None
        try:
            _held(await metrics.record(work, self._claim, self.run_id, points))
        except BaseException:
            pending.points = points + pending.points
            raise

    async def _write_lines(self, work: Work, *, last: bool) -> None:
        pending = self._pending
        room = LAST_LOG_EVENT if last else LOG_EVENT
        taken: list[str] = []
        while pending.lines and room > 0:
            taken.append(pending.lines.popleft())
            room -= len(taken[-1]) + 1
        cut = self._log_events == 1
        dropped = pending.dropped + len(pending.lines) if cut or last else pending.dropped if not pending.lines else 0
        notes = [f"{dropped} lines were left out here; a job keeps only so many."] if dropped else []
        if cut:
            notes.append("Nothing more of this attempt is kept.")
        try:
            await self._append(work, JobEventType.LOG, message="\n".join(taken + notes))
        except BaseException:
            pending.lines.extendleft(reversed(taken))
            raise
        self._log_events -= 1
        if dropped:
            pending.dropped = 0
        if cut:
            pending.lines.clear()

    async def _append(self, work: Work, kind: JobEventType, **values: Any) -> None:
        _held(await events.append(work, self._claim, kind, **values))


def _held(answer: object) -> None:
    if answer is None:
        raise Superseded
