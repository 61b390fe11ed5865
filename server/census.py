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

FRESH = 1.0  # seconds for which numbers are given again
OUTCOMES = ("completed", "failed", "cancelled", "retrying", "given_back", "lost")


class Family(NamedTuple):
    """A metric that the census fills in."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    counts: bool = False  # only ever grows


WAITING = Family(
    "trellis_jobs_waiting", "Jobs that wait, by queue; held is `due`, or `backoff` until a retry's time comes.", ("queue", "held")
)
OLDEST = Family("trellis_oldest_waiting_seconds", "How long the oldest job of the queue that is due has been waiting.", ("queue",))
RUNNING = Family("trellis_jobs_running", "Jobs that a worker holds, by queue and status (running, cancelling).", ("queue", "status"))
ENDED = Family(
    "trellis_jobs_ended", "Jobs that ended, by status; the same in every API process, so do not add them up.", ("status",), counts=True
)
ATTEMPTS = Family(
    "trellis_attempts_ended",
    "Attempts that ended, by outcome (`lost`: the worker went silent); the same in every API process, so do not add them up.",
    ("outcome",),
    counts=True,
)
WORKERS = Family("trellis_workers", "Worker processes that gave a sign of life in the last 15 seconds.")
SLOTS = Family("trellis_worker_slots", "Slots of the live workers.")
SERVING = Family("trellis_queue_workers", "Live workers that serve the queue; 0 where jobs would wait for ever.", ("queue",))
QUEUE_SLOTS = Family("trellis_queue_slots", "Slots of the live workers that serve the queue, which they may share with others.", ("queue",))
CHORE_AGE = Family("trellis_chore_age_seconds", "Time since the chore's last run began.", ("chore",))
CHORE_SECONDS = Family("trellis_chore_seconds", "How long the chore's last run took.", ("chore",))
CHORE_RUNS = Family("trellis_chore_runs", "Runs of the chore by whatever worker, since the database was made.", ("chore",), counts=True)
CHORE_FAILURES = Family("trellis_chore_failures", "Runs of the chore that failed.", ("chore",), counts=True)
CHORE_CHANGED = Family("trellis_chore_changed", "What the chore changed or removed, in rows or objects.", ("chore",), counts=True)
DEFAULT_ROWS = Family(
    "trellis_default_partition_rows",
    "Rows in the table's DEFAULT partition, counted up to 10,000. More than 0: partitions were not made in time.",
    ("table",),
)
FAMILIES = (
    WAITING,
    OLDEST,
    RUNNING,
    ENDED,
    ATTEMPTS,
    WORKERS,
    SLOTS,
    SERVING,
    QUEUE_SLOTS,
    CHORE_AGE,
    CHORE_SECONDS,
    CHORE_RUNS,
    CHORE_FAILURES,
    CHORE_CHANGED,
    DEFAULT_ROWS,
)


class Tally:
    """Counts of what ended, by a word, that never fall: all of it once, and from then on what came since.

    What is older than the horizon is counted for good; what is younger may still be joined by a commit under way, and is counted anew.
    """

    def __init__(self, statement: Callable[[datetime | None, datetime], Rows], words: Sequence[str]) -> None:
        self._statement = statement
        self._words = words
        self._since: datetime | None = None
        self._settled: Counter[str] = Counter()
        self._told: Counter[str] = Counter()

    async def take(self, connection: AsyncConnection, until: datetime) -> dict[str, int]:
        """How many there were by now, all words included."""
        recent: Counter[str] = Counter()
        settled = self._settled.copy()
        for row in await operations.ask(connection, self._statement(self._since, until)):
            settled[str(row.word)] += row.settled
            recent[str(row.word)] += row.recent
        self._settled, self._since = settled, until
        for word in {*self._words, *settled, *recent}:
            self._told[word] = max(self._told[word], settled[word] + recent[word])
        return dict(self._told)


class Census:
    """The numbers, taken at most once a second however many ask."""

    def __init__(self) -> None:
        self._taking = asyncio.Lock()
        self._taken_at = float("-inf")
        self._taken: list[Metric] = []
        self._jobs = Tally(operations.jobs_ended, sorted(status.value for status in TERMINAL))
        self._attempts = Tally(operations.attempts_ended, OUTCOMES)

    async def numbers(self, database: Database) -> list[Metric]:
        """Every family. Raises `Unavailable`."""
        async with self._taking:
            if time.monotonic() - self._taken_at > FRESH:
                self._taken = await self._look(database)
                self._taken_at = time.monotonic()
            return self._taken

    async def _look(self, database: Database) -> list[Metric]:
        found = _Samples()
        async with database.read() as connection:
            _queues(
                found,
                await operations.ask(connection, operations.waiting()),
                await operations.ask(connection, operations.running()),
                await operations.ask(connection, operations.workers_by_queue()),
            )
            (everywhere,) = await operations.ask(connection, operations.workers_at_all())
            found.add(WORKERS, everywhere.workers)
            found.add(SLOTS, everywhere.slots)
            _chores(found, await operations.ask(connection, operations.chores()))
            for row in await operations.ask(connection, operations.default_partitions()):
                found.add(DEFAULT_ROWS, row.count, row.table)
            ((until,),) = await operations.ask(connection, operations.horizon())
            for word, count in (await self._jobs.take(connection, until)).items():
                found.add(ENDED, count, word)
            for word, count in (await self._attempts.take(connection, until)).items():
                found.add(ATTEMPTS, count, word)
        return found.metrics()


class _Samples:
    def __init__(self) -> None:
        self._metrics = {family.name: _empty(family) for family in FAMILIES}

    def add(self, family: Family, value: Any, *labels: str) -> None:
        self._metrics[family.name].add_metric(labels, float(value))

    def metrics(self) -> list[Metric]:
        return list(self._metrics.values())


def _empty(family: Family) -> CounterMetricFamily | GaugeMetricFamily:
    kind = CounterMetricFamily if family.counts else GaugeMetricFamily
    return kind(family.name, family.help, labels=family.labels)


def _queues(found: _Samples, waiting: Sequence[Row[Any]], running: Sequence[Row[Any]], serving: Sequence[Row[Any]]) -> None:
    """Every queue that there is has its zeros, so that an alarm on a number that is missing is never needed."""
    waits = {row.queue: row for row in waiting}
    serves = {row.queue: row for row in serving}
    runs = {(row.queue, row.status.value): row.count for row in running}
    for queue in sorted({*QUEUES, *waits, *serves, *(queue for queue, _ in runs)}):
        waiter, server = waits.get(queue), serves.get(queue)
        found.add(WAITING, waiter.due if waiter else 0, queue, "due")
        found.add(WAITING, waiter.backoff if waiter else 0, queue, "backoff")
        found.add(OLDEST, max(waiter.oldest, 0) if waiter else 0, queue)
        for status in ("running", "cancelling"):
            found.add(RUNNING, runs.get((queue, status), 0), queue, status)
        found.add(SERVING, server.workers if server else 0, queue)
        found.add(QUEUE_SLOTS, server.slots if server else 0, queue)


def _chores(found: _Samples, rows: Sequence[Row[Any]]) -> None:
    for row in rows:
        if row.age is not None:
            found.add(CHORE_AGE, row.age, row.name)
        if row.seconds is not None and row.seconds >= 0:  # less: the next run has begun
            found.add(CHORE_SECONDS, row.seconds, row.name)
        found.add(CHORE_RUNS, row.runs, row.name)
        found.add(CHORE_FAILURES, row.failures, row.name)
        found.add(CHORE_CHANGED, row.changed, row.name)
