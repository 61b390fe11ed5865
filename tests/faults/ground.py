"""Real servers of the harness's own, a proxy before each, and the product's processes between the proxies and us."""

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
from server.embedded.children import Child, Command
from server.embedded.service import Service
from tests.births import Births
from tests.faults import hooks
from tests.faults.proxy import Faults, free_port

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
SITE = Path(__file__).parent / "site"
START = 150.0  # seconds; a machine that does much else takes long over the imports
QUICK: Mapping[str, str] = {
    "TRELLIS_WORKER_LEASE": "2",
    "TRELLIS_WORKER_PULSE": "0.4",
    "TRELLIS_WORKER_LOOK": "0.3",
    "TRELLIS_WORKER_RING_AGAIN": "1",
    "TRELLIS_WORKER_GRACE": "0.5",
    "TRELLIS_WORKER_CANCEL_PATIENCE": "0.5",
    "TRELLIS_WORKER_BACKOFF_BASE": "0.1",
    "TRELLIS_WORKER_BACKOFF_FACTOR": "1",
    "TRELLIS_WORKER_PRELOAD": "false",
    "TRELLIS_WORKER_SLOTS": "4",
    "TRELLIS_WORKER_LOG_BYTES": str(8 * 1024**2),  # so that a log does not fill the small disk
    "TRELLIS_WORKER_MEMORY_BYTES": str(700 * 1024**2),
    "TRELLIS_CREDIT_PRICES": '{"PROCESS": 3, "TRAIN": 7}',
}
ADDRESSES = {"postgres": "TRELLIS_DATABASE_URL", "redis": "TRELLIS_REDIS_URL", "s3": "TRELLIS_S3_ENDPOINT_URL"}
DISK = 48 * 1024**2  # bytes of the disk that bodies have


class Proxies:
    """The process of `proxy`, told what to do over its standard input."""

    def __init__(self, seed: int, targets: Mapping[str, tuple[str, int]]) -> None:
        links = [{"name": name, "host": host, "port": port, "http": name == "s3"} for name, (host, port) in targets.items()]
        command = [sys.executable, "-m", "tests.faults.proxy", json.dumps({"seed": seed, "links": links})]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.ports: dict[str, int] = json.loads(self._process.stdout.readline())

    def set(self, link: str, faults: Faults | None = None) -> Counter[str]:
        """Postgres, Redis or S3: from here on these faults; none when not given. How often each of those before it struck."""
        return self._say({"link": link, "faults": (faults or Faults()).document()})

    def struck(self, link: str) -> Counter[str]:
        """How often each of the faults that are set now has struck."""
        return self._say({"link": link})

    def _say(self, order: dict[str, Any]) -> Counter[str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        return Counter(json.loads(self._process.stdout.readline()))

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(5)


class Ground:
    """Everything under `folder`; a context manager that leaves nothing running. Enter it in the main thread, where children are tied to."""

    def __init__(self, folder: Path, seed: int, settings: Mapping[str, str] = QUICK) -> None:
        self.folder = folder
        self.traces = folder / "traces"
        self.settings = dict(settings)
        self.servers = EmbeddedServers(folder / "servers", durable=False)
        self.up: Child | None = None
        self.workers: list[Child] = []
        self.apis: dict[str, Child] = {}
        self.aside: list[Child] = []
        self.urls: list[str] = []
        self._seed = seed
        self._logs = 0
        self._proxies: list[Proxies] = []
        self._births: Births
        self.pool: asyncpg.Pool

    def __enter__(self) -> Self:
        self.traces.mkdir(parents=True)
        self._mount_scratch()
        self._births = Births()  # it imports while the servers start
        self.servers.__enter__()
        self.straight = dict(self.servers.environment)
        self.proxies, through = self.proxied()
        own = {name: value for name, value in os.environ.items() if not name.startswith("TRELLIS_")}
        path = {"PYTHONPATH": os.pathsep.join([str(SITE), str(ROOT)]), hooks.TRACES: str(self.traces)}
        scratch = {"TRELLIS_WORKER_SCRATCH": str(self.folder / "scratch")}
        self.environment = {**own, **self.straight, **through, **path, **scratch, **self.settings}
        return self

    def __exit__(self, *_: object) -> None:
        children = [*self.aside, *self.workers, *self.apis.values(), *filter(None, [self.up])]
        for child in children:
            with suppress(ProcessLookupError):
                child.process.send_signal(signal.SIGCONT)
            child.ask_to_stop()
        for child in children:
            child.stop()
        self._births.stop()
        for proxies in self._proxies:
            proxies.stop()
        self.servers.__exit__(None, None, None)
        if self.disk:
            subprocess.run(["umount", "-l", str(self.folder / "scratch")], check=False)

    def _mount_scratch(self) -> None:
        """A disk of its own, small enough to be filled; where we may not mount one, a limit on files fills it."""
        scratch = self.folder / "scratch"
        scratch.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=0700", "trellis-faults", str(scratch)]
        self.disk = os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
        if not self.disk:
            self.settings["TRELLIS_WORKER_FILE_BYTES"] = str(DISK)

    def proxied(self) -> tuple[Proxies, dict[str, str]]:
        """A proxy before each server, and the settings that lead through them. A process may have its own: what they do nobody else feels."""
        proxies = Proxies(self._seed, {name: _address(self.straight[variable]) for name, variable in ADDRESSES.items()})
        self._proxies.append(proxies)
        return proxies, {variable: _moved(self.straight[variable], proxies.ports[name]) for name, variable in ADDRESSES.items()}

    def service(self, name: str) -> Service:
        """postgres, valkey or objects."""
        return next(service for service in self.servers.services if service.name == name)

    async def connect(self) -> None:
        """Our own way to the database, past the proxy. The schema is made here, so that all may start at once."""
        await asyncio.to_thread(upgrade, self.straight["TRELLIS_DATABASE_URL"])
        self.pool = await asyncpg.create_pool(
            self.straight["TRELLIS_DATABASE_URL"], min_size=0, max_size=4, command_timeout=20, statement_cache_size=0, reset=_as_it_is
        )

    async def rows(self, query: str, *values: Any) -> list[asyncpg.Record]:
        """What Postgres says, however often it has to be asked while it restarts."""
        until = time.monotonic() + 30
        while True:
            try:
                return await self.pool.fetch(query, *values)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.1)

    # The product

    def _launch(self, name: str, *arguments: str, **environment: str) -> Child:
        self._logs += 1
        command = Command(
            name=name,
            argv=(sys.executable, "-m", "server.cli", *arguments),
            environment={**self.environment, **environment},
            folder=str(ROOT),
            log=self.folder / "logs" / f"{self._logs:03}-{name}.log",
        )
        return Child(command) if name == "up" else self._births.child(command)

    async def start_up(self, workers: int, **environment: str) -> None:
        """`trellis up`, with its API and so many workers."""
        port = free_port()
        data = str(self.folder / "data")
        arguments = ("--data-dir", data, "--port", str(port), "--worker-processes", str(workers))
        self.up = self._launch("up", "up", *arguments, **environment)
        url = f"http://127.0.0.1:{port}"
        await self._answers(url, self.up)
        self.urls.append(url)

    async def start_api(self, **environment: str) -> str:
        """`trellis api` of its own; its URL."""
        url = f"http://127.0.0.1:{free_port()}"
        await self._answers(url, self.launch_api(url, **environment))
        self.urls.append(url)
        return url

    def launch_api(self, url: str, **environment: str) -> Child:
        """The same at an address, not waited for."""
        self.apis[url] = self._launch("api", "api", "--port", url.rpartition(":")[2], **environment)
        return self.apis[url]

    def launch_worker(self, **environment: str) -> Child:
        """`trellis worker`, not waited for."""
        child = self._launch("worker", "worker", **environment)
        self.workers.append(child)
        return child

    def launch_aside(self, **environment: str) -> Child:
        """One that takes no part in what is done to workers."""
        self.aside.append(self._launch("worker", "worker", **environment))
        return self.aside[-1]

    async def start_worker(self, **environment: str) -> Child:
        """`trellis worker`, once it serves."""
        child = self.launch_worker(**environment)
        await self.serves(child)
        return child

    async def serves(self, worker: Child) -> None:
        async def there() -> bool:
            assert worker.exit_code() is None, f"worker {worker.pid} ended before it served"
            return await self._registered(worker.pid)

        await until(there, START, f"the start of worker {worker.pid}")

    async def stop_worker(self, worker: Child, within: float = 60.0) -> None:
        """By SIGTERM, which it obeys; a machine that is busy may make that slow."""
        worker.ask_to_stop()
        try:
            await asyncio.to_thread(worker.process.wait, within)
        except subprocess.TimeoutExpired:
            worker.process.send_signal(signal.SIGUSR1)
            await asyncio.sleep(1)
            raise
        for kept in (self.workers, self.aside):
            if worker in kept:
                kept.remove(worker)

    async def collect(self) -> None:
        """Return when a worker has walked through the store for what belongs to nobody, as old as it may be now; it is gone again then."""
        at_once = {"ORPHAN_AGE": "0", "CHORE_COLLECT_ORPHANS": "1", "CHORE_REMOVE_UNREFERENCED": "1"}
        await self.rows("DELETE FROM chores")
        worker = self.launch_aside(**{f"TRELLIS_{name}": value for name, value in at_once.items()})

        async def twice() -> bool:
            rows = await self.rows("SELECT 1 FROM chores WHERE name IN ('collect_orphans', 'remove_unreferenced') AND runs > 1")
            return len(rows) == 2

        await until(twice, 60.0, "the collecting of orphans", 0.2)
        await self.stop_worker(worker)

    def kill(self, worker: Child) -> None:
        """At once; it is not started again."""
        worker.process.kill()
        worker.process.wait()
        self.workers.remove(worker)

    def up_children(self, word: str) -> list[int]:
        """Process ids of the `api` or the `worker`s that `trellis up` keeps."""
        if self.up is None:
            return []
        with suppress(psutil.Error):
            children = psutil.Process(self.up.pid).children()
            return [child.pid for child in children if word in _command(child)]
        return []

    def worker_pids(self) -> list[int]:
        """Of all workers that live now."""
        own = [worker.pid for worker in self.workers if worker.exit_code() is None]
        return own + self.up_children("worker")

    @property
    def slots(self) -> int:
        """Of each worker."""
        return int(self.settings["TRELLIS_WORKER_SLOTS"])

    @contextmanager
    def frozen(self, *pids: int) -> Generator[None]:
        """These processes stand still for as long as the block lasts."""
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    async def _registered(self, pid: int) -> bool:
        return bool(await self.rows("SELECT 1 FROM workers WHERE name LIKE $1", f"%-{pid}-%"))

    async def _answers(self, url: str, child: Child) -> None:
        async def ready() -> bool:
            if child.exit_code() is not None:
                raise AssertionError(f"{child.command.name} ended with {child.exit_code()}: {child.log_tail()}")
            try:
                return (await client.get(f"{url}/readyz")).status_code == 200
            except httpx.HTTPError:
                return False

        async with httpx.AsyncClient(timeout=5) as client:
            await until(ready, START)

    # The servers

    async def restart(self, name: str, sign: signal.Signals | None = None, pause: float = 0.0) -> None:
        """Stop a server (`sign` instead of its usual way) and start it again at its address."""
        await self.stop_server(name, sign)
        await asyncio.sleep(pause)
        await self.start_server(name)

    async def stop_server(self, name: str, sign: signal.Signals | None = None) -> None:
        service = self.service(name)
        assert service.child is not None
        if sign is not None:
            service.child.process.send_signal(sign)
            await asyncio.to_thread(service.child.process.wait, 20)
        await asyncio.to_thread(service.stop)

    async def start_server(self, name: str) -> None:
        service = self.service(name)
        service.launch()  # in this thread, whose end is to be the server's end
        await asyncio.to_thread(service.wait)


async def _as_it_is(_connection: object) -> None:
    """Nothing we do outlives its transaction, and what usually cleans up after it is four statements to each of ours."""


async def until(look: Callable[[], Awaitable[T]], within: float = 20.0, what: str = "what was waited for", every: float = 0.03) -> T:
    """The first answer that says something."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if answer := await look():
            return answer
        await asyncio.sleep(every)
    raise AssertionError(f"{what} did not happen within {within} s")


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def _moved(url: str, port: int) -> str:
    parts = urlsplit(url)
    before, _, _ = parts.netloc.rpartition(":")
    return urlunsplit(parts._replace(netloc=f"{before}:{port}"))


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
