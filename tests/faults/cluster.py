"""A cluster under test: its own real servers, a proxy before each, and the product's processes behind the proxies."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import psutil

from db.migrations import upgrade
from server.embedded import EmbeddedServers
from server.embedded.processes import Command, ManagedProcess
from server.embedded.service import Service
from tests.faults import hooks
from tests.faults.proxy import Faults, free_port
from tests.prefork import prefork_server

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
SITE = Path(__file__).parent / "site"
START_TIMEOUT = 150.0  # seconds; imports take long on a busy machine
QUICK_SETTINGS: Mapping[str, str] = {
    "TRELLIS_WORKER_LEASE": "2",
    "TRELLIS_WORKER_HEARTBEAT_INTERVAL": "0.4",
    "TRELLIS_WORKER_POLL_INTERVAL": "0.3",
    "TRELLIS_WORKER_DISPATCH_RETRY_INTERVAL": "1",
    "TRELLIS_WORKER_GRACE": "0.5",
    "TRELLIS_WORKER_CANCEL_GRACE": "0.5",
    "TRELLIS_WORKER_BACKOFF_BASE": "0.1",
    "TRELLIS_WORKER_BACKOFF_FACTOR": "1",
    "TRELLIS_WORKER_PRELOAD": "false",
    "TRELLIS_WORKER_SLOTS": "4",
    "TRELLIS_WORKER_LOG_BYTES": str(8 * 1024**2),  # so that a log does not fill the small disk
    "TRELLIS_WORKER_MEMORY_BYTES": str(700 * 1024**2),
    "TRELLIS_SECRET_KEY": "the secret key of a cluster of tests",
    "TRELLIS_WEBHOOK_ALLOWED_NETWORKS": '["127.0.0.4/32"]',
    "TRELLIS_CREDIT_PRICES": '{"PROCESS": 3, "TRAIN": 7}',
}
URL_SETTINGS = {"postgres": "TRELLIS_DATABASE_URL", "redis": "TRELLIS_REDIS_URL", "s3": "TRELLIS_S3_ENDPOINT_URL"}
DISK_BYTES = 48 * 1024**2  # bytes of the disk of bodies


class ProxyProcess:
    """The proxy process, controlled over its standard input."""

    def __init__(self, seed: int, targets: Mapping[str, tuple[str, int]]) -> None:
        links = [{"name": name, "host": host, "port": port, "http": name == "s3"} for name, (host, port) in targets.items()]
        command = [sys.executable, "-m", "tests.faults.proxy", json.dumps({"seed": seed, "links": links})]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.ports: dict[str, int] = json.loads(self._process.stdout.readline())

    def set_faults(self, link: str, faults: Faults | None = None) -> Counter[str]:
        """Replace the faults of a link (postgres, redis or s3); none clears them. Return how often each of the previous ones struck."""
        return self._request({"link": link, "faults": (faults or Faults()).to_dict()})

    def injections(self, link: str) -> Counter[str]:
        """Return how often each of the current faults has struck."""
        return self._request({"link": link})

    def _request(self, request: dict[str, Any]) -> Counter[str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        return Counter(json.loads(self._process.stdout.readline()))

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


class Cluster:
    """A cluster with all its files under `folder`; a context manager that stops everything.

    Enter it in the main thread: child processes die with the thread that started them.
    """

    def __init__(self, folder: Path, seed: int, settings: Mapping[str, str] = QUICK_SETTINGS) -> None:
        self.folder = folder
        self.traces = folder / "traces"
        self.settings = dict(settings)
        self.servers = EmbeddedServers(folder / "servers", durable=False)
        self.up: ManagedProcess | None = None
        self.workers: list[ManagedProcess] = []
        self.apis: dict[str, ManagedProcess] = {}
        self.spare_workers: list[ManagedProcess] = []
        self.urls: list[str] = []
        self._seed = seed
        self._log_count = 0
        self._proxies: list[ProxyProcess] = []
        self.pool: asyncpg.Pool

    def __enter__(self) -> Self:
        self.traces.mkdir(parents=True)
        self._mount_scratch()
        prefork_server()  # it imports while the servers start up
        self.servers.__enter__()
        self.direct_environment = dict(self.servers.environment)
        self.proxies, proxied_environment = self.start_proxies()
        base_environment = {name: value for name, value in os.environ.items() if not name.startswith("TRELLIS_")}
        hook_environment = {"PYTHONPATH": os.pathsep.join([str(SITE), str(ROOT)]), hooks.TRACES: str(self.traces)}
        scratch_environment = {
            "TRELLIS_WORKER_SCRATCH": str(self.folder / "scratch"),
            "TRELLIS_WORKER_BODY_PATHS": json.dumps([str(self.traces)]),
        }
        self.mail_port = free_port()  # where tests that read mails have their server; without one, mails wait
        self.environment = {
            **base_environment,
            **self.direct_environment,
            **proxied_environment,
            **hook_environment,
            **scratch_environment,
            "TRELLIS_SMTP_URL": f"smtp://127.0.0.1:{self.mail_port}",
            **self.settings,
        }
        return self

    def __exit__(self, *_: object) -> None:
        children = [*self.spare_workers, *self.workers, *self.apis.values(), *filter(None, [self.up])]
        for child in children:
            with suppress(ProcessLookupError):
                child.process.send_signal(signal.SIGCONT)
            child.request_stop()
        for child in children:
            child.stop()
        for proxies in self._proxies:
            proxies.stop()
        self.servers.__exit__(None, None, None)
        if self.has_scratch_disk:
            subprocess.run(["umount", "-l", str(self.folder / "scratch")], check=False)

    def _mount_scratch(self) -> None:
        """Mount a disk small enough to be filled; without the right to mount, a file size limit replaces it."""
        scratch = self.folder / "scratch"
        scratch.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "trellis-faults", str(scratch)]
        self.has_scratch_disk = os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
        if not self.has_scratch_disk:
            self.settings["TRELLIS_WORKER_FILE_BYTES"] = str(DISK_BYTES)

    def start_proxies(self) -> tuple[ProxyProcess, dict[str, str]]:
        """Start a proxy before each server; return it and the settings that lead through it. A process may have its own, whose faults hit it alone."""
        proxies = ProxyProcess(
            self._seed, {name: _host_and_port(self.direct_environment[variable]) for name, variable in URL_SETTINGS.items()}
        )
        self._proxies.append(proxies)
        return proxies, {
            variable: _with_port(self.direct_environment[variable], proxies.ports[name]) for name, variable in URL_SETTINGS.items()
        }

    def service(self, name: str) -> Service:
        """Return the service named postgres, valkey or objects."""
        return next(service for service in self.servers.services if service.name == name)

    async def connect(self) -> None:
        """Migrate the database and connect to it, bypassing the proxy. Afterwards all processes can start at once."""
        await asyncio.to_thread(upgrade, self.direct_environment["TRELLIS_DATABASE_URL"])
        self.pool = await asyncpg.create_pool(
            self.direct_environment["TRELLIS_DATABASE_URL"],
            min_size=0,
            max_size=4,
            command_timeout=20,
            statement_cache_size=0,
            reset=_no_reset,
        )

    async def rows(self, query: str, *values: Any) -> list[asyncpg.Record]:
        """Query PostgreSQL, with retries while it restarts."""
        deadline = time.monotonic() + 60
        while True:
            try:
                return await self.pool.fetch(query, *values)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)

    # The product

    def _launch(self, name: str, *arguments: str, **environment: str) -> ManagedProcess:
        self._log_count += 1
        command = Command(
            name=name,
            argv=(sys.executable, "-m", "server.cli", *arguments),
            environment={**self.environment, **environment},
            cwd=str(ROOT),
            log=self.folder / "logs" / f"{self._log_count:03}-{name}.log",
        )
        return ManagedProcess(command) if name == "up" else prefork_server().start_child(command)

    async def start_up(self, workers: int, **environment: str) -> None:
        """Start `trellis up` with its API and `workers` workers."""
        port = free_port()
        data = str(self.folder / "data")
        arguments = ("--data-dir", data, "--port", str(port), "--worker-processes", str(workers))
        self.up = self._launch("up", "up", *arguments, **environment)
        url = f"http://127.0.0.1:{port}"
        await self._wait_ready(url, self.up)
        self.urls.append(url)

    async def start_api(self, **environment: str) -> str:
        """Start a `trellis api` and wait for it; return its URL."""
        url = f"http://127.0.0.1:{free_port()}"
        await self._wait_ready(url, self.launch_api(url, **environment))
        self.urls.append(url)
        return url

    def launch_api(self, url: str, **environment: str) -> ManagedProcess:
        """Start a `trellis api` at an address without waiting for it."""
        self.apis[url] = self._launch("api", "api", "--port", url.rpartition(":")[2], **environment)
        return self.apis[url]

    def launch_worker(self, **environment: str) -> ManagedProcess:
        """Start a `trellis worker` without waiting for it."""
        child = self._launch("worker", "worker", **environment)
        self.workers.append(child)
        return child

    def launch_spare_worker(self, **environment: str) -> ManagedProcess:
        """Start a worker that is exempt from faults of workers."""
        self.spare_workers.append(self._launch("worker", "worker", **environment))
        return self.spare_workers[-1]

    async def start_worker(self, **environment: str) -> ManagedProcess:
        """Start a `trellis worker` and wait until it serves."""
        child = self.launch_worker(**environment)
        await self.wait_serving(child)
        return child

    async def wait_serving(self, worker: ManagedProcess) -> None:
        async def is_registered() -> bool:
            assert worker.exit_code() is None, f"worker {worker.pid} ended before it served"
            return await self._is_registered(worker.pid)

        await eventually(is_registered, START_TIMEOUT, f"the start of worker {worker.pid}")

    async def stop_worker(self, worker: ManagedProcess, within: float = 60.0) -> None:
        """Stop a worker by SIGTERM, which may be slow on a busy machine."""
        worker.request_stop()
        try:
            await asyncio.to_thread(worker.process.wait, within)
        except subprocess.TimeoutExpired:
            worker.process.send_signal(signal.SIGUSR1)
            await asyncio.sleep(1)
            raise
        for worker_list in (self.workers, self.spare_workers):
            if worker in worker_list:
                worker_list.remove(worker)

    async def collect_orphans(self) -> None:
        """Run a worker until it has collected orphaned objects of any age."""
        settings = {"ORPHAN_AGE": "0", "CHORE_COLLECT_ORPHANS": "1", "CHORE_REMOVE_UNREFERENCED": "1"}
        await self.rows("DELETE FROM chores")
        worker = self.launch_spare_worker(**{f"TRELLIS_{name}": value for name, value in settings.items()})

        async def both_ran_twice() -> bool:
            rows = await self.rows("SELECT 1 FROM chores WHERE name IN ('collect_orphans', 'remove_unreferenced') AND runs > 1")
            return len(rows) == 2

        await eventually(both_ran_twice, 60.0, "the collecting of orphans", 0.2)
        await self.stop_worker(worker)

    def kill(self, worker: ManagedProcess) -> None:
        """SIGKILL a worker; it is not restarted."""
        worker.process.kill()
        worker.process.wait()
        self.workers.remove(worker)

    def up_children(self, word: str) -> list[int]:
        """Return the process ids of the `api` or the `worker`s of `trellis up`."""
        if self.up is None:
            return []
        with suppress(psutil.Error):
            children = psutil.Process(self.up.pid).children()
            return [child.pid for child in children if word in _command(child)]
        return []

    def worker_pids(self) -> list[int]:
        """Return the process ids of all live workers."""
        own_pids = [worker.pid for worker in self.workers if worker.exit_code() is None]
        return own_pids + self.up_children("worker")

    @property
    def slots(self) -> int:
        """The slots of each worker."""
        return int(self.settings["TRELLIS_WORKER_SLOTS"])

    @contextmanager
    def freeze(self, *pids: int) -> Generator[None]:
        """Stop these processes (SIGSTOP) during the block."""
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    async def _is_registered(self, pid: int) -> bool:
        return bool(await self.rows("SELECT 1 FROM workers WHERE name LIKE $1", f"%-{pid}-%"))

    async def _wait_ready(self, url: str, child: ManagedProcess) -> None:
        async def ready() -> bool:
            if child.exit_code() is not None:
                raise AssertionError(f"{child.command.name} ended with {child.exit_code()}: {child.log_tail()}")
            try:
                return (await client.get(f"{url}/readyz")).status_code == 200
            except httpx.HTTPError:
                return False

        async with httpx.AsyncClient(timeout=5, verify=False) as client:
            await eventually(ready, START_TIMEOUT)

    async def wait_apis(self) -> None:
        """Wait until every API answers, those that were killed too."""

        async def all_answer() -> bool:
            try:
                return all([(await client.get(f"{url}/readyz")).status_code == 200 for url in self.urls])
            except httpx.HTTPError:
                return False

        async with httpx.AsyncClient(timeout=5, verify=False) as client:
            await eventually(all_answer, START_TIMEOUT, "an answer of each API")

    # The servers

    async def restart_server(self, name: str, signal_number: signal.Signals | None = None, pause: float = 0.0) -> None:
        """Stop a server, by `signal_number` if given, and restart it at the same address."""
        await self.stop_server(name, signal_number)
        await asyncio.sleep(pause)
        await self.start_server(name)

    async def stop_server(self, name: str, signal_number: signal.Signals | None = None) -> None:
        service = self.service(name)
        assert service.child is not None
        if signal_number is not None:
            service.child.process.send_signal(signal_number)
            await asyncio.to_thread(service.child.process.wait, 60)
        await asyncio.to_thread(service.stop)

    async def start_server(self, name: str) -> None:
        service = self.service(name)
        service.launch()  # in this thread, with which the server dies
        await asyncio.to_thread(service.wait)


async def _no_reset(_connection: object) -> None:
    """Skip asyncpg's reset of a connection, four statements for each of ours: no session state outlives our transactions."""


async def eventually(
    probe: Callable[[], Awaitable[T]], within: float = 60.0, description: str = "what was waited for", interval: float = 0.03
) -> T:
    """Return the first truthy result of `probe`."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if answer := await probe():
            return answer
        await asyncio.sleep(interval)
    raise AssertionError(f"{description} did not happen within {within} s")


def _host_and_port(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def _with_port(url: str, port: int) -> str:
    parts = urlsplit(url)
    host_prefix, _, _ = parts.netloc.rpartition(":")
    return urlunsplit(parts._replace(netloc=f"{host_prefix}:{port}"))


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
