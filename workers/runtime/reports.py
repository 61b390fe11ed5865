"""Batches and rate-limits the reports of a body: a job writes only a few events a second, however fast its body reports."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Iterable, Mapping
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

RATE_WINDOW = 1.0  # seconds
BUDGET_POLL_INTERVAL = 0.05  # seconds
LOG_RESERVE = 0.1  # share of a job's LOG events reserved for the ends of its attempts, which tell why they ended
# Seconds between LOG events; the interval grows as they are used up, so that a job of hours can log until its end.
MIN_LOG_INTERVAL, MAX_LOG_INTERVAL = 0.2, 600.0
MAX_PENDING_POINTS = 50_000
MAX_STEP_LENGTH = 200

_ENDED_STATUSES = frozenset({JobNodeStatus.COMPLETED, JobNodeStatus.FAILED})


class Superseded(Exception):
    """The claim was lost: nothing more may be written."""


@dataclass(slots=True)
class PendingReports:
    """Reports that are yet to be written."""

    progress_changed: bool = False
    nodes: dict[str, NodeChange] = field(default_factory=dict[str, NodeChange])
    started: list[str] = field(default_factory=list[str])
    ended: dict[str, str] = field(default_factory=dict[str, str])
    points: list[Point] = field(default_factory=list[Point])
    points_from: list[str] = field(default_factory=list[str])
    """What reported the points, each once: the key of a node, or a step."""
    log_excerpt: Excerpt = field(default_factory=Excerpt)


class Reports:
    """Collects the reports of one attempt; `flush` writes what is due. Progress never falls, and 100 is reserved for the end.

    `log_events` is the maximum number of LOG events of the job, all its attempts together.
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
        self.titles: Mapping[str, str] = {}  # of the nodes, by key
        self.last_steps: dict[str, int] = {}  # the last reported step of each metric key

    def attach_log(self, log_file: LogFile) -> None:
        """Write all further log lines to this file too."""
        self._log = log_file

    @property
    def log_is_full(self) -> bool:
        """Whether the log file keeps only last lines, so that the reader of the output may slow down."""
        return self._log is not None and self._log.is_full

    @property
    def is_behind(self) -> bool:
        """Whether more than `MAX_PENDING_POINTS` metric points wait in memory."""
        return len(self._pending.points) > MAX_PENDING_POINTS

    def progress(self, percent: float, step: str) -> None:
        self._eta.update(time.monotonic(), percent)
        rounded, step = max(self._percent, min(99, int(percent))), step[:MAX_STEP_LENGTH]
        if (rounded, step) != (self._percent, self._step):
            self._percent, self._step = rounded, step
            self._pending.progress_changed = True

    @property
    def percent(self) -> int:
        """The reported progress of the job."""
        return self._percent

    def resume_at(self, percent: float, last_steps: Mapping[str, int]) -> None:
        """Continue from the progress and the metric points of an earlier attempt."""
        self.last_steps = dict(last_steps)
        self.progress(percent, "Resume from a checkpoint")

    def reset(self) -> None:
        """Drop the progress of an earlier attempt; the only case in which progress falls."""
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

    def point(self, point: Point, part: str | None = None) -> None:
        """Add a metric point that was reported by `part`: the key of a node, or a step."""
        if self.run_id is not None:
            self._pending.points.append(point)
            if part is not None and part not in self._pending.points_from:
                self._pending.points_from.append(part)
            self.last_steps[point.key] = max(point.step, self.last_steps.get(point.key, point.step))

    def log_text(self, text: str) -> None:
        """Add whole lines, each with its newline."""
        if text:
            self._pending.log_excerpt.add(text)
            if self._log is not None:
                self._log.add(text)

    def log_line(self, line: str) -> None:
        """Add one line."""
        self.log_text(sanitize(line) + "\n")

    async def flush(self, *, everything: bool = False) -> None:
        """Write what the rate limit permits, or everything. Raises `Superseded`, `Unavailable`.

        What could not be written stays pending. With `everything`, a report with a permanent error is dropped, so that it does not block others.
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
            pending.points, pending.points_from = [], []
        elif kind == "lines":
            pending.log_excerpt = Excerpt()
        else:
            pending.nodes, pending.started, pending.ended, pending.progress_changed = {}, [], {}, False

    async def flush_points(self) -> None:
        """Write the metric points before all else, once the rate limit permits. Raises `Superseded`, `Unavailable`."""
        async with self._flush_lock:
            while self._pending.points and self._remaining_budget() < 1:  # noqa: ASYNC110 - the rate limit depends on time alone, without an event
                await asyncio.sleep(BUDGET_POLL_INTERVAL)
            if self._pending.points:
                await self._write("points")
                self._write_times.append(time.monotonic())

    def _due(self, *, everything: bool) -> list[str]:
        """Return the kinds that have pending reports, in rotating order, so that none starves the others."""
        pending = self._pending
        log_due = bool(pending.log_excerpt) and self._may_log(last=everything)
        due = {"progress": pending.progress_changed or bool(pending.nodes), "points": bool(pending.points), "lines": log_due}
        kinds = [kind for kind, is_due in due.items() if is_due]
        self._rotation += 1
        shift = self._rotation % len(kinds) if kinds else 0
        return kinds[shift:] + kinds[:shift]

    def _may_log(self, *, last: bool) -> bool:
        """Permit the first lines at once, later ones at growing intervals, and the last ones of an attempt from the reserve."""
        if self._log_events_used is None or last:
            return self._log_events_used is not None and self._log_events_used < self._log_events
        limit = self._log_events - math.ceil(self._log_events * LOG_RESERVE)
        pause = MIN_LOG_INTERVAL * (MAX_LOG_INTERVAL / MIN_LOG_INTERVAL) ** (self._log_events_used / max(limit, 1))
        return self._log_events_used < limit and time.monotonic() - self._logged_at >= pause

    def _event_count(self, kind: str) -> int:
        """Started and ended nodes are separate events, even if both happened since the last flush."""
        return 2 if kind == "progress" and self._pending.started and self._pending.ended else 1

    def _remaining_budget(self) -> int:
        recent = sum(at > time.monotonic() - RATE_WINDOW for at in self._write_times)
        return (self._write_times.maxlen or 0) - recent

    async def _write(self, kind: str) -> None:
        """Write one kind. Writers take their reports out first, because the body goes on reporting, and put them back on failure."""
        if kind == "points":
            await self._write_points()
            return
        async with self._database.work(SYSTEM) as work:
            await (self._write_progress(work) if kind == "progress" else self._write_lines(work))

    async def _write_progress(self, work: Work) -> None:
        pending = self._pending
        changes, started, ended = pending.nodes, pending.started, pending.ended
        pending.nodes, pending.started, pending.ended, pending.progress_changed = {}, [], {}, False
        parts = {
            JobEventType.STEP_STARTED: dict.fromkeys(started, JobNodeStatus.RUNNING.name),
            JobEventType.STEP_COMPLETED: ended,
        }
        kinds = (
            list(parts) if ended.keys() & started else list(reversed(parts))
        )  # none completes before it starts, or starts before the last ends
        seconds_left = self._eta.seconds_left(time.monotonic())
        update = events.ProgressUpdate(self._percent, self._step, seconds_left)
        try:
            for kind in kinds:
                if statuses := parts[kind]:
                    data = {"nodes": [{"key": key, "status": status} for key, status in statuses.items()]}
                    await self._append(work, kind, data=data, progress_update=update, step=self._titles_of(statuses))
            if not started and not ended:
                data = None if seconds_left is None else {"secondsLeft": round(seconds_left)}
                await self._append(work, JobEventType.PROGRESS, data=data, progress_update=update)
            await nodes.record(work, self._claim, changes)
        except BaseException:
            pending.nodes, pending.started = {**changes, **pending.nodes}, started + pending.started
            pending.ended, pending.progress_changed = {**ended, **pending.ended}, True
            raise

    async def _write_points(self) -> None:
        """Stage the points without a lock, then move them under one. Idempotent: a commit whose response was lost is repeated."""
        pending = self._pending
        points, pending.points = pending.points, []
        points_from, pending.points_from = pending.points_from, []
        assert self.run_id is not None
        try:
            staged = await metrics.stage(self._database, points)
            async with self._database.work(SYSTEM) as work:
                _require_claim(await metrics.record(work, self._claim, self.run_id, staged, self._titles_of(points_from)))
        except BaseException:
            pending.points = points + pending.points
            pending.points_from = list(dict.fromkeys(points_from + pending.points_from))
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

    def _titles_of(self, parts: Iterable[str]) -> str | None:
        """Name the parts, each the key of a node or a step, for an event that concerns them."""
        return ", ".join(dict.fromkeys(self.titles.get(part, part) for part in parts))[:MAX_STEP_LENGTH] or None

    async def _append(self, work: Work, kind: JobEventType, **values: Any) -> None:
        _require_claim(await events.append(work, self._claim, kind, **values))
        telemetry.EVENTS_WRITTEN.labels(kind.value).inc()


def _require_claim(result: object) -> None:
    if result is None:
        raise Superseded
