"""Health checks name the unavailable service, and answer without it."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest
from starlette.applications import Starlette

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.migrations import revisions
from db.queries import accounts, jobchanges, jobevents
from db.services import workers
from db.settings import StateSettings
from db.stores.objects import ObjectStore
from db.stores.redis import connect
from db.streams.feed import Feed, Revalidation
from db.streams.job_watch import ChangeQueries
from server import health
from server.uvicorn_config import STARTUP_FAILURE
from tests.server.serving import serving
from tests.server.test_jobs_command import trellis

UNREACHABLE = "127.0.0.1:1"


@asynccontextmanager
async def health_client(settings: StateSettings, **changes: str) -> AsyncGenerator[httpx.AsyncClient]:
    """A client of an application that connects to its services by these settings."""
    overridden = settings.model_copy(update=changes)
    app = Starlette(routes=health.routes())
    async with AsyncExitStack() as stack:
        app.state.database = await stack.enter_async_context(Database.open(overridden))
        app.state.objects = await stack.enter_async_context(ObjectStore.open(overridden))
        revalidation, queries = (
            Revalidation(accounts.current_viewers, jobevents.visible_jobs, 30),
            ChangeQueries(jobchanges.load_changes, jobchanges.changed_since),
        )
        app.state.feed = await stack.enter_async_context(Feed.open(overridden.redis_url, app.state.database, revalidation, queries))
        app.state.redis = await stack.enter_async_context(connect(overridden.redis_url))
        yield await stack.enter_async_context(httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1"))


@pytest.fixture
async def live_worker(database: Database, settings: StateSettings) -> None:
    """A worker with a recent heartbeat, and the bucket."""
    async with database.work(SYSTEM) as work:
        await workers.register(work, f"health-{time.monotonic_ns()}", ["default"], 1)
    async with ObjectStore.open(settings) as objects:
        await objects.ensure_bucket()


async def test_all_is_ready_when_every_service_answers(settings: StateSettings, live_worker: None) -> None:
    async with health_client(settings) as client:
        for path in ("/readyz", "/readyz?strict"):
            answer = await client.get(path)
            assert answer.status_code == 200
            assert answer.json() == {
                "status": "ready",
                "services": {
                    "postgres": {"state": "up"},
                    "redis": {"state": "up"},
                    "s3": {"state": "up"},
                    "workers": {"state": "up"},
                    "streams": {"state": "up"},
                },
            }


async def test_without_redis_and_s3_it_is_degraded_and_says_why(settings: StateSettings, live_worker: None) -> None:
    async with health_client(settings, redis_url=f"redis://{UNREACHABLE}/0", s3_endpoint_url=f"http://{UNREACHABLE}") as client:
        answer, strict = await client.get("/readyz"), await client.get("/readyz?strict")
        assert (answer.status_code, strict.status_code) == (200, 503)
        assert answer.json() == strict.json()
        assert answer.json()["status"] == "degraded"
        services = answer.json()["services"]
        assert services["postgres"] == services["workers"] == {"state": "up"}
        assert services["redis"]["state"] == services["s3"]["state"] == "down"
        assert all(services[name]["reason"] for name in ("redis", "s3"))
        assert UNREACHABLE not in answer.text


async def test_a_store_that_refuses_the_keys_is_told_from_one_that_is_away(settings: StateSettings, live_worker: None) -> None:
    async with health_client(settings, s3_access_key_id="somebodyelse") as client:
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        assert answer.json()["services"]["s3"] == {
            "state": "down",
            "reason": "refused the credentials (InvalidAccessKeyId, status 403): correct TRELLIS_S3_ACCESS_KEY_ID and "
            "TRELLIS_S3_SECRET_ACCESS_KEY, or what they allow",
        }
    migrated = await trellis("migrate", TRELLIS_S3_ACCESS_KEY_ID="somebodyelse")
    assert migrated.returncode == 1
    assert migrated.stderr.splitlines()[-1].startswith(
        "The object storage refused the credentials of Trellis (InvalidAccessKeyId, status 403)."
    )


async def test_without_postgres_it_is_unavailable_within_seconds_and_still_alive(settings: StateSettings) -> None:
    async with health_client(settings, database_url=f"postgresql://trellis:secret@{UNREACHABLE}/trellis") as client:
        began = time.monotonic()
        answer = await client.get("/readyz")
        assert time.monotonic() - began < 20  # the system gives a connection up after two minutes
        assert answer.status_code == 503
        assert answer.json()["status"] == "unavailable"
        assert answer.json()["services"]["postgres"] == {"state": "down", "reason": "does not answer, or refuses the connection"}
        assert "secret" not in answer.text
        alive = await client.get("/healthz")
        assert (alive.status_code, alive.text) == (200, "alive\n")


@pytest.mark.exhaustive
async def test_a_database_without_this_release_says_so(
    settings: StateSettings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not ready until it is migrated; the API, each command and a worker say in one line what to do."""
    base, name = settings.database_url.rsplit("/", 1)
    name += "_bare"
    async with database.read() as connection:
        await connection.exec_driver_sql("SET statement_timeout = 0")  # whatever else the machine does
        await connection.exec_driver_sql(f'CREATE DATABASE "{name}"')
        await connection.exec_driver_sql("RESET statement_timeout")
    try:
        async with health_client(settings, database_url=f"{base}/{name}") as client:
            answer = await client.get("/readyz")
            assert (answer.status_code, answer.json()["services"]["postgres"]) == (
                503,
                {"state": "down", "reason": "the database has no tables yet: run `trellis migrate`"},
            )
            async with Database.open(settings.model_copy(update={"database_url": f"{base}/{name}"})) as bare, bare.read() as connection:
                await connection.exec_driver_sql("CREATE TABLE alembic_version AS SELECT '0001' AS version_num")
            await asyncio.sleep(health.CACHE_SECONDS)
            answer = await client.get("/readyz")
            assert answer.json()["services"]["postgres"]["reason"] == (
                f"the database is at revision 0001, this release needs {revisions()[-1]}: run `trellis migrate`"
            )
        monkeypatch.setattr("server.app.state_settings", lambda: settings.model_copy(update={"database_url": f"{base}/{name}"}))
        async with serving() as url, httpx.AsyncClient() as client:
            authorization = {"Authorization": "Bearer trk_of-another-database"}
            answer = await client.post(f"{url}/graphql", json={"query": "{ viewer { username } }"}, headers=authorization)
            (error,) = answer.json()["errors"]
            assert error["extensions"]["code"] == "UNAVAILABLE"
            assert (answer.status_code, error["message"]) == (
                503,
                'The database of TRELLIS_DATABASE_URL is not that of this release: relation "users" does not exist. Run `trellis migrate` first.',
            )
            login = 'mutation { login(input: {login: "ada", password: "a long password"}) { __typename } }'
            (error,) = (await client.post(f"{url}/graphql", json={"query": login})).json()["errors"]
            assert (error["extensions"]["code"], "Run `trellis migrate` first." in error["message"]) == ("UNAVAILABLE", True)
            answer = await client.post(f"{url}/auth/cookie", headers={**authorization, "GraphQL-Preflight": "1", "Origin": url})
            assert (answer.status_code, "Run `trellis migrate` first." in answer.text) == (503, True)
        for command in (("user", "add", "eve@example.org", "--username", "eve"), ("jobs", "list"), ("worker",)):
            said = await trellis(*command, TRELLIS_DATABASE_URL=f"{base}/{name}")
            assert said.returncode == 1
            assert re.fullmatch(
                r"The database of TRELLIS_DATABASE_URL is not that of this release: relation \"\w+\" does not exist\. Run `trellis migrate` first\.\n",
                said.stderr,
            )
    finally:
        async with database.read() as connection:
            await connection.exec_driver_sql(f'DROP DATABASE "{name}" WITH (FORCE)')


async def test_without_streams_it_is_unavailable_and_says_which_part_of_them(
    settings: StateSettings, live_worker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("no address of ours")

    monkeypatch.setattr(Feed, "_read_due", broken)
    async with health_client(settings) as client:
        async with asyncio.timeout(60):
            while (answer := await client.get("/readyz")).status_code == 200:
                await asyncio.sleep(0.2)
        assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
        assert answer.json()["services"]["streams"] == {
            "state": "down",
            "reason": "parts of the job feed keep failing: read",
        }
        assert answer.json()["services"]["postgres"] == {"state": "up"}


async def test_prometheus_reads_the_same(settings: StateSettings, live_worker: None) -> None:
    async with health_client(settings, redis_url=f"redis://{UNREACHABLE}/0") as client:
        answer = await client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain")
        lines = answer.text.splitlines()
        samples = {line for line in lines if line.startswith("trellis_service_up{")}
        assert samples == {
            f'trellis_service_up{{service="{name}"}} {up}'
            for name, up in (("postgres", 1.0), ("redis", 0.0), ("s3", 1.0), ("workers", 1.0), ("streams", 1.0))
        }
        assert any(line.startswith("process_resident_memory_bytes ") for line in lines)


async def test_a_worker_knows_whether_it_lives(settings: StateSettings, live_worker: None) -> None:
    assert await health.is_worker_alive(settings, "health")
    assert not await health.is_worker_alive(settings, "another-host")


async def test_an_api_that_cannot_start_ends_and_says_why(settings: StateSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        answer = await trellis("api", "--port", str(taken.getsockname()[1]))
    assert (answer.returncode, "address already in use" in answer.stderr) == (STARTUP_FAILURE, True)
