"""A deployment to measure: embedded servers, a migrated database with an admin, and API processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.migrations import upgrade
from db.services import accounts
from db.settings import StateSettings, state_settings
from server.embedded import embedded_servers

TOKEN = "the-token-of-the-benchmarks"
UNLIMITED = {
    f"TRELLIS_RATE_LIMIT_{who}": "0" for who in ("ANONYMOUS", "FREE", "PRO", "ENTERPRISE")
}  # one viewer sends the requests of thousands


@contextmanager
def servers() -> Generator[None]:
    """Start real servers in a scratch folder; the environment has their settings during the block."""
    with (
        tempfile.TemporaryDirectory(prefix="trellis-bench-", ignore_cleanup_errors=True) as folder,
        embedded_servers(Path(folder)) as environment,
    ):
        os.environ.update(environment)
        os.environ.update(UNLIMITED)
        os.environ["TRELLIS_LOG_FORMAT"] = "json"  # as the image has it
        state_settings.cache_clear()
        upgrade(environment["TRELLIS_DATABASE_URL"])
        yield


@asynccontextmanager
async def database() -> AsyncGenerator[Database]:
    """A database with an admin whose token is `TOKEN`."""
    async with Database.open(StateSettings(), statement_timeout=0) as database_:
        async with database_.work(SYSTEM) as work:
            await accounts.ensure_admin(work, "admin@trellis.local", TOKEN)
        yield database_


@contextmanager
def run_process(*command: str, **environment: str) -> Generator[subprocess.Popen[bytes]]:
    """A child process of Python that ends with the block; its output is discarded."""
    with run_command([sys.executable, "-m", *command], {**os.environ, **environment}) as child:
        yield child


@contextmanager
def run_command(command: Sequence[str], environment: Mapping[str, str]) -> Generator[subprocess.Popen[bytes]]:
    """A child process that ends with the block; its output is discarded."""
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield child
    finally:
        child.terminate()
        child.wait(20)


@contextmanager
def api(application: str, *options: str) -> Generator[str]:
    """Serve `application` in a uvicorn process; yield its URL."""
    with uvicorn_app(application, *options) as (url, _):
        yield url


@contextmanager
def trellis_api() -> Generator[tuple[str, int]]:
    """Run an API process as in production; yield its URL and process id."""
    with _http_process("server.cli", "api", "--host", "127.0.0.1") as url_and_pid:
        yield url_and_pid


@contextmanager
def uvicorn_app(application: str, *options: str, **environment: str) -> Generator[tuple[str, int]]:
    """Serve `application` in a uvicorn process; yield its URL and process id."""
    with _http_process("uvicorn", application, *options, "--log-level", "critical", "--no-access-log", **environment) as url_and_pid:
        yield url_and_pid


@contextmanager
def _http_process(*command: str, **environment: str) -> Generator[tuple[str, int]]:
    port = free_port()
    with run_process(*command, "--port", str(port), **environment) as child:
        url = f"http://127.0.0.1:{port}"
        wait_until_served(url)
        yield url, child.pid


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_served(url: str) -> None:
    """Wait until the address takes a request."""
    for _ in range(300):
        try:
            httpx.post(f"{url}/graphql", json={"query": "{ __typename }"}, headers={"authorization": f"Bearer {TOKEN}"})
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"Nothing answers at {url}.")
