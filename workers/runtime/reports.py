"""What a body tells, thinned out: however fast it reports, its job writes only a few events a second."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import structlog

from db.core.viewer import SYSTEM
from db.core.work import Database, Work
from db.services.jobs import Claim, NodeChange, Point, events, metrics, nodes
from db.tables.jobs import JobEventType, JobNodeStatus
from workers.runtime import telemetry
from workers.runtime.failures import passes
from workers.runtime.frames import tellable
from workers.runtime.logs import Excerpt, LogFile
from workers.runtime.outlook import Outlook

log: structlog.stdlib.BoundLogger = structlog.get_logger()

WINDOW = 1.0
ROOM = 0.05
RESERVE = 0.1  # share of a job's LOG events that is kept for the ends of its attempts, where the reasons stand
SHORTEST, LONGEST = 0.2, 600.0  # seconds between two LOG events, growing as they are used up, so that a job of hours is heard to its end
MOST_POINTS = 50_000

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
    said: Excerpt = field(default_factory=Excerpt)


class Reports:
    """Collects for one attempt; `flush` writes what is due. Progress never falls and keeps 100 for the end.

    `log_events` is what the job may have of LOG events, all its attempts together.
    """

    def __init__(self, database: Database, claim: Claim, *, events_per_second: int, log_events: int) -> None:
        self._database = database
        self._claim = claim
        self._log_events = log_events
        self._used: int | None = None if claim.attempt > 1 else 0
        self._said_at = -LONGEST
        self._outlook = Outlook()
        self._log: LogFile | None = None
        self._written: deque[float] = deque(maxlen=events_per_second)
        self._percent = 0
        self._step: str | None = None
        self._pending = Pending()
        self._started: set[str] = set()
        self._turn = 0
        self._flushing = asyncio.Lock()
        self.run_id: UUID | None = None
        self.reach: dict[str, int] = {}  # the last step of each key that was reported

    def keep_log(self, log: LogFile) -> None:
        """From now on, everything that is said goes there too."""
        self._log = log

    @property
    def log_is_full(self) -> bool:
        """What is said now is hardly kept, so whoever says it may be slowed down."""
        return self._log is not None and self._log.is_full

    @property
    def is_behind(self) -> bool:
        """More points wait to be written than should lie in memory."""
        return len(self._pending.points) > MOST_POINTS

    def progress(self, percent: float, step: str) -> None:
        self._outlook.progress(time.monotonic(), percent)
        whole, step = max(self._percent, min(99, int(percent))), step[:200]
        if (whole, step) != (self._percent, self._step):
            self._percent, self._step = whole, step
            self._pending.moved = True

    @property
    def percent(self) -> int:
        """How far the job is said to be."""
        return self._percent

    def go_on_at(self, percent: float, reach: Mapping[str, int]) -> None:
        """What an earlier attempt did counts: its progress, and the points that stay."""
        self.reach = dict(reach)
        self.progress(percent, "Going on from a checkpoint")

    def start_over(self) -> None:
        """What an earlier attempt did does not count after all, so progress falls, this once."""
        self.reach = {}
        self._percent = 0
        self._outlook = Outlook()

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
            self.reach[point.key] = max(point.step, self.reach.get(point.key, point.step))

    def say(self, text: str) -> None:
        """`text` is whole lines, each with its end."""
        if text:
            self._pending.said.add(text)
            if self._log is not None:
                self._log.add(text)

    def line(self, line: str) -> None:
        """One more line of the log."""
        self.say(tellable(line) + "\n")

    async def flush(self, *, everything: bool = False) -> None:
        """Write what the second still has room for, or all there is. Raises `Superseded`, `Unavailable`.

        What could not be written stays. Of all there is, what never can be written is dropped, so that it keeps back nothing else.
        """
        async with self._flushing:
            if self._used is None and self._pending.said:
                self._used = await events.count_logs(self._database, self._claim.job_id)
            for kind in self._due(everything=everything):
                count = self._events_of(kind)
                if everything or count <= self._room():
                    try:
                        await self._write(kind)
                    except Exception as error:
                        if not everything or isinstance(error, Superseded) or passes(error):
                            raise
                        log.exception("reports_dropped", job=str(self._claim.job_id), kind=kind)
                        self._drop(kind)
                    self._written.extend([time.monotonic()] * count)

    def _drop(self, kind: str) -> None:
        pending = self._pending
        if kind == "points":
            pending.points = []
        elif kind == "lines":
            pending.said = Excerpt()
        else:
            pending.nodes, pending.started, pending.ended, pending.moved = {}, [], {}, False

    async def flush_points(self) -> None:
        """Write the points, as soon as the second has room for them: nothing else is written first. Raises `Superseded`, `Unavailable`."""
        async with self._flushing:
            while self._pending.points and self._room() < 1:  # noqa: ASYNC110 - room comes with time, and tells nobody
                await asyncio.sleep(ROOM)
            if self._pending.points:
                await self._write("points")
                self._written.append(time.monotonic())

    def _due(self, *, everything: bool) -> list[str]:
        """The kinds of which there is something, another one first each time, so that none starves the others."""
        pending = self._pending
        said = bool(pending.said) and self._may_say(last=everything)
        something = {"progress": pending.moved or bool(pending.nodes), "points": bool(pending.points), "lines": said}
        kinds = [kind for kind, there in something.items() if there]
        self._turn += 1
        shift = self._turn % len(kinds) if kinds else 0
        return kinds[shift:] + kinds[:shift]

    def _may_say(self, *, last: bool) -> bool:
        """The first lines at once, later ones at ever longer intervals; the last ones of an attempt from what is kept for them."""
        if self._used is None or last:
            return self._used is not None and self._used < self._log_events
        most = self._log_events - math.ceil(self._log_events * RESERVE)
        pause = SHORTEST * (LONGEST / SHORTEST) ** (self._used / max(most, 1))
        return self._used < most and time.monotonic() - self._said_at >= pause

    def _events_of(self, kind: str) -> int:
        """Steps that started and steps that ended are told apart, even where both happened since the last flush."""
        return 2 if kind == "progress" and self._pending.started and self._pending.ended else 1

    def _room(self) -> int:
        recent = sum(at > time.monotonic() - WINDOW for at in self._written)
        return (self._written.maxlen or 0) - recent

    async def _write(self, kind: str) -> None:
        """Each takes its part out first, since bodies go on reporting meanwhile, and puts it back when it was not written."""
        if kind == "points":
            await self._write_points()
            return
        async with self._database.work(SYSTEM) as work:
            await (self._write_progress(work) if kind == "progress" else self._write_lines(work))

    async def _write_progress(self, work: Work) -> None:
        pending = self._pending
        changes, started, ended = pending.nodes, pending.started, pending.ended
        pending.nodes, pending.started, pending.ended, pending.moved = {}, [], {}, False
        steps = {
            JobEventType.STEP_STARTED: [{"key": key, "status": JobNodeStatus.RUNNING.name} for key in started],
            JobEventType.STEP_COMPLETED: [{"key": key, "status": status} for key, status in ended.items()],
        }
        left = self._outlook.left(time.monotonic())
        going: dict[str, Any] | None = None if left is None else {"secondsLeft": round(left)}
        told = {kind: {"nodes": parts} for kind, parts in steps.items() if parts} or {JobEventType.PROGRESS: going}
        try:
            for kind, data in told.items():
                await self._append(work, kind, data=data, moved=events.Moved(self._percent, self._step, left))
            await nodes.record(work, self._claim, changes)
        except BaseException:
            pending.nodes, pending.started = {**changes, **pending.nodes}, started + pending.started
            pending.ended, pending.moved = {**ended, **pending.ended}, True
            raise

    async def _write_points(self) -> None:
        """Copied without a lock, then moved under one. A commit whose answer was lost is done again, which changes nothing."""
        pending = self._pending
        points, pending.points = pending.points, []
        assert self.run_id is not None
        try:
            staged = await metrics.stage(self._database, points)
            async with self._database.work(SYSTEM) as work:
                _held(await metrics.record(work, self._claim, self.run_id, staged))
        except BaseException:
            pending.points = points + pending.points
            raise

    async def _write_lines(self, work: Work) -> None:
        pending = self._pending
        said, pending.said = pending.said, Excerpt()
        message = said.take()
        try:
            await self._append(work, JobEventType.LOG, message=message)
        except BaseException:
            later, pending.said = pending.said, Excerpt()
            pending.said.add(message + "\n")
            if later:
                pending.said.add(later.take() + "\n")
            raise
        assert self._used is not None
        self._used += 1
        self._said_at = time.monotonic()

    async def _append(self, work: Work, kind: JobEventType, **values: Any) -> None:
        _held(await events.append(work, self._claim, kind, **values))
        telemetry.WRITTEN.labels(kind.value).inc()


def _held(answer: object) -> None:
    if answer is None:
        raise Superseded
