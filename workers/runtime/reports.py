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
from workers.runtime.eta import EtaEstimator
from workers.runtime.failures import is_transient
from workers.runtime.frames import sanitize
from workers.runtime.logs import Excerpt, LogFile

log: structlog.stdlib.BoundLogger = structlog.get_logger()

RATE_WINDOW = 1.0
BUDGET_POLL_INTERVAL = 0.05
LOG_RESERVE = 0.1  # share of a job's LOG events that is kept for the ends of its attempts, where the reasons stand
MIN_LOG_INTERVAL, MAX_LOG_INTERVAL = (
    0.2,
    600.0,
)  # seconds between two LOG events, growing as they are used up, so that a job of hours is heard to its end
MAX_PENDING_POINTS = 50_000

_ENDED_STATUSES = frozenset({JobNodeStatus.COMPLETED, JobNodeStatus.FAILED})


class Superseded(Exception):
    """The claim is held no longer: nothing more may be written."""


@dataclass(slots=True)
class PendingReports:
    """What is yet to be written."""

    progress_changed: bool = False
    nodes: dict[str, NodeChange] = field(default_factory=dict[str, NodeChange])
    started: list[str] = field(default_factory=list[str])
    ended: dict[str, str] = field(default_factory=dict[str, str])
    points: list[Point] = field(default_factory=list[Point])
    log_excerpt: Excerpt = field(default_factory=Excerpt)


class Reports:
    """Collects for one attempt; `flush` writes what is due. Progress never falls and keeps 100 for the end.

    `log_events` is what the job may have of LOG events, all its attempts together.
    """

    def __init__(self, database: Database, claim: Claim, *, events_per_second: int, log_events: int) -> None:
        self._database = database
        self._claim = claim
        self._log_events = log_events
        self._log_events_used: int | None = None if claim.attempt > 1 else 0
        self._logged_at = -MAX_LOG_INTERVAL
        self._eta = EtaEstimator()
        self._log: LogFile | None = None
        self._write_times: deque[float] = deque(maxlen=events_per_second)
        self._percent = 0
        self._step: str | None = None
        self._pending = PendingReports()
        self._started: set[str] = set()
        self._rotation = 0
        self._flush_lock = asyncio.Lock()
        self.run_id: UUID | None = None
        self.last_steps: dict[str, int] = {}  # the last step of each key that was reported

    def attach_log(self, log_file: LogFile) -> None:
        """From now on, everything that is said goes there too."""
        self._log = log_file

    @property
    def log_is_full(self) -> bool:
        """What is said now is hardly kept, so whoever says it may be slowed down."""
        return self._log is not None and self._log.is_full

    @property
    def is_behind(self) -> bool:
        """More points wait to be written than should lie in memory."""
        return len(self._pending.points) > MAX_PENDING_POINTS

    def progress(self, percent: float, step: str) -> None:
        self._eta.update(time.monotonic(), percent)
        rounded, step = max(self._percent, min(99, int(percent))), step[:200]
        if (rounded, step) != (self._percent, self._step):
            self._percent, self._step = rounded, step
            self._pending.progress_changed = True

    @property
    def percent(self) -> int:
        """How far the job is said to be."""
        return self._percent

    def resume_at(self, percent: float, last_steps: Mapping[str, int]) -> None:
        """What an earlier attempt did counts: its progress, and the points that stay."""
        self.last_steps = dict(last_steps)
        self.progress(percent, "Going on from a checkpoint")

    def reset(self) -> None:
        """What an earlier attempt did does not count after all, so progress falls, this once."""
        self.last_steps = {}
        self._percent = 0
        self._eta = EtaEstimator()

    def node(self, change: NodeChange) -> None:
        self._pending.nodes[change.key] = change
        if change.status is JobNodeStatus.RUNNING and change.key not in self._started:
            self._started.add(change.key)
            self._pending.started.append(change.key)
        elif change.status in _ENDED_STATUSES:
            self._pending.ended[change.key] = change.status.name

    def point(self, point: Point) -> None:
        if self.run_id is not None:
            self._pending.points.append(point)
            self.last_steps[point.key] = max(point.step, self.last_steps.get(point.key, point.step))

    def log_text(self, text: str) -> None:
        """`text` is whole lines, each with its end."""
        if text:
            self._pending.log_excerpt.add(text)
            if self._log is not None:
                self._log.add(text)

    def log_line(self, line: str) -> None:
        """One more line of the log."""
        self.log_text(sanitize(line) + "\n")

    async def flush(self, *, everything: bool = False) -> None:
        """Write what the second still has room for, or all there is. Raises `Superseded`, `Unavailable`.

        What could not be written stays. Of all there is, what never can be written is dropped, so that it keeps back nothing else.
        """
        async with self._flush_lock:
            if self._log_events_used is None and self._pending.log_excerpt:
                self._log_events_used = await events.count_logs(self._database, self._claim.job_id)
            for kind in self._due(everything=everything):
                count = self._event_count(kind)
                if everything or count <= self._remaining_budget():
                    try:
                        await self._write(kind)
                    except Exception as error:
                        if not everything or isinstance(error, Superseded) or is_transient(error):
                            raise
                        log.exception("reports_dropped", job=str(self._claim.job_id), kind=kind)
                        self._drop(kind)
                    self._write_times.extend([time.monotonic()] * count)

    def _drop(self, kind: str) -> None:
        pending = self._pending
        if kind == "points":
            pending.points = []
        elif kind == "lines":
            pending.log_excerpt = Excerpt()
        else:
            pending.nodes, pending.started, pending.ended, pending.progress_changed = {}, [], {}, False

    async def flush_points(self) -> None:
        """Write the points, as soon as the second has room for them: nothing else is written first. Raises `Superseded`, `Unavailable`."""
        async with self._flush_lock:
            while self._pending.points and self._remaining_budget() < 1:  # noqa: ASYNC110 - room comes with time, and tells nobody
                await asyncio.sleep(BUDGET_POLL_INTERVAL)
            if self._pending.points:
                await self._write("points")
                self._write_times.append(time.monotonic())

    def _due(self, *, everything: bool) -> list[str]:
        """The kinds of which there is something, another one first each time, so that none starves the others."""
        pending = self._pending
        log_due = bool(pending.log_excerpt) and self._may_log(last=everything)
        due = {"progress": pending.progress_changed or bool(pending.nodes), "points": bool(pending.points), "lines": log_due}
        kinds = [kind for kind, is_due in due.items() if is_due]
        self._rotation += 1
        shift = self._rotation % len(kinds) if kinds else 0
        return kinds[shift:] + kinds[:shift]

    def _may_log(self, *, last: bool) -> bool:
        """The first lines at once, later ones at ever longer intervals; the last ones of an attempt from what is kept for them."""
        if self._log_events_used is None or last:
            return self._log_events_used is not None and self._log_events_used < self._log_events
        limit = self._log_events - math.ceil(self._log_events * LOG_RESERVE)
        pause = MIN_LOG_INTERVAL * (MAX_LOG_INTERVAL / MIN_LOG_INTERVAL) ** (self._log_events_used / max(limit, 1))
        return self._log_events_used < limit and time.monotonic() - self._logged_at >= pause

    def _event_count(self, kind: str) -> int:
        """Steps that started and steps that ended are told apart, even where both happened since the last flush."""
        return 2 if kind == "progress" and self._pending.started and self._pending.ended else 1

    def _remaining_budget(self) -> int:
        recent = sum(at > time.monotonic() - RATE_WINDOW for at in self._write_times)
        return (self._write_times.maxlen or 0) - recent

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
        pending.nodes, pending.started, pending.ended, pending.progress_changed = {}, [], {}, False
        steps = {
            JobEventType.STEP_STARTED: [{"key": key, "status": JobNodeStatus.RUNNING.name} for key in started],
            JobEventType.STEP_COMPLETED: [{"key": key, "status": status} for key, status in ended.items()],
        }
        seconds_left = self._eta.seconds_left(time.monotonic())
        progress_data: dict[str, Any] | None = None if seconds_left is None else {"secondsLeft": round(seconds_left)}
        event_data = {kind: {"nodes": parts} for kind, parts in steps.items() if parts} or {JobEventType.PROGRESS: progress_data}
        try:
            for kind, data in event_data.items():
                await self._append(work, kind, data=data, moved=events.ProgressUpdate(self._percent, self._step, seconds_left))
            await nodes.record(work, self._claim, changes)
        except BaseException:
            pending.nodes, pending.started = {**changes, **pending.nodes}, started + pending.started
            pending.ended, pending.progress_changed = {**ended, **pending.ended}, True
            raise

    async def _write_points(self) -> None:
        """Copied without a lock, then moved under one. A commit whose answer was lost is done again, which changes nothing."""
        pending = self._pending
        points, pending.points = pending.points, []
        assert self.run_id is not None
        try:
            staged = await metrics.stage(self._database, points)
            async with self._database.work(SYSTEM) as work:
                _require_claim(await metrics.record(work, self._claim, self.run_id, staged))
        except BaseException:
            pending.points = points + pending.points
            raise

    async def _write_lines(self, work: Work) -> None:
        pending = self._pending
        excerpt, pending.log_excerpt = pending.log_excerpt, Excerpt()
        message = excerpt.take()
        try:
            await self._append(work, JobEventType.LOG, message=message)
        except BaseException:
            later, pending.log_excerpt = pending.log_excerpt, Excerpt()
            pending.log_excerpt.add(message + "\n")
            if later:
                pending.log_excerpt.add(later.take() + "\n")
            raise
        assert self._log_events_used is not None
        self._log_events_used += 1
        self._logged_at = time.monotonic()

    async def _append(self, work: Work, kind: JobEventType, **values: Any) -> None:
        _require_claim(await events.append(work, self._claim, kind, **values))
        telemetry.EVENTS_WRITTEN.labels(kind.value).inc()


def _require_claim(result: object) -> None:
    if result is None:
        raise Superseded
