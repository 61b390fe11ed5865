"""Metrics of this API process, or of all those behind one port. Those of all processes of a deployment are in `server.db_metrics`."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.multiprocess import MultiProcessCollector

from server.settings import METRICS_FOLDER

if TYPE_CHECKING:
    from sqlalchemy import Pool

    from db.core.work import Database
    from graph.execution.observation import Observation

MAX_OPERATION_NAMES = 100  # distinct operation names used as labels
MAX_NAME_LENGTH = 64
OTHER = "other"
LAG_INTERVAL = 0.25  # seconds between measurements of the event loop's lag

OPERATIONS = Counter(
    "trellis_operations", "Ended GraphQL operations, by type, name and outcome (ok, refused, failed).", ["type", "name", "outcome"]
)
OPERATION_SECONDS = Histogram(
    "trellis_operation_seconds",
    "Duration of queries and mutations, from parsing to the last value.",
    ["type", "name"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
ERRORS = Counter("trellis_operation_errors", "Errors returned to GraphQL clients, by code.", ["code"])
OPERATION_COST = Histogram(
    "trellis_operation_cost", "Static cost of operations, in points.", ["type"], buckets=(1, 10, 50, 100, 500, 1_000, 5_000, 10_000)
)
RESPONSES = Counter("trellis_graphql_responses", "HTTP responses of /graphql, by status.", ["status"])
PAYMENT_MISMATCHES = Counter(
    "trellis_payment_mismatches", "Callbacks of payments that were sent back, as amount or currency were not those of the purchase."
)
SENT_BYTES = Counter("trellis_graphql_sent_bytes", "Bytes of HTTP response bodies of /graphql.")
SOCKETS = Gauge("trellis_sockets", "Open websockets.", multiprocess_mode="livesum")
SUBSCRIPTIONS = Gauge("trellis_subscriptions", "Running subscriptions, over all transports.", multiprocess_mode="livesum")
EVENTS = Counter("trellis_subscription_events", "Events delivered to subscriptions, counted when the subscription ends.")
UNPLANNED = Counter(
    "trellis_operations_unplanned",
    "Operations executed field by field because they have no plan, by reason (introspection, condition).",
    ["reason"],
)
STATEMENTS = Counter("trellis_operation_statements", "SQL statements sent by operations.")
USAGE_OMITTED = Counter(
    "trellis_api_requests_omitted",
    "Operations that are counted in `apiUsage` but not recorded one by one, because PostgreSQL did not take them in time.",
)
USAGE_LOST = Counter(
    "trellis_api_requests_lost", "Operations that `apiUsage` does not count: not written before the process ended, or their user is gone."
)
EVENT_LOOP_LAG = Histogram(
    "trellis_event_loop_lag_seconds",
    "Lag of the event loop: how late a timer fires.",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)


class OperationNames:
    """Operation names as labels. Clients choose them, so their number is limited, and only authenticated viewers' names are added."""

    def __init__(self, limit: int = MAX_OPERATION_NAMES) -> None:
        self._limit = limit
        self._names: set[str] = set()

    def label(self, observation: Observation) -> str:
        """The name, `anonymous` without one, or `other` once the limit is reached."""
        name = observation.name
        if name is None:
            return "anonymous"
        if name in self._names:
            return name
        executed = "execute" in observation.phases
        if observation.viewer_id is None or not executed or len(name) > MAX_NAME_LENGTH or len(self._names) >= self._limit:
            return OTHER
        self._names.add(name)
        return name


_OPERATION_NAMES = OperationNames()


class _Series(NamedTuple):
    """The series that operations of one type, name and outcome are counted in: finding them by their labels takes longer than counting."""

    operations: Counter
    seconds: Histogram
    cost: Histogram


@cache
def _series(type_: str, name: str, outcome: str) -> _Series:
    return _Series(OPERATIONS.labels(type_, name, outcome), OPERATION_SECONDS.labels(type_, name), OPERATION_COST.labels(type_))


@cache
def _responses(status: int) -> Counter:
    return RESPONSES.labels(str(status))


def record_response(status: int, sent_bytes: int) -> None:
    """Count a response of /graphql."""
    _responses(status).inc()
    SENT_BYTES.inc(sent_bytes)


def record_operation(observation: Observation) -> None:
    """Count an operation that ended."""
    name = _OPERATION_NAMES.label(observation)
    outcome = "ok" if not observation.error_codes else "failed" if observation.is_server_error else "refused"
    series = _series(observation.type, name, outcome)
    series.operations.inc()
    STATEMENTS.inc(observation.statements)
    if observation.unplanned_reason is not None:
        UNPLANNED.labels(observation.unplanned_reason).inc()
    for code in observation.error_codes:
        ERRORS.labels(code).inc()
    if observation.cost is not None:
        series.cost.observe(observation.cost)
    if observation.type == "subscription":
        EVENTS.inc(observation.events)
    else:
        series.seconds.observe(observation.seconds)


def _pool_gauge(name: str, description: str) -> Gauge:
    return Gauge(f"trellis_database_connections_{name}", description, multiprocess_mode="livesum")


CONNECTIONS_USED = _pool_gauge("used", "PostgreSQL connections in use, as of the last quarter of a second.")
CONNECTIONS_MAX = _pool_gauge("max", "PostgreSQL connections that may be in use.")
CONNECTIONS_MOST = _pool_gauge("most", "Deprecated name of trellis_database_connections_max.")


def current_registry() -> CollectorRegistry:
    """The registry to export: of this process, or of all processes that keep their metrics in one folder."""
    if METRICS_FOLDER not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return registry


@asynccontextmanager
async def measure_process(database: Database) -> AsyncGenerator[None]:
    """Measure this process's event loop and connection pool until the block ends."""
    measurement = asyncio.create_task(_measure(database), name="measurement of the process")
    try:
        yield
    finally:
        measurement.cancel()
        with suppress(asyncio.CancelledError):
            await measurement


async def _measure(database: Database) -> None:
    pool: Pool = database.engine.pool
    checked_out: Callable[[], int] = getattr(pool, "checkedout", lambda: 0)
    size: Callable[[], int] = getattr(pool, "size", lambda: 0)
    while True:
        CONNECTIONS_USED.set(checked_out() - len(database.kept))
        CONNECTIONS_MAX.set(size())
        CONNECTIONS_MOST.set(size())
        due = time.monotonic() + LAG_INTERVAL
        await asyncio.sleep(LAG_INTERVAL)
        EVENT_LOOP_LAG.observe(max(0.0, time.monotonic() - due))
