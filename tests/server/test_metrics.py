"""Prometheus scrapes the state of the queues, ended jobs and operations; strangers cannot read the metrics."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from sqlalchemy import insert, select, text
from starlette.applications import Starlette

from db.core.viewer import SYSTEM, UserRole
from db.core.work import Database
from db.queries import operations
from db.services import accounts, jobs, workers
from db.services.jobs import Backoff, Claim, Failure
from db.settings import StateSettings
from db.stores.objects import ObjectStore
from db.stores.redis import connect
from db.tables import MaintenanceTaskState, User
from db.tables.jobs import JobKind
from docs.metrics import metric_rows, table
from graph.execution.observation import Observation
from server import health
from server.db_metrics import OUTCOMES, DatabaseMetrics
from server.metrics import OperationNames
from server.settings import ServerSettings
from tests.client import Client
from tests.prefork import prefork_server

README = Path(__file__).parents[2].joinpath("README.md").read_text(encoding="utf-8")
TOKEN = "the-token-of-prometheus"


@asynccontextmanager
async def scraper(settings: StateSettings, *, client: str = "127.0.0.1", **server: Any) -> AsyncGenerator[httpx.AsyncClient]:
    """A client at the address `client` of an application with these settings."""
    app = Starlette(routes=health.routes(ServerSettings(**server)))
    async with Database.open(settings) as database, ObjectStore.open(settings) as objects, connect(settings.redis_url) as redis:
        app.state.database, app.state.objects, app.state.redis = database, objects, redis
        transport = httpx.ASGITransport(app, client=(client, 40_000))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            yield http


MetricValues = dict[tuple[str, ...], float]


def parse_metrics(text: str) -> MetricValues:
    """Map (name, label values in the order of their names) to value."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value for sample in samples}


class DedicatedQueue:
    """Jobs in a queue of their own, and idle workers that claim them."""

    def __init__(self, database: Database, owner_id: UUID) -> None:
        self.database = database
        self.owner_id = owner_id
        self.queue = f"test-{uuid4().hex[:8]}"

    async def submit(self) -> UUID:
        async with self.database.work(SYSTEM) as work:
            return (await jobs.submit(work, jobs.NewJob(self.owner_id, JobKind.EXPORT, self.queue))).id

    async def claim(self, job_id: UUID) -> Claim:
        async with self.database.work(SYSTEM) as work:
            name = f"idle-{uuid4().hex[:8]}"
            worker = await workers.register(work, name, [self.queue], 3)
            job = await jobs.claim(work, job_id, worker, name, 60)
            assert job is not None
            return Claim(job_id, job.attempt, worker)

    async def fail(self, claim: Claim, *, retryable: bool) -> None:
        async with self.database.work(SYSTEM) as work:
            await jobs.fail(work, claim, Failure("BODY_FAILED", "It broke.", retryable=retryable), 1, 3, Backoff(base=600))

    async def cancel(self, job_id: UUID) -> None:
        async with self.database.work(SYSTEM) as work:
            await jobs.cancel(work, job_id)


@pytest.fixture
async def dedicated_queue(clean: None, database: Database) -> DedicatedQueue:
    async with database.work(SYSTEM) as work:
        await accounts.add_user(work, "ada@example.org", "ada", "Ada", UserRole.MEMBER)
    (row,) = await database.rows(select(User.id).where(User.username == "ada"))
    return DedicatedQueue(database, row.id)


async def read_db_metrics(collector: DatabaseMetrics, database: Database) -> MetricValues:
    collector._collected_at = float("-inf")  # as if a second had passed
    families = await collector.metrics(database)
    return {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


async def test_the_queues_say_who_waits_and_who_serves(dedicated_queue: DedicatedQueue, database: Database) -> None:
    first, second, third = [await dedicated_queue.submit() for _ in range(3)]
    claim = await dedicated_queue.claim(first)
    await dedicated_queue.fail(await dedicated_queue.claim(second), retryable=True)
    values = await read_db_metrics(DatabaseMetrics(), database)
    assert values["trellis_jobs_waiting", dedicated_queue.queue, "due"] == 1
    assert values["trellis_jobs_waiting", dedicated_queue.queue, "backoff"] == 1
    assert 0 < values["trellis_oldest_waiting_seconds", dedicated_queue.queue] < 60
    assert values["trellis_jobs_running", dedicated_queue.queue, "running"] == 1
    assert (values["trellis_queue_workers", dedicated_queue.queue], values["trellis_queue_slots", dedicated_queue.queue]) == (2, 6)
    assert values["trellis_workers",] >= 2
    await dedicated_queue.cancel(third)
    await dedicated_queue.cancel(claim.job_id)
    values = await read_db_metrics(DatabaseMetrics(), database)
    assert values["trellis_jobs_waiting", dedicated_queue.queue, "due"] == 0
    assert values["trellis_jobs_running", dedicated_queue.queue, "running"] == 0
    assert values["trellis_jobs_running", dedicated_queue.queue, "cancelling"] == 1
    assert values["trellis_jobs_waiting", "tabular", "due"] == 0
    assert values["trellis_oldest_waiting_seconds", "tabular"] == 0


async def test_what_ended_is_counted_once_and_never_falls(
    dedicated_queue: DedicatedQueue, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = DatabaseMetrics()

    async def ended_counts() -> tuple[dict[str, int], dict[str, int]]:
        values = await read_db_metrics(collector, database)
        return (
            {status: int(values["trellis_jobs_ended_total", status]) for status in ("completed", "failed", "cancelled")},
            {outcome: int(values["trellis_attempts_ended_total", outcome]) for outcome in OUTCOMES},
        )

    none = dict.fromkeys(OUTCOMES, 0)
    await dedicated_queue.cancel(await dedicated_queue.submit())
    assert await ended_counts() == ({"completed": 0, "failed": 0, "cancelled": 1}, none)
    await dedicated_queue.fail(await dedicated_queue.claim(await dedicated_queue.submit()), retryable=False)
    assert await ended_counts() == ({"completed": 0, "failed": 1, "cancelled": 1}, {**none, "failed": 1})
    monkeypatch.setattr(operations, "MAX_COMMIT_DELAY", operations.timedelta(0))  # from here on ended jobs are counted permanently
    await dedicated_queue.fail(await dedicated_queue.claim(await dedicated_queue.submit()), retryable=True)
    for _ in range(3):
        assert await ended_counts() == ({"completed": 0, "failed": 1, "cancelled": 1}, {**none, "failed": 1, "retrying": 1})
    await dedicated_queue.cancel(await dedicated_queue.submit())
    assert (await ended_counts())[0] == {"completed": 0, "failed": 1, "cancelled": 2}
    async with database.engine.begin() as connection:
        await connection.exec_driver_sql("DELETE FROM job_events")
        await connection.exec_driver_sql("DELETE FROM jobs")
    assert await ended_counts() == ({"completed": 0, "failed": 1, "cancelled": 2}, {**none, "failed": 1, "retrying": 1})


async def test_two_processes_that_began_at_different_times_export_the_same(dedicated_queue: DedicatedQueue, database: Database) -> None:
    early = DatabaseMetrics()
    await read_db_metrics(early, database)
    await dedicated_queue.cancel(await dedicated_queue.submit())
    late = DatabaseMetrics()
    names = [("trellis_jobs_ended_total", "cancelled")]
    assert [(await read_db_metrics(collector, database))[name] for collector in (early, late) for name in names] == [1, 1]


async def test_a_scrape_costs_as_many_statements_with_many_jobs_as_with_none(
    dedicated_queue: DedicatedQueue, database: Database, capture_statements: Callable[[], Any]
) -> None:
    collector = DatabaseMetrics()
    await read_db_metrics(collector, database)
    for _ in range(12):
        await dedicated_queue.submit()
    with capture_statements() as sent:
        await read_db_metrics(collector, database)
        await collector.metrics(database)  # the first result is cached for a second
    assert len([statement for statement in sent if statement.lstrip().upper().startswith("SELECT")]) == 10


async def test_metrics_cover_maintenance_tasks_and_default_partitions(dedicated_queue: DedicatedQueue, database: Database) -> None:
    async with database.work(SYSTEM) as work:
        now = text("clock_timestamp()")
        await work.run(
            insert(MaintenanceTaskState).values(name="tidy", worker="w", runs=3, failures=1, changed=7, started_at=now, ended_at=now)
        )
    values = await read_db_metrics(DatabaseMetrics(), database)
    assert values["trellis_maintenance_runs_total", "tidy"] == 3
    assert values["trellis_maintenance_failures_total", "tidy"] == 1
    assert values["trellis_maintenance_changed_total", "tidy"] == 7
    assert 0 <= values["trellis_maintenance_age_seconds", "tidy"] < 60
    assert 0 <= values["trellis_maintenance_seconds", "tidy"] < 60
    for name in ("runs_total", "failures_total", "changed_total", "age_seconds", "seconds"):  # names from before the rename
        assert values[f"trellis_chore_{name}", "tidy"] == values[f"trellis_maintenance_{name}", "tidy"]
    assert values["trellis_default_partition_rows", "job_events"] == values["trellis_default_partition_rows", "metric_points"] == 0


@pytest.mark.parametrize(
    ("server", "client", "headers", "status"),
    [
        ({}, "127.0.0.1", {}, 200),
        ({}, "::1", {}, 200),
        ({}, "::ffff:127.0.0.1", {}, 200),
        ({}, "10.0.0.7", {}, 403),
        ({}, "127.0.0.1", {"x-forwarded-for": "10.0.0.7"}, 403),
        ({}, "127.0.0.1", {"forwarded": "for=127.0.0.1"}, 403),
        ({}, "10.0.0.7", {"authorization": "Bearer "}, 403),
        ({"metrics_token": SecretStr(TOKEN)}, "10.0.0.7", {"authorization": f"Bearer {TOKEN}"}, 200),
        ({"metrics_token": SecretStr(TOKEN)}, "10.0.0.7", {"authorization": f"Bearer {TOKEN}x"}, 403),
        ({"metrics_token": SecretStr(TOKEN)}, "10.0.0.7", {"authorization": "Bearer ä"}, 403),
        ({"metrics": "all"}, "10.0.0.7", {}, 200),
        ({"metrics": "off", "metrics_token": SecretStr(TOKEN)}, "127.0.0.1", {"authorization": f"Bearer {TOKEN}"}, 404),
    ],
)
async def test_strangers_read_nothing_unless_a_setting_lets_them(
    settings: StateSettings, server: dict[str, Any], client: str, headers: dict[str, str], status: int
) -> None:
    async with scraper(settings, client=client, **server) as http:
        sent = {name: value.encode() for name, value in headers.items()}
        answer = await http.get("/metrics", headers=sent)  # pyright: ignore[reportArgumentType] - httpx accepts bytes
        assert answer.status_code == status
        assert ("trellis_jobs_waiting" in answer.text) == (status == 200)


def test_a_short_token_is_refused() -> None:
    with pytest.raises(ValueError, match="16 characters or more"):
        ServerSettings(metrics_token=SecretStr("secret"))


def observation(name: str | None, viewer: UUID | None = SYSTEM.id, *, ran: bool = True) -> Observation:
    return Observation("r", viewer, name=name, hash="h", phases={"execute": 0.1} if ran else {})


def test_clients_cannot_make_labels_without_end() -> None:
    names = OperationNames(limit=2)
    assert names.label(observation(None)) == "anonymous"
    assert names.label(observation("Stranger", None)) == "other"
    assert names.label(observation("Broken", ran=False)) == "other"
    assert names.label(observation("x" * 65)) == "other"
    assert [names.label(observation(name)) for name in ("First", "Second", "Third")] == ["First", "Second", "other"]
    assert names.label(observation("First", None)) == "First"


def sample_value(metric: str, /, **labels: str) -> float:
    return REGISTRY.get_sample_value(metric, labels) or 0.0


async def test_operations_are_counted_by_name_outcome_and_code(ada: Client) -> None:
    name = f"Mine{uuid4().hex[:8]}"
    await ada.execute(f"query {name} {{ viewer {{ id }} }}")
    assert sample_value("trellis_operations_total", type="query", name=name, outcome="ok") == 1
    assert sample_value("trellis_operation_seconds_count", type="query", name=name) == 1
    before = sample_value("trellis_operation_errors_total", code="GRAPHQL_VALIDATION_FAILED")
    await ada.post(f"query {name} {{ viewer {{ nothing }} }}")
    assert sample_value("trellis_operations_total", type="query", name=name, outcome="refused") == 1
    assert sample_value("trellis_operation_errors_total", code="GRAPHQL_VALIDATION_FAILED") == before + 1


async def test_sockets_and_subscriptions_are_counted_while_they_are_open(ada: Client) -> None:
    sockets, running = sample_value("trellis_sockets"), sample_value("trellis_subscriptions")
    async with ada.socket() as (send, _):
        await send({"id": "1", "type": "subscribe", "payload": {"query": "subscription { jobUpdates { id } }"}})
        async with asyncio.timeout(60):
            while sample_value("trellis_subscriptions") != running + 1:
                await asyncio.sleep(0.02)
        assert sample_value("trellis_sockets") == sockets + 1
    async with asyncio.timeout(60):
        while (sample_value("trellis_sockets"), sample_value("trellis_subscriptions")) != (sockets, running):
            await asyncio.sleep(0.02)


async def test_the_process_exports_metrics_of_its_event_loop_and_its_connections(ada: Client, settings: StateSettings) -> None:
    async with asyncio.timeout(60):
        while sample_value("trellis_event_loop_lag_seconds_count") < 2:
            await asyncio.sleep(0.1)
    values = parse_metrics((await ada.http.get("/metrics")).text)
    assert values["trellis_database_connections_max",] == settings.database_pool_size
    assert 0 <= values["trellis_database_connections_used",] <= settings.database_pool_size


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@asynccontextmanager
async def worker(queue: str, folder: Path, **settings: str) -> AsyncGenerator[Path]:
    """A worker of this queue whose task runs the body that a job names; yield the path of its log."""
    own_settings = {"PRELOAD": "false", "SLOTS": "2", "BODY_PATHS": json.dumps([str(folder)])}
    environment = {**os.environ, **{f"TRELLIS_WORKER_{name}": value for name, value in own_settings.items()}, **settings}
    log_path = folder / "worker.log"
    process = prefork_server().start([sys.executable, "-m", "tests.workers.scripted_worker", queue], environment, log_path)
    try:
        yield log_path
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 60)


async def scrape_until_positive(port: int, names: Sequence[tuple[str, ...]]) -> MetricValues:
    """Return the worker's metrics as soon as these are above zero."""
    async with httpx.AsyncClient(verify=False) as http, asyncio.timeout(60):
        while True:
            try:
                values = parse_metrics((await http.get(f"http://127.0.0.1:{port}/metrics")).text)
            except httpx.HTTPError:
                values = {}
            if all(values.get(name, 0) > 0 for name in names):
                return values
            await asyncio.sleep(0.1)


async def test_a_worker_exports_metrics_if_a_port_is_set(dedicated_queue: DedicatedQueue, tmp_path: Path) -> None:
    port = free_port()
    async with worker(dedicated_queue.queue, tmp_path, TRELLIS_WORKER_METRICS_PORT=str(port)):
        spec = {"trace": str(tmp_path / "trace")}
        async with dedicated_queue.database.work(SYSTEM) as work:
            for body in ("quick", "raise_bad_input"):
                await jobs.submit(
                    work,
                    jobs.NewJob(dedicated_queue.owner_id, JobKind.EXPORT, dedicated_queue.queue, parameters={"body": body, "spec": spec}),
                )
        ended = [("trellis_worker_attempts_ended_total", "export", outcome) for outcome in ("completed", "failed")]
        values = await scrape_until_positive(port, ended)
    assert [values[name] for name in ended] == [1, 1]
    assert values["trellis_worker_attempts_started_total", "export"] == 2
    assert values["trellis_worker_dispatch_seconds_count",] == values["trellis_worker_start_seconds_count",] == 2
    assert 0 < values["trellis_worker_dispatch_seconds_sum",] <= values["trellis_worker_start_seconds_sum",]
    assert values["trellis_worker_process_slots",] == 2


async def test_a_port_that_is_taken_costs_the_metrics_and_not_the_worker(dedicated_queue: DedicatedQueue, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        async with worker(dedicated_queue.queue, tmp_path, TRELLIS_WORKER_METRICS_PORT=port) as log_path, asyncio.timeout(60):
            while not await is_served(dedicated_queue):
                await asyncio.sleep(0.1)
    assert b"metrics_not_served" in log_path.read_bytes()


async def is_served(waiting: DedicatedQueue) -> bool:
    return any(waiting.queue in row.queues for row in await operations.workers(waiting.database, stopped=False))


def test_the_readme_lists_every_metric_there_is() -> None:
    assert table() in README, "run `make schema`"
    documented = {re.sub(r"[`{].*", "", row[0].strip("`")) for row in metric_rows()}
    registered = {
        family.name + ("_total" if family.type == "counter" else "") for family in REGISTRY.collect() if family.name.startswith("trellis_")
    }
    assert registered <= documented
