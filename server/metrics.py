"""The numbers of the API's own process, for Prometheus. What the database knows is counted in `server.db_metrics`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from db.core.work import Database
    from graph.execution.observation import Observation

MAX_OPERATION_NAMES = 100  # names of operations that are told apart
MAX_NAME_LENGTH = 64
OTHER = "other"
LAG_INTERVAL = 0.25  # seconds between two looks at how late the event loop is

OPERATIONS = Counter(
    "trellis_operations", "GraphQL operations that ended, by type, name and outcome (ok, refused, failed).", ["type", "name", "outcome"]
)
OPERATION_SECONDS = Histogram(
    "trellis_operation_seconds",
    "Time that queries and mutations took, from the parser to the last value.",
    ["type", "name"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
ERRORS = Counter("trellis_operation_errors", "Errors answered to GraphQL clients, by code.", ["code"])
OPERATION_COST = Histogram(
    "trellis_operation_cost", "Static cost of operations, in points.", ["type"], buckets=(1, 10, 50, 100, 500, 1_000, 5_000, 10_000)
)
RESPONSES = Counter("trellis_graphql_responses", "HTTP answers of /graphql, by status.", ["status"])
SENT_BYTES = Counter("trellis_graphql_sent_bytes", "Bytes of the bodies that /graphql answered over HTTP.")
SOCKETS = Gauge("trellis_sockets", "Websockets that are open.")
SUBSCRIPTIONS = Gauge("trellis_subscriptions", "Subscriptions that run, over whatever they travel.")
EVENTS = Counter("trellis_subscription_events", "Events delivered to subscriptions that have ended.")
STATEMENTS = Counter("trellis_operation_statements", "SQL statements that operations sent.")
EVENT_LOOP_LAG = Histogram(
    "trellis_event_loop_lag_seconds",
    "How late the event loop comes to what is due.",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)


class OperationNames:
    """The names of operations as labels. Clients choose them, so only so many are told apart, and only a signed-in viewer's can be new."""

    def __init__(self, limit: int = MAX_OPERATION_NAMES) -> None:
        self._limit = limit
        self._names: set[str] = set()

    def label(self, observation: Observation) -> str:
        """The name, or `other`; an operation without a name is `anonymous`."""
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


def record_operation(observation: Observation) -> None:
    """Put an operation that ended into the numbers."""
    name = _OPERATION_NAMES.label(observation)
    outcome = "failed" if observation.is_server_error else "refused" if observation.error_codes else "ok"
    OPERATIONS.labels(observation.type, name, outcome).inc()
    STATEMENTS.inc(observation.statements)
    for code in observation.error_codes:
        ERRORS.labels(code).inc()
    if observation.cost is not None:
        OPERATION_COST.labels(observation.type).observe(observation.cost)
    if observation.type == "subscription":
        EVENTS.inc(observation.events)
    else:
        OPERATION_SECONDS.labels(observation.type, name).observe(observation.seconds)


class _PoolCollector(Collector):
    """The connections of the database's pool at the moment of a scrape; of the pool that was opened last."""

    database: Database | None = None

    def collect(self) -> Iterable[Metric]:
        used = GaugeMetricFamily("trellis_database_connections_used", "Connections to PostgreSQL that this process is using.")
        maximum = GaugeMetricFamily("trellis_database_connections_most", "Connections to PostgreSQL that this process may use.")
        if self.database is not None:
            pool = self.database.engine.pool
            checked_out: Callable[[], int] | None = getattr(pool, "checkedout", None)
            size: Callable[[], int] | None = getattr(pool, "size", None)
            if checked_out is not None and size is not None:
                used.add_metric([], checked_out())
                maximum.add_metric([], size())
        return used, maximum


POOL = _PoolCollector()
REGISTRY.register(POOL)


@asynccontextmanager
async def measure_process(database: Database) -> AsyncGenerator[None]:
    """Measure this process's event loop and its pool until the block ends."""
    previous, POOL.database = POOL.database, database
    lag_task = asyncio.create_task(_measure_lag(), name="event loop lag")
    try:
        yield
    finally:
        POOL.database = previous
        lag_task.cancel()
        with suppress(asyncio.CancelledError):
            await lag_task


async def _measure_lag() -> None:
    while True:
        due = time.monotonic() + LAG_INTERVAL
        await asyncio.sleep(LAG_INTERVAL)
        EVENT_LOOP_LAG.observe(max(0.0, time.monotonic() - due))
