"""Shared fixtures: real servers, a fresh database for each test process, the real application, real workers.

PostgreSQL and S3 start once, in pytest's main process. Each test process has its own database, bucket and Redis, one API served by uvicorn
in the tests' event loop, and, if a test asks for it, one worker process.
"""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Generator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
import structlog
import uvicorn
from sqlalchemy import event, update
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError
from starlette.applications import Starlette

from db.core import connection_watchdog
from db.core.viewer import SYSTEM, UserRole
from db.core.work import Database
from db.services import accounts
from db.settings import StateSettings, state_settings
from db.stores.objects import ObjectStore
from db.stores.redis import connect as connect_redis
from db.tables import User
from server.embedded import embedded_servers
from tests.client import Client
from tests.exhaustive import COLLECTED_ITEMS
from tests.server.console_page import (
    browser,  # noqa: F401 # pyright: ignore[reportUnusedImport] - fixtures that pytest finds here, once for all files
    built_console,  # noqa: F401 # pyright: ignore[reportUnusedImport] - as above
)
from tests.template_database import create_database
from tests.unplanned import (
    only_planned_operations,  # noqa: F401 # pyright: ignore[reportUnusedImport] - fixtures that pytest finds here
    unplanned_report,  # noqa: F401 # pyright: ignore[reportUnusedImport] - as above
)
from tests.xdist_groups import (
    pytest_xdist_make_scheduler,  # noqa: F401 # pyright: ignore[reportUnusedImport] - a hook that pytest finds here
    sort_longest_first,
)


def _render(_logger: object, _method: str, event: structlog.typing.EventDict) -> str:
    exception = event.pop("exception", "")
    return f"{event.pop('level')} {event.pop('event')} {event}" + (f"\n{exception}" if exception else "")


# What is logged in the test processes. By default, structlog renders each exception with its variables and source in color: half a second of CPU.
structlog.configure(
    [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.dev.set_exc_info,
        structlog.processors.format_exc_info,
        _render,
    ]
)

if TYPE_CHECKING:
    from tests.prefork import ForkedProcess

# Until the tests are collected: imports make hardly any garbage, and its collector would walk through all that is imported again and again.
gc.disable()

# httpcore tries to import sniffio with each of its locks, and Python would search for it each time: a twentieth of the CPU time of tests.
if find_spec("sniffio") is None:
    sys.modules["sniffio"] = None  # pyright: ignore[reportArgumentType] - "not installed", as the import system remembers it

# On a busy machine PostgreSQL takes longer to answer, and is there nevertheless. Servers that tests stop are asked by processes of their own.
connection_watchdog.PROBE_TIMEOUT = 6.0

# Disable rate limits: the tests of a file together exceed them. Tests of rate limits set their own.
os.environ.update({f"TRELLIS_RATE_LIMIT_{who}": "0" for who in ("ANONYMOUS", "FREE", "PRO", "ENTERPRISE")})

# Operations of most tests are not recorded: rows and statements would come at any time. Tests of what is recorded turn it on.
os.environ["TRELLIS_USAGE_RECORDING"] = "false"

# Servers of tests from which files are imported listen here; all other addresses of this machine are refused, as in production.
os.environ["TRELLIS_IMPORT_ALLOWED_NETWORKS"] = '["127.0.0.2/32"]'
os.environ["TRELLIS_WEBHOOK_ALLOWED_NETWORKS"] = '["127.0.0.4/32"]'
os.environ["TRELLIS_IMPORT_S3_LOCATIONS"] = '["trellis-imports/shared"]'
os.environ["TRELLIS_SECRET_KEY"] = "the secret key of the tests, which is no secret"
# A worker that seals the audit would do so at any time; tests seal it themselves.
# Nor does it run the schedules of tests, or add trials to studies whose trials a test ends itself.
os.environ["TRELLIS_MAINTENANCE_RUN_IMPORT_SCHEDULES"] = "0"
os.environ["TRELLIS_MAINTENANCE_SCHEDULE_STUDIES"] = "0"
os.environ["TRELLIS_MAINTENANCE_SEAL_AUDIT"] = os.environ["TRELLIS_MAINTENANCE_VERIFY_AUDIT"] = "0"

# Step definitions, workers and what ships outlive a test: they belong to the running code, not to anybody's data.
_DELETE_ALL = """
DO $$ DECLARE name text; BEGIN
  PERFORM set_config('session_replication_role', 'replica', true);
  FOR name IN
    SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
      AND c.relname NOT IN ('alembic_version', 'step_definitions', 'workers')
      AND (c.relkind = 'p' OR pg_relation_size(c.oid) > 0)  -- what nothing was ever written to is empty
  LOOP
    EXECUTE format('DELETE FROM %I', name) || CASE name
      WHEN 'users' THEN ' WHERE kind <> ''system'''
      WHEN 'pipelines' THEN ' WHERE owner_id NOT IN (SELECT id FROM users WHERE kind = ''system'')'
      WHEN 'tutorials' THEN ' WHERE owner_id NOT IN (SELECT id FROM users WHERE kind = ''system'')'
      WHEN 'user_counters' THEN ' WHERE owner_id NOT IN (SELECT id FROM users WHERE kind = ''system'')'
      ELSE '' END;
  END LOOP;
END $$"""


def pytest_configure(config: pytest.Config) -> None:
    """Start the servers before the test processes, which inherit their addresses.

    Each test process starts its own Redis: some tests flush it and disconnect all subscribers, and pub/sub channels are shared by all
    databases of a server.
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
    if has_workers:
        from tests.prefork import start_shared_server  # slow import: only the main process pays for it

        config.add_cleanup(start_shared_server(folder).kill)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Import a share of the files first, each test process another one.

    In a new clone, all of them would otherwise compile every file at the same time; so each compiles a share, and finds the others' on the disk.
    """
    worker = getattr(session.config, "workerinput", None)
    folders = [session.config.invocation_params.dir / argument for argument in session.config.args]
    if worker is None or not all(folder.is_dir() for folder in folders):
        return
    files = sorted(path.relative_to(session.config.rootpath) for folder in folders for path in folder.rglob("test_*.py"))
    number, count = int(worker["workerid"].removeprefix("gw")), worker["workercount"]
    for path in files[len(files) * number // count : len(files) * (number + 1) // count]:
        with suppress(Exception):  # the collection says what is wrong with it
            import_module(".".join(path.with_suffix("").parts))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Remember all collected tests before any is deselected."""
    config.stash[COLLECTED_ITEMS] = tuple(items)
    if hasattr(config, "workerinput"):
        sort_longest_first(items)


def pytest_collection_finish() -> None:
    """What the tests have imported stays: hundreds of megabytes, which the garbage collector need not walk through with each full collection."""
    gc.freeze()
    gc.enable()


def _needs_no_shared_servers(config: pytest.Config) -> bool:
    """Return whether all requested tests start servers of their own."""
    paths = [config.invocation_params.dir / argument.partition("::")[0] for argument in config.args]
    return all(path.is_relative_to(Path(__file__).parent / "faults") for path in paths)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Of what a test generates: the same in each run of `make test`, a new one for each exhaustive test. TEST_SEED repeats one."""
    is_exhaustive = request.node.get_closest_marker("exhaustive") is not None
    chosen = int(os.environ.get("TEST_SEED") or (secrets.randbelow(2**32) if is_exhaustive else 1))
    print(f"TEST_SEED={chosen}")
    return chosen


@pytest.fixture(scope="session")
def settings(worker_id: str) -> StateSettings:
    """Settings of this test process's own database, Redis and bucket, with the schema in place.

    They are the ones that the application reads; a test changes them by `monkeypatch` and never reads them anew.
    """
    number = int(worker_id.removeprefix("gw")) if worker_id.startswith("gw") else 15
    with asyncio.Runner() as runner:
        os.environ["TRELLIS_DATABASE_URL"] = runner.run(create_database(os.environ["TRELLIS_DATABASE_URL"], f"trellis_{worker_id}"))
    os.environ["TRELLIS_REDIS_URL"] = os.environ["TRELLIS_REDIS_URL"].rsplit("/", 1)[0] + f"/{number}"
    os.environ["TRELLIS_S3_BUCKET"] = f"trellis-{worker_id}"
    os.environ["TRELLIS_SESSION_REVALIDATION_INTERVAL"] = "1"
    state_settings.cache_clear()
    return state_settings()


@pytest.fixture(scope="session")
async def database(settings: StateSettings) -> AsyncGenerator[Database]:
    """The tests' own connection to the database, beside the API's, which hears at once of the rights that change here."""

    def revalidate(user_ids: Collection[UUID]) -> None:
        if "app" in _live_app:
            _live_app["app"].state.feed.revalidate(user_ids)

    async with Database.open(settings) as opened:
        opened.revalidation_listeners.append(revalidate)
        yield opened


@dataclass(frozen=True)
class LiveServer:
    """A running Trellis at `url`; `token` is the admin's."""

    url: str
    token: str


ADMIN_TOKEN = "the-admin-token-of-the-tests"
# Sent at any time: the uses of tokens are written behind the requests, and a look-up of a token serves a second.
UNRELATED_STATEMENTS = ("last_used_at=now()", "last_active_at=now()", "token_sha256 = $")
PASSWORD_HASH = "$argon2id$v=19$m=19456,t=2,p=1$Wv8WWMccC8z3BJWBD7/SmQ$a5w+7TsCJi4Uxs+c4+Hv51qMcohEZLlF8PaZmxdpflg"
_live_app: dict[str, Starlette] = {}


@pytest.fixture(scope="session")
async def bucket(settings: StateSettings) -> None:
    """The bucket of this test process, which no test removes."""
    async with ObjectStore.open(settings) as objects:
        await objects.ensure_bucket()


@pytest.fixture(scope="session")
async def live_server(settings: StateSettings, database: Database, bucket: None) -> AsyncGenerator[LiveServer]:
    """The real application in a real uvicorn, in this event loop."""
    from server.app import create_app  # slow import: only tests that need it pay for it
    from server.settings import server_settings
    from server.uvicorn_config import build_config

    app = _live_app["app"] = create_app()
    server = uvicorn.Server(build_config(app, server_settings(), port=0, timeout_graceful_shutdown=2))
    server.install_signal_handlers = lambda: None  # pyright: ignore[reportAttributeAccessIssue] - pytest's own handlers stay
    serving = asyncio.create_task(server._serve())  # pyright: ignore[reportPrivateUsage] - `serve` would install signal handlers
    while not server.started:
        await asyncio.sleep(0.01)
        if serving.done():
            serving.result()
    port = server.servers[0].sockets[0].getsockname()[1]
    yield LiveServer(f"http://127.0.0.1:{port}", ADMIN_TOKEN)
    _live_app.clear()
    server.should_exit = True
    await serving


@pytest.fixture(scope="session")
async def worker(
    settings: StateSettings, live_server: LiveServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[ForkedProcess]:
    """One real worker process for the whole session."""
    from tests.prefork import prefork_server  # slow import: only tests that need it pay for it

    log = tmp_path_factory.getbasetemp() / "worker.log"
    process = prefork_server().start([sys.executable, "-m", "server.cli", "worker"], os.environ, log)
    yield process
    process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(process.wait, 60)


async def clean_tables(database: Database) -> None:
    """Delete all rows in any order: with foreign keys disabled that takes milliseconds.

    A worker that still settles a job of the last test locks rows in a different order; PostgreSQL then aborts one of the two as a deadlock.
    """
    for _ in range(5):
        try:
            async with database.engine.begin() as connection:
                await connection.exec_driver_sql(_DELETE_ALL)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != "40P01":
                raise
        else:
            if "app" in _live_app:  # no notice tells it that all users are gone
                _live_app["app"].state.feed.viewers.forget_all()
            return
    raise AssertionError("Something goes on writing to the tables, so that they could not be cleaned.")


@pytest.fixture
async def clean(settings: StateSettings, database: Database) -> None:
    """Delete rows before a test with users, not after, so that a failed test's rows can be inspected."""
    assert state_settings() is settings, (
        "an earlier test of this process read the settings anew, so that changes of `settings` have no effect"
    )
    await clean_tables(database)
    async with database.work(SYSTEM) as work:
        await accounts.ensure_admin(work, "admin@trellis.local", ADMIN_TOKEN)


ClientFactory = Callable[..., Awaitable[Client]]


@pytest.fixture
async def make_client(clean: None, database: Database, live_server: LiveServer) -> AsyncGenerator[ClientFactory]:
    """Create named viewers: `ada = await person("ada")`."""
    async with AsyncExitStack() as stack:

        async def make(name: str, role: UserRole = UserRole.MEMBER) -> Client:
            async with database.work(SYSTEM) as work:
                token = await accounts.add_user(work, f"{name}@example.org", name, name.capitalize(), role)
            client = Client(live_server.url, token)
            stack.push_async_callback(client.close)
            return client

        yield make


@pytest.fixture
async def sign_in(
    clean: None, settings: StateSettings, database: Database, live_server: LiveServer
) -> AsyncGenerator[Callable[[str], Awaitable[Client]]]:
    """Give a user the password `PASSWORD`, and sign them in: `session = await sign_in("ada")`. Failed sign-ins and mails of earlier tests are forgotten."""
    async with connect_redis(settings.redis_url) as redis, AsyncExitStack() as stack:
        keys = [key for kind in ("sign-in", "mail") for key in await redis.keys(f"trellis:bucket:{kind}:*")]
        if keys:
            await redis.delete(*keys)

        async def sign_in(name: str) -> Client:
            async with database.work(SYSTEM) as work:
                await work.run(update(User).where(User.username == name).values(password_hash=PASSWORD_HASH))
            anonymous = Client(live_server.url)
            client = Client(live_server.url, (await anonymous.login(name))["token"])
            await anonymous.close()
            stack.push_async_callback(client.close)
            return client

        yield sign_in


@pytest.fixture
def set_registration(settings: StateSettings, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Set who may register, for the API and the commands of the test: `closed`, as it is by default, `invited` or `open`."""

    def set_registration(value: str) -> None:
        monkeypatch.setattr(settings, "registration", value)
        monkeypatch.setenv("TRELLIS_REGISTRATION", value)

    return set_registration


@pytest.fixture
async def ada(make_client: ClientFactory) -> Client:
    """A MEMBER, who owns most test data."""
    return await make_client("ada")


@pytest.fixture
async def bob(make_client: ClientFactory) -> Client:
    """Another MEMBER, without rights to Ada's rows."""
    return await make_client("bob")


@pytest.fixture
async def reader(make_client: ClientFactory) -> Client:
    """A VIEWER, who has read access only."""
    return await make_client("reader", UserRole.VIEWER)


@pytest.fixture
async def admin(clean: None, live_server: LiveServer) -> AsyncGenerator[Client]:
    """The admin, who sees all rows."""
    client = Client(live_server.url, ADMIN_TOKEN)
    yield client
    await client.close()


@pytest.fixture
async def anonymous(clean: None, live_server: LiveServer) -> AsyncGenerator[Client]:
    """A client without a token."""
    client = Client(live_server.url)
    yield client
    await client.close()


@pytest.fixture
def capture_statements(live_server: LiveServer) -> Generator[Callable[[], Any]]:
    """Collect every SQL statement that this process sends, but for those that come at any time: `with statements() as sent:`."""

    @contextmanager
    def capture() -> Generator[list[str]]:
        sent: list[str] = []

        def record_statement(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
            if not any(part in statement for part in UNRELATED_STATEMENTS):
                sent.append(statement)

        event.listen(Engine, "before_cursor_execute", record_statement)
        try:
            yield sent
        finally:
            event.remove(Engine, "before_cursor_execute", record_statement)

    yield capture
