"""The faults: each is injected while jobs run, and undone where a real one would end."""

from __future__ import annotations

import asyncio
import inspect
import os
import random
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import TypeVar
from uuid import UUID

import psutil
import redis.asyncio as redis_client

from db.stores import queue
from server.embedded import ManagedProcess
from tests.faults import hooks
from tests.faults.cluster import Cluster, eventually
from tests.faults.proxy import Faults
from tests.faults.traces import Execution, executions
from tests.faults.workload import Submission, Workload

T = TypeVar("T")
LINKS = ("postgres", "redis", "s3")
ALL_LINK_FAULTS = ("delay_connections", "drop_connections", "half_close_connections")
SINGLE_LINK_FAULTS = ("stall_connection", "refuse_connections")  # on one link only, since few requests would reach the others
PIECE_PROBABILITY: Mapping[str, float] = {"postgres": 0.02, "redis": 0.05, "s3": 0.15}  # for each chunk; some links pass few
INJECTION_TIMEOUT = 20.0  # seconds within which a network fault must strike


class FaultInjector:
    """Every public coroutine without arguments is a kind of fault, listed by `fault_kinds`. It returns False if it had no target."""

    def __init__(self, cluster: Cluster, workload: Workload, rng: random.Random) -> None:
        self._cluster = cluster
        self._workload = workload
        self._random = rng
        self.lease = float(cluster.settings.get("TRELLIS_WORKER_LEASE", 10.0))

    # Processes

    async def kill_worker(self) -> bool:
        """SIGKILL a worker; its supervisor starts another."""
        own_workers = [worker for worker in self._cluster.workers if worker.exit_code() is None]
        supervised_pids = self._cluster.up_children("worker")
        if supervised_pids and self._random.random() < 1 / (len(own_workers) + len(supervised_pids)):
            _send(self._random.choice(supervised_pids), signal.SIGKILL)
        elif own_workers:
            self._cluster.kill(self._random.choice(own_workers))
            self._cluster.launch_worker()
        return bool(own_workers or supervised_pids)

    async def roll_worker(self) -> bool:
        """Deploy: SIGTERM a worker and start another."""
        own_workers = [worker for worker in self._cluster.workers if worker.exit_code() is None]
        if own_workers:
            worker = self._random.choice(own_workers)
            self._cluster.launch_worker()
            await self._cluster.stop_worker(worker)
        return bool(own_workers)

    async def kill_forkserver(self) -> bool:
        """SIGKILL a forkserver, which counts as a loss for its jobs."""
        for pid in self._shuffled(self._cluster.worker_pids()):
            forkserver = self.forkserver_of(pid)
            if forkserver is not None:
                return _send(forkserver.pid, signal.SIGKILL)
        return False

    async def kill_body(self) -> bool:
        """SIGKILL a body of a job without used tries, since a job has three."""
        body = await self.running_body()
        return body is not None and _send(body.pid, signal.SIGKILL)

    async def kill_held(self, *job_ids: UUID) -> None:
        """SIGKILL the bodies of these jobs that wait for it (`bodies.HOLD`)."""
        for body in self._held(job_ids):
            _send(body.pid, signal.SIGKILL)

    async def kill_workers_of(self, *job_ids: UUID) -> None:
        """SIGKILL the workers that have bodies of these jobs which wait for it, and start others for those that nobody supervises."""
        ancestors: set[int] = set()
        for body in self._held(job_ids):
            with suppress(psutil.Error):
                ancestors |= {process.pid for process in psutil.Process(body.pid).parents()}
        for pid in ancestors & set(self._cluster.up_children("worker")):
            _send(pid, signal.SIGKILL)
        for worker in [each for each in self._cluster.workers if each.pid in ancestors and each.exit_code() is None]:
            self._cluster.kill(worker)
            self._cluster.launch_worker()

    def _held(self, job_ids: Sequence[UUID]) -> list[Execution]:
        return [
            each
            for each in executions(self._cluster.traces)
            if each.is_held and each.job in job_ids and each.ended is None and psutil.pid_exists(each.pid)
        ]

    async def kill_api(self) -> bool:
        """SIGKILL an API process; its supervisor restarts it."""
        supervised_pids = self._cluster.up_children("api")
        own_urls = list(self._cluster.apis)
        if own_urls and (not supervised_pids or self._random.random() < 0.5):
            url = self._random.choice(own_urls)
            self._cluster.apis[url].process.kill()
            self._cluster.apis[url].process.wait()
            self._cluster.launch_api(url)
        elif supervised_pids:
            _send(self._random.choice(supervised_pids), signal.SIGKILL)
        return bool(own_urls or supervised_pids)

    async def freeze_worker(self) -> bool:
        """SIGSTOP a worker for longer than a lease, then SIGCONT."""
        return await self._freeze(self._random.choice(self._cluster.worker_pids() or [0]), self.lease * 1.4)

    async def freeze_forkserver(self) -> bool:
        """SIGSTOP a forkserver for a while; its worker lives."""
        forkserver = self.forkserver_of(self._random.choice(self._cluster.worker_pids() or [0]))
        return forkserver is not None and await self._freeze(forkserver.pid, self.lease * 0.8)

    async def _freeze(self, pid: int, seconds: float) -> bool:
        if not _send(pid, signal.SIGSTOP):
            return False
        try:
            await asyncio.sleep(seconds)
        finally:
            _send(pid, signal.SIGCONT)
        return True

    # Servers

    async def wipe_redis(self) -> bool:
        """FLUSHALL."""
        with suppress(redis_client.RedisError, OSError):
            async with redis_client.Redis.from_url(self._cluster.direct_environment["TRELLIS_REDIS_URL"]) as client:
                await client.flushall()
                return True
        return False

    async def restart_redis(self) -> bool:
        """Stop Redis for a while; it restarts empty."""
        await self._cluster.restart_server("valkey", pause=self._random.uniform(0.2, 2.0))
        return True

    async def crash_redis(self) -> bool:
        """SIGKILL Redis; it restarts empty at once."""
        await self._cluster.restart_server("valkey", signal.SIGKILL)
        return True

    async def restart_postgres(self) -> bool:
        """Shut PostgreSQL down in fast mode and restart it."""
        await self._cluster.restart_server("postgres")
        return True

    async def crash_postgres(self) -> bool:
        """Shut PostgreSQL down in immediate mode; it recovers at its restart."""
        await self._cluster.restart_server("postgres", signal.SIGQUIT, pause=self._random.uniform(0.0, 0.5))
        return True

    async def kill_backend(self) -> bool:
        """SIGKILL one backend: PostgreSQL terminates all others and recovers."""
        rows = await self._cluster.rows("SELECT pid FROM pg_stat_activity WHERE application_name = 'trellis' ORDER BY pid")
        return bool(rows) and _send(self._random.choice(rows)["pid"], signal.SIGKILL)

    # Network, on the named links

    async def drop_connections(self, *links: str) -> bool:
        """Break some of the connections."""
        return await self._inject_network_faults({link: Faults(drop=PIECE_PROBABILITY[link]) for link in links or LINKS})

    async def delay_connections(self, *links: str) -> bool:
        return await self._inject_network_faults(dict.fromkeys(links or LINKS, Faults(delay=0.03)))

    async def half_close_connections(self, *links: str) -> bool:
        """Close one direction of connections."""
        return await self._inject_network_faults({link: Faults(half_close=PIECE_PROBABILITY[link]) for link in links or LINKS})

    async def stall_connection(self, *links: str) -> bool:
        """Block all traffic without closing connections, for less than a lease."""
        return await self._inject_network_faults(
            dict.fromkeys(links or self._random.sample(LINKS, 1), Faults(stall=True)), self.lease * 0.6
        )

    async def refuse_connections(self, *links: str) -> bool:
        """Cut all connections and refuse new ones."""
        return await self._inject_network_faults(dict.fromkeys(links or self._random.sample(LINKS, 1), Faults(refuse=True)))

    async def partition_postgres(self) -> bool:
        """Cut all processes off from PostgreSQL for longer than a lease."""
        return await self._inject_network_faults({"postgres": Faults(stall=True)}, self.lease * 1.3)

    async def store_answers_errors(self) -> bool:
        return await self._inject_network_faults({"s3": Faults(error=0.5)})

    async def store_hangs(self) -> bool:
        return await self._inject_network_faults({"s3": Faults(hang=0.3)})

    async def store_cuts_transfers(self) -> bool:
        return await self._inject_network_faults({"s3": Faults(cut=0.3)})

    async def store_loses_answers(self) -> bool:
        """S3 executes requests and the responses are lost."""
        return await self._inject_network_faults({"s3": Faults(lose=0.3)})

    async def _inject_network_faults(self, faults: Mapping[str, Faults], seconds: float = 0.6) -> bool:
        """Keep the faults for `seconds`, longer until each has struck on its link. Return False if one never did."""
        proxies = self._cluster.proxies

        async def all_injected() -> bool:
            return all(proxies.injections(link)[name] for link, harm in faults.items() for name in harm.active_names())

        for link, link_faults in faults.items():
            proxies.set_faults(link, link_faults)
        try:
            await asyncio.sleep(seconds)
            await eventually(all_injected, INJECTION_TIMEOUT, interval=0.05)
        except AssertionError:
            return False
        finally:
            for link in faults:
                proxies.set_faults(link)
        return True

    # Dispatch and clocks

    async def dispatch_twice(self) -> bool:
        """Send dispatch notices for all jobs in any state, for some of them twice."""
        rows = await self._cluster.rows("SELECT id, queue, dispatch_no FROM jobs ORDER BY updated_at DESC LIMIT 50")
        client = queue.connect(self._cluster.direct_environment["TRELLIS_REDIS_URL"])
        with suppress(redis_client.RedisError, OSError):
            for row in rows:
                numbers = [row["dispatch_no"], 1000 + self._random.randrange(1000)]
                await queue.enqueue(client, row["queue"], [(row["id"], number) for number in numbers])
            await client.aclose()
            return bool(rows)
        return False

    async def shift_clock(self) -> bool:
        """Start a worker whose clock is 90 s off and wait for it to complete a job; stop one of the others."""
        own_workers = [worker for worker in self._cluster.workers if worker.exit_code() is None]
        worker = self._cluster.launch_worker(**{hooks.CLOCK_SHIFT: self._random.choice(["90", "-90"])})
        completed = await self.completes_a_job(worker)
        if own_workers and worker.exit_code() is None and own_workers[0] in self._cluster.workers:
            await self._cluster.stop_worker(own_workers[0])
        return completed

    async def completes_a_job(self, worker: ManagedProcess, seconds: float = 0.05) -> bool:
        """Submit jobs of `seconds` until the worker claims one; return whether it completes it."""
        job_ids: list[UUID] = []

        async def is_done() -> bool:
            query = "SELECT outcome FROM job_attempts WHERE job_id = ANY($1) AND worker LIKE $2"
            outcomes = {row["outcome"] for row in await self._cluster.rows(query, job_ids, f"%-{worker.pid}-%")}
            if not outcomes & {None, "completed"} and worker.exit_code() is None:
                job_ids.append((await self._workload.submit_script(f"nap {seconds:g}", priority=10)).job)
            return "completed" in outcomes or worker.exit_code() is not None

        with suppress(AssertionError):
            await self._cluster.wait_serving(worker)  # another fault may hit it first
            await eventually(is_done, 60.0, interval=0.1)
            return worker.exit_code() is None
        return False

    # A targeted fault

    async def late_result(self, first: int, script: str = "linger 0.8 2.0") -> Submission:
        """Freeze the worker `first` of a job until another worker has started the job.

        Then thaw it, with a result to settle if its body has ended.
        """
        others = [pid for pid in self._cluster.worker_pids() if pid != first]

        def has_begun(attempt: int) -> Callable[[], Awaitable[bool]]:
            async def begun() -> bool:
                return any((each.job, each.attempt) == (job.job, attempt) for each in executions(self._cluster.traces))

            return begun

        with ExitStack() as thaw_stack:
            with self._cluster.freeze(*others):
                job = await self._workload.submit_script(script)
                await eventually(has_begun(1))
                thaw_stack.enter_context(self._cluster.freeze(first))
            await eventually(has_begun(2))
        return job

    # Targets

    def forkserver_of(self, worker: int) -> psutil.Process | None:
        with suppress(psutil.Error):
            return next(iter(psutil.Process(worker).children()), None)
        return None

    async def running_body(self) -> Execution | None:
        """Return a running body of a job without used tries."""
        running = [each for each in executions(self._cluster.traces) if each.ended is None and psutil.pid_exists(each.pid)]
        without_tries = "SELECT id FROM jobs WHERE id = ANY($1) AND status = 'running' AND tries = 0"
        eligible = {row["id"] for row in await self._cluster.rows(without_tries, [each.job for each in running])}
        return next((each for each in self._shuffled(running) if each.job in eligible), None)

    def _shuffled(self, things: list[T]) -> list[T]:
        return self._random.sample(things, len(things))


def fault_kinds() -> dict[str, Callable[[FaultInjector], Awaitable[bool]]]:
    """The kinds of faults by name, in the order of their definition."""
    excluded = {"running_body", "late_result", "completes_a_job", "kill_held", "kill_workers_of"}
    return {
        name: kind
        for name, kind in vars(FaultInjector).items()
        if inspect.iscoroutinefunction(kind) and name[0] != "_" and name not in excluded
    }


def _send(pid: int, signal_number: signal.Signals) -> bool:
    """Send a signal; False if the process has died."""
    if pid <= 1:
        return False
    try:
        os.kill(pid, signal_number)
    except ProcessLookupError:
        return False
    return True
