"""What the database knows of all processes together, as numbers for Prometheus: a few statements a scrape, however many jobs there are."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from db.core.sql import Rows
from db.core.work import Database
from db.queries import operations
from db.services.jobs import QUEUES
from db.tables.jobstates import TERMINAL

CACHE_SECONDS = 1.0  # seconds for which numbers are given again
OUTCOMES = ("completed", "failed", "cancelled", "retrying", "given_back", "lost")


class MetricFamily(NamedTuple):
    """A metric that the census fills in."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    is_counter: bool = False  # only ever grows


JOBS_WAITING = MetricFamily(
    "trellis_jobs_waiting", "Jobs that wait, by queue; held is `due`, or `backoff` until a retry's time comes.", ("queue", "held")
)
OLDEST_WAITING = MetricFamily(
    "trellis_oldest_waiting_seconds", "How long the oldest job of the queue that is due has been waiting.", ("queue",)
)
JOBS_RUNNING = MetricFamily(
    "trellis_jobs_running", "Jobs that a worker holds, by queue and status (running, cancelling).", ("queue", "status")
)
JOBS_ENDED = MetricFamily(
    "trellis_jobs_ended", "Jobs that ended, by status; the same in every API process, so do not add them up.", ("status",), is_counter=True
)
ATTEMPTS_ENDED = MetricFamily(
    "trellis_attempts_ended",
    "Attempts that ended, by outcome (`lost`: the worker went silent); the same in every API process, so do not add them up.",
    ("outcome",),
    is_counter=True,
)
WORKERS = MetricFamily("trellis_workers", "Worker processes that gave a sign of life in the last 15 seconds.")
WORKER_SLOTS = MetricFamily("trellis_worker_slots", "Slots of the live workers.")
QUEUE_WORKERS = MetricFamily("trellis_queue_workers", "Live workers that serve the queue; 0 where jobs would wait for ever.", ("queue",))
QUEUE_SLOTS = MetricFamily(
    "trellis_queue_slots", "Slots of the live workers that serve the queue, which they may share with others.", ("queue",)
)
MAINTENANCE_AGE = MetricFamily("trellis_chore_age_seconds", "Time since the chore's last run began.", ("chore",))
MAINTENANCE_SECONDS = MetricFamily("trellis_chore_seconds", "How long the chore's last run took.", ("chore",))
MAINTENANCE_RUNS = MetricFamily(
    "trellis_chore_runs", "Runs of the chore by whatever worker, since the database was made.", ("chore",), is_counter=True
)
MAINTENANCE_FAILURES = MetricFamily("trellis_chore_failures", "Runs of the chore that failed.", ("chore",), is_counter=True)
MAINTENANCE_CHANGED = MetricFamily(
    "trellis_chore_changed", "What the chore changed or removed, in rows or objects.", ("chore",), is_counter=True
)
DEFAULT_ROWS = MetricFamily(
    "trellis_default_partition_rows",
    "Rows in the table's DEFAULT partition, counted up to 10,000. More than 0: partitions were not made in time.",
    ("table",),
)
FAMILIES = (
    JOBS_WAITING,
    OLDEST_WAITING,
    JOBS_RUNNING,
    JOBS_ENDED,
    ATTEMPTS_ENDED,
    WORKERS,
    WORKER_SLOTS,
    QUEUE_WORKERS,
    QUEUE_SLOTS,
    MAINTENANCE_AGE,
    MAINTENANCE_SECONDS,
    MAINTENANCE_RUNS,
    MAINTENANCE_FAILURES,
    MAINTENANCE_CHANGED,
    DEFAULT_ROWS,
)


class MonotonicCounter:
    """Counts of what ended, by a word, that never fall: all of it once, and from then on what came since.

    What is older than the horizon is counted for good; what is younger may still be joined by a commit under way, and is counted anew.
    """

    def __init__(self, statement: Callable[[datetime | None, datetime], Rows], labels: Sequence[str]) -> None:
        self._statement = statement
        self._labels = labels
        self._counted_until: datetime | None = None
        self._final: Counter[str] = Counter()
        self._reported: Counter[str] = Counter()

    async def update(self, connection: AsyncConnection, horizon: datetime) -> dict[str, int]:
        """How many there were by now, all words included."""
        recent: Counter[str] = Counter()
        final = self._final.copy()
        for row in await operations.fetch(connection, self._statement(self._counted_until, horizon)):
            final[str(row.word)] += row.settled
            recent[str(row.word)] += row.recent
        self._final, self._counted_until = final, horizon
        for label in {*self._labels, *final, *recent}:
            self._reported[label] = max(self._reported[label], final[label] + recent[label])
        return dict(self._reported)


class DatabaseMetrics:
    """The numbers, taken at most once a second however many ask."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._collected_at = float("-inf")
        self._metrics: list[Metric] = []
        self._jobs_ended = MonotonicCounter(operations.jobs_ended, sorted(status.value for status in TERMINAL))
        self._attempts_ended = MonotonicCounter(operations.attempts_ended, OUTCOMES)

    async def metrics(self, database: Database) -> list[Metric]:
        """Every family. Raises `Unavailable`."""
        async with self._lock:
            if time.monotonic() - self._collected_at > CACHE_SECONDS:
                self._metrics = await self._collect(database)
                self._collected_at = time.monotonic()
            return self._metrics

    async def _collect(self, database: Database) -> list[Metric]:
        samples = _Samples()
        async with database.read() as connection:
            _add_queues(
                samples,
                await operations.fetch(connection, operations.waiting()),
                await operations.fetch(connection, operations.running()),
                await operations.fetch(connection, operations.workers_by_queue()),
            )
            (totals,) = await operations.fetch(connection, operations.worker_totals())
            samples.add(WORKERS, totals.workers)
            samples.add(WORKER_SLOTS, totals.slots)
            _add_maintenance(samples, await operations.fetch(connection, operations.maintenance_tasks()))
            for row in await operations.fetch(connection, operations.default_partitions()):
                samples.add(DEFAULT_ROWS, row.count, row.table)
            ((horizon,),) = await operations.fetch(connection, operations.horizon())
            for label, count in (await self._jobs_ended.update(connection, horizon)).items():
                samples.add(JOBS_ENDED, count, label)
            for label, count in (await self._attempts_ended.update(connection, horizon)).items():
                samples.add(ATTEMPTS_ENDED, count, label)
        return samples.metrics()


class _Samples:
    def __init__(self) -> None:
        self._metrics = {family.name: _new_family(family) for family in FAMILIES}

    def add(self, family: MetricFamily, value: Any, *labels: str) -> None:
        self._metrics[family.name].add_metric(labels, float(value))

    def metrics(self) -> list[Metric]:
        return list(self._metrics.values())


def _new_family(family: MetricFamily) -> CounterMetricFamily | GaugeMetricFamily:
    family_class = CounterMetricFamily if family.is_counter else GaugeMetricFamily
    return family_class(family.name, family.help, labels=family.labels)


def _add_queues(samples: _Samples, waiting: Sequence[Row[Any]], running: Sequence[Row[Any]], serving: Sequence[Row[Any]]) -> None:
    """Every queue that there is has its zeros, so that an alarm on a number that is missing is never needed."""
    waiting_by_queue = {row.queue: row for row in waiting}
    serving_by_queue = {row.queue: row for row in serving}
    running_by_status = {(row.queue, row.status.value): row.count for row in running}
    for queue in sorted({*QUEUES, *waiting_by_queue, *serving_by_queue, *(queue for queue, _ in running_by_status)}):
        waiting_row, serving_row = waiting_by_queue.get(queue), serving_by_queue.get(queue)
        samples.add(JOBS_WAITING, waiting_row.due if waiting_row else 0, queue, "due")
        samples.add(JOBS_WAITING, waiting_row.backoff if waiting_row else 0, queue, "backoff")
        samples.add(OLDEST_WAITING, max(waiting_row.oldest, 0) if waiting_row else 0, queue)
        for status in ("running", "cancelling"):
            samples.add(JOBS_RUNNING, running_by_status.get((queue, status), 0), queue, status)
        samples.add(QUEUE_WORKERS, serving_row.workers if serving_row else 0, queue)
        samples.add(QUEUE_SLOTS, serving_row.slots if serving_row else 0, queue)


def _add_maintenance(samples: _Samples, rows: Sequence[Row[Any]]) -> None:
    for row in rows:
        if row.age is not None:
            samples.add(MAINTENANCE_AGE, row.age, row.name)
        if row.seconds is not None and row.seconds >= 0:  # less: the next run has begun
            samples.add(MAINTENANCE_SECONDS, row.seconds, row.name)
        samples.add(MAINTENANCE_RUNS, row.runs, row.name)
        samples.add(MAINTENANCE_FAILURES, row.failures, row.name)
        samples.add(MAINTENANCE_CHANGED, row.changed, row.name)
