"""Metrics of all processes together, read from the database: a few statements per scrape, however many jobs there are."""

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
from db.queries import operations, retention
from db.services.jobs import QUEUES
from db.tables.jobstates import TERMINAL

CACHE_SECONDS = 1.0  # for which scrapes get the same values
OUTCOMES = ("completed", "failed", "cancelled", "retrying", "given_back", "lost")


class MetricFamily(NamedTuple):
    """A metric. `deprecated` names it and its labels as they were, and is exported beside it."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    is_counter: bool = False
    deprecated: tuple[str, tuple[str, ...]] | None = None


JOBS_WAITING = MetricFamily(
    "trellis_jobs_waiting", "Waiting jobs, by queue; held is `due`, or `backoff` before a retry.", ("queue", "held")
)
OLDEST_WAITING = MetricFamily("trellis_oldest_waiting_seconds", "Waiting time of the oldest due job of the queue.", ("queue",))
JOBS_RUNNING = MetricFamily(
    "trellis_jobs_running", "Jobs that a worker has claimed, by queue and status (running, cancelling).", ("queue", "status")
)
JOBS_ENDED = MetricFamily(
    "trellis_jobs_ended",
    "Ended jobs, by status; every API process exports the same values, so do not sum over processes.",
    ("status",),
    is_counter=True,
)
ATTEMPTS_ENDED = MetricFamily(
    "trellis_attempts_ended",
    "Ended attempts, by outcome (`lost`: the lease expired); every API process exports the same values, so do not sum over processes.",
    ("outcome",),
    is_counter=True,
)
WORKERS = MetricFamily("trellis_workers", "Worker processes with a heartbeat in the last 15 seconds.")
WORKER_SLOTS = MetricFamily("trellis_worker_slots", "Slots of the live workers.")
QUEUE_WORKERS = MetricFamily("trellis_queue_workers", "Live workers that serve the queue; 0: its jobs wait indefinitely.", ("queue",))
QUEUE_SLOTS = MetricFamily(
    "trellis_queue_slots", "Slots of the live workers that serve the queue, shared with their other queues.", ("queue",)
)


def _maintenance_family(name: str, help_text: str, *, is_counter: bool = False) -> MetricFamily:
    return MetricFamily(f"trellis_maintenance_{name}", help_text, ("task",), is_counter, (f"trellis_chore_{name}", ("chore",)))


MAINTENANCE_AGE = _maintenance_family("age_seconds", "Time since the last run of the maintenance task began.")
MAINTENANCE_SECONDS = _maintenance_family("seconds", "Duration of the last run of the maintenance task.")
MAINTENANCE_RUNS = _maintenance_family("runs", "Runs of the maintenance task by all workers, ever.", is_counter=True)
MAINTENANCE_FAILURES = _maintenance_family("failures", "Failed runs of the maintenance task.", is_counter=True)
MAINTENANCE_CHANGED = _maintenance_family("changed", "Rows or objects that the maintenance task changed or removed.", is_counter=True)
DEFAULT_ROWS = MetricFamily(
    "trellis_default_partition_rows",
    "Rows in the table's DEFAULT partition, counted up to 10,000. More than 0: partitions were not created in time.",
    ("table",),
)
RETENTION_ROWS = MetricFamily(
    "trellis_retention_rows", "Rows of the table that were removed because their retention was over.", ("table",), is_counter=True
)
RETENTION_PARTITIONS = MetricFamily(
    "trellis_retention_partitions",
    "Months of the table that were dropped because their retention was over; `trellis_maintenance_age_seconds` tells of the last run.",
    ("table",),
    is_counter=True,
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
    RETENTION_ROWS,
    RETENTION_PARTITIONS,
)
DEPRECATED_FAMILIES = {
    family.name: MetricFamily(family.deprecated[0], f"Deprecated name of {family.name}.", family.deprecated[1], family.is_counter)
    for family in FAMILIES
    if family.deprecated is not None
}


class MonotonicCounter:
    """Counts of ended rows by label that never decrease: the first update counts all rows, later ones those since the last horizon.

    Rows older than the horizon are counted once. Younger ones are counted again at each update, since a transaction that has not
    committed yet may add more of them.
    """

    def __init__(self, statement: Callable[[datetime | None, datetime], Rows], labels: Sequence[str]) -> None:
        self._statement = statement
        self._labels = labels
        self._counted_until: datetime | None = None
        self._final: Counter[str] = Counter()
        self._reported: Counter[str] = Counter()

    async def update(self, connection: AsyncConnection, horizon: datetime) -> dict[str, int]:
        """The counts of all labels."""
        recent: Counter[str] = Counter()
        final = self._final.copy()
        for row in await operations.fetch(connection, self._statement(self._counted_until, horizon)):
            final[str(row.state)] += row.final
            recent[str(row.state)] += row.recent
        self._final, self._counted_until = final, horizon
        for label in {*self._labels, *final, *recent}:
            self._reported[label] = max(self._reported[label], final[label] + recent[label])
        return dict(self._reported)


class DatabaseMetrics:
    """Collects the metrics at most once a second, whatever the number of scrapes."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._collected_at = float("-inf")
        self._metrics: list[Metric] = []
        self._jobs_ended = MonotonicCounter(operations.jobs_ended, sorted(status.value for status in TERMINAL))
        self._attempts_ended = MonotonicCounter(operations.attempts_ended, OUTCOMES)

    async def metrics(self, database: Database) -> list[Metric]:
        """All families. Raises `Unavailable`."""
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
            for row in await operations.fetch(connection, retention.totals_statement()):
                samples.add(RETENTION_ROWS, row.rows, row.name)
                samples.add(RETENTION_PARTITIONS, row.partitions, row.name)
            ((horizon,),) = await operations.fetch(connection, operations.horizon())
            for label, count in (await self._jobs_ended.update(connection, horizon)).items():
                samples.add(JOBS_ENDED, count, label)
            for label, count in (await self._attempts_ended.update(connection, horizon)).items():
                samples.add(ATTEMPTS_ENDED, count, label)
        return samples.metrics()


class _Samples:
    def __init__(self) -> None:
        self._metrics = {family.name: _new_family(family) for family in (*FAMILIES, *DEPRECATED_FAMILIES.values())}

    def add(self, family: MetricFamily, value: Any, *labels: str) -> None:
        self._metrics[family.name].add_metric(labels, float(value))
        if family.name in DEPRECATED_FAMILIES:
            self._metrics[DEPRECATED_FAMILIES[family.name].name].add_metric(labels, float(value))

    def metrics(self) -> list[Metric]:
        return list(self._metrics.values())


def _new_family(family: MetricFamily) -> CounterMetricFamily | GaugeMetricFamily:
    family_class = CounterMetricFamily if family.is_counter else GaugeMetricFamily
    return family_class(family.name, family.help, labels=family.labels)


def _add_queues(samples: _Samples, waiting: Sequence[Row[Any]], running: Sequence[Row[Any]], serving: Sequence[Row[Any]]) -> None:
    """Every known queue has samples, zeros included, so that no alert on absent series is needed."""
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
        if row.seconds is not None and row.seconds >= 0:  # negative: the next run has begun
            samples.add(MAINTENANCE_SECONDS, row.seconds, row.name)
        samples.add(MAINTENANCE_RUNS, row.runs, row.name)
        samples.add(MAINTENANCE_FAILURES, row.failures, row.name)
        samples.add(MAINTENANCE_CHANGED, row.changed, row.name)
