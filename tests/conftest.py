"""The ground every test stands on: real servers, a fresh database for each test process, the real application, real workers.

PostgreSQL and S3 start once, in the process that starts the others. Each test process then has its own database, bucket and
Redis, one API served by uvicorn in the tests' own event loop, and, where a test asks for it, one worker process.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError

from db.core.viewer import SYSTEM, UserRole
from db.core.work import Database
from db.migrations import upgrade
from db.services import accounts
from db.settings import StateSettings, state_settings
from db.stores.objects import ObjectStore
from server.embedded import embedded_servers
from tests.client import Client
from tests.exhaustive import COLLECTED_ITEMS
from tests.xdist_groups import (
    pytest_xdist_make_scheduler,  # noqa: F401 # pyright: ignore[reportUnusedImport] - a hook, found here
    sort_longest_first,
)

# What all tests of a file ask for in a minute is no measure of anybody's use; the tests of these limits set their own.
os.environ.update({f"TRELLIS_RATE_LIMIT_{who}": "0" for who in ("ANONYMOUS", "FREE", "PRO", "ENTERPRISE")})

_PRESERVED_TABLES = {
    "alembic_version",
    "step_definitions",
    "workers",
}  # outlive a test: they belong to the running code, not to anybody's data


def pytest_configure(config: pytest.Config) -> None:
    """Start the servers before the test processes, which inherit their addresses.

    A Redis each of them starts for itself: some tests wipe it and cut off all who listen to it, and its channels know no numbers.
    """
    if config.option.collectonly or _needs_no_shared_servers(config):
        return
    is_worker = hasattr(config, "workerinput")
    has_workers = not is_worker and config.getoption("dist", "no") != "no"
    shared = not is_worker and "TRELLIS_DATABASE_URL" not in os.environ
    own = not has_workers and "TRELLIS_REDIS_URL" not in os.environ
    if not shared and not own:
        return
    folder = Path(tempfile.mkdtemp(prefix="trellis-tests-"))
    servers = embedded_servers(folder, postgres=shared, valkey=own, s3=shared, durable=False)
    os.environ.update(servers.__enter__())

    def stop() -> None:
        servers.__exit__(None, None, None)
        shutil.rmtree(folder, ignore_errors=True)

    config.add_cleanup(stop)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Before any of them is deselected."""
    config.stash[COLLECTED_ITEMS] = tuple(items)
    if hasattr(config, "workerinput"):
        sort_longest_first(items)


def _needs_no_shared_servers(config: pytest.Config) -> bool:
    """Whether nothing is asked for but what stands on servers of its own."""
    paths = [config.invocation_params.dir / argument.partition("::")[0] for argument in config.args]
    return all(path.is_relative_to(Path(__file__).parent / "faults") for path in paths)


@pytest.fixture(scope="session")
def settings(worker_id: str) -> StateSettings:
    """This test process's own database, Redis (or a number of it) and bucket, the schema in place."""
    number = int(worker_id.removeprefix("gw")) if worker_id.startswith("gw") else 15
    name = f"trellis_{worker_id}"
    base = os.environ["TRELLIS_DATABASE_URL"]

    async def make() -> None:
        async with Database.open(StateSettings(database_url=base)) as opened, opened.read() as connection:
            await connection.exec_driver_sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            await connection.exec_driver_sql(f'CREATE DATABASE "{name}"')

    with asyncio.Runner() as runner:
        runner.run(make())
    os.environ["TRELLIS_DATABASE_URL"] = base.rsplit("/", 1)[0] + f"/{name}"
    os.environ["TRELLIS_REDIS_URL"] = os.environ["TRELLIS_REDIS_URL"].rsplit("/", 1)[0] + f"/{number}"
    os.environ["TRELLIS_S3_BUCKET"] = f"trellis-{worker_id}"
    os.environ["TRELLIS_SESSION_REVALIDATION_INTERVAL"] = "1"
    state_settings.cache_clear()
    upgrade(os.environ["TRELLIS_DATABASE_URL"])
    from workers.catalogue import project_steps_sync  # heavy: only the tests that need the state pay for it

    project_steps_sync(os.environ["TRELLIS_DATABASE_URL"])
    return state_settings()


@pytest.fixture(scope="session")
async def database(settings: StateSettings) -> AsyncGenerator[Database]:
    """The state as the tests look at it, beside the API."""
    async with Database.open(settings) as opened:
        yield opened


@dataclass(frozen=True)
class LiveServer:
    """A Trellis that answers at `url`; `token` is the admin's."""

    url: str
    token: str


ADMIN_TOKEN = "the-admin-token-of-the-tests"


@pytest.fixture(scope="session")
async def live_server(settings: StateSettings, database: Database) -> AsyncGenerator[LiveServer]:
    """The real application behind a real uvicorn, in this event loop."""
    from server.app import create_app  # heavy: only the tests that need it pay for it
    from server.settings import server_settings
    from server.uvicorn_config import build_config

    async with ObjectStore.open(settings) as objects:
        await objects.ensure_bucket()

    server = uvicorn.Server(build_config(create_app(), server_settings(), port=0, timeout_graceful_shutdown=2))
    server.install_signal_handlers = lambda: None  # pyright: ignore[reportAttributeAccessIssue] - the tests' own handlers stay
    serving = asyncio.create_task(server._serve())  # pyright: ignore[reportPrivateUsage] - `serve` would take the signals over
    while not server.started:
        await asyncio.sleep(0.01)
        if serving.done():
            serving.result()
    port = server.servers[0].sockets[0].getsockname()[1]
    yield LiveServer(f"http://127.0.0.1:{port}", ADMIN_TOKEN)
    server.should_exit = True
    await serving


@pytest.fixture(scope="session")
async def worker(
    settings: StateSettings, live_server: LiveServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[subprocess.Popen[bytes]]:
    """One real worker process for as long as the tests run."""
    with (tmp_path_factory.getbasetemp() / "worker.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "server.cli", "worker"], stdout=log, stderr=subprocess.STDOUT)
        yield process
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 20)


async def clean_tables(database: Database) -> None:
    """Delete every row, in no particular order: with the foreign keys asleep that takes milliseconds.

    A worker that still settles what the last test left under way locks rows in an order of its own; Postgres then ends one of the two.
    """
    for _ in range(5):
        try:
            await _delete_all(database)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != "40P01":
                raise
        else:
            return
    raise AssertionError("Something goes on writing to the tables, so that they could not be cleaned.")


async def _delete_all(database: Database) -> None:
    async with database.engine.begin() as connection:
        names = await connection.exec_driver_sql(
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
        )
        await connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        for (name,) in names.all():
            if name not in _PRESERVED_TABLES:
                await connection.exec_driver_sql(f'DELETE FROM "{name}"')


@pytest.fixture
async def clean(database: Database) -> None:
    """Rows are deleted before a test that uses people, so that a failed one can be looked at."""
    await clean_tables(database)
    async with database.work(SYSTEM) as work:
        await accounts.ensure_admin(work, "admin@trellis.local", ADMIN_TOKEN)


ClientFactory = Callable[..., Awaitable[Client]]


@pytest.fixture
async def make_client(clean: None, database: Database, live_server: LiveServer) -> AsyncGenerator[ClientFactory]:
    """Makes named viewers: `ada = await person("ada")`."""
    async with AsyncExitStack() as stack:

        async def make(name: str, role: UserRole = UserRole.MEMBER) -> Client:
            async with database.work(SYSTEM) as work:
                token = await accounts.add_user(work, f"{name}@example.org", name, name.capitalize(), role)
            client = Client(live_server.url, token)
            stack.push_async_callback(client.close)
            return client

        yield make


@pytest.fixture
async def ada(make_client: ClientFactory) -> Client:
    """A member, who does things."""
    return await make_client("ada")


@pytest.fixture
async def bob(make_client: ClientFactory) -> Client:
    """Another member, a stranger to Ada's rows."""
    return await make_client("bob")


@pytest.fixture
async def reader(make_client: ClientFactory) -> Client:
    """A VIEWER, who only reads."""
    return await make_client("reader", UserRole.VIEWER)


@pytest.fixture
async def admin(clean: None, live_server: LiveServer) -> AsyncGenerator[Client]:
    """The admin, who sees all."""
    client = Client(live_server.url, ADMIN_TOKEN)
    yield client
    await client.close()


@pytest.fixture
async def anonymous(clean: None, live_server: LiveServer) -> AsyncGenerator[Client]:
    """Somebody without a token."""
    client = Client(live_server.url)
    yield client
    await client.close()


@pytest.fixture
def capture_statements(live_server: LiveServer) -> Generator[Callable[[], Any]]:
    """`with statements() as sent:` collects every SQL statement that this process sends meanwhile."""

    @contextmanager
    def capture() -> Generator[list[str]]:
        sent: list[str] = []

        def record_statement(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
            sent.append(statement)

        event.listen(Engine, "before_cursor_execute", record_statement)
        try:
            yield sent
        finally:
            event.remove(Engine, "before_cursor_execute", record_statement)

    yield capture
