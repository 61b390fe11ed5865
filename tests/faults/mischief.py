"""The faults: each does its harm, and heals it where the world would, while jobs run."""

from __future__ import annotations

import asyncio
import inspect
import os
import random
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack, suppress
from typing import TypeVar
from uuid import UUID

import psutil
import redis.asyncio as redis_client

from db.stores import queue
from server.embedded import Child
from tests.faults import hooks
from tests.faults.crowd import Crowd, Submit
from tests.faults.ground import Ground, until
from tests.faults.proxy import Faults
from tests.faults.traces import Execution, executions

T = TypeVar("T")
LINKS = ("postgres", "redis", "s3")
ON_ALL_LINKS = ("delay_connections", "drop_connections", "half_close_connections")
ON_A_LINK = ("stall_connection", "refuse_connections")  # where one does so, few get as far as the others
SOME: Mapping[str, float] = {"postgres": 0.02, "redis": 0.05, "s3": 0.15}  # of the pieces that pass: on some links few do
STRIKES = 20.0  # seconds in which a fault of the network finds somebody to strike


class Mischief:
    """Every public coroutine without arguments is a kind of fault; `kinds` names them. It answers False where there was nothing to harm."""

    def __init__(self, ground: Ground, crowd: Crowd, chance: random.Random) -> None:
        self._ground = ground
        self._crowd = crowd
        self._random = chance
        self.lease = float(ground.settings.get("TRELLIS_WORKER_LEASE", 10.0))

    # Processes

    async def kill_worker(self) -> bool:
        """kill -9; whoever keeps workers starts another."""
        own = [worker for worker in self._ground.workers if worker.exit_code() is None]
        ups = self._ground.up_children("worker")
        if ups and self._random.random() < 1 / (len(own) + len(ups)):
            _send(self._random.choice(ups), signal.SIGKILL)
        elif own:
            self._ground.kill(self._random.choice(own))
            self._ground.launch_worker()
        return bool(own or ups)

    async def roll_worker(self) -> bool:
        """A deploy: SIGTERM, and another in its place."""
        own = [worker for worker in self._ground.workers if worker.exit_code() is None]
        if own:
            worker = self._random.choice(own)
            self._ground.launch_worker()
            await self._ground.stop_worker(worker)
        return bool(own)

    async def kill_nursery(self) -> bool:
        """kill -9 of the process between a worker and its bodies, which is a loss of their jobs."""
        for pid in self._shuffled(self._ground.worker_pids()):
            nursery = self.nursery(pid)
            if nursery is not None:
                return _send(nursery.pid, signal.SIGKILL)
        return False

    async def kill_child(self) -> bool:
        """kill -9 of a body; of one that has used no try yet, for three tries are all a job has."""
        found = await self.running_body()
        return found is not None and _send(found.pid, signal.SIGKILL)

    async def kill_api(self) -> bool:
        """kill -9 of an API process; whoever keeps it starts it again."""
        ups = self._ground.up_children("api")
        own = list(self._ground.apis)
        if own and (not ups or self._random.random() < 0.5):
            url = self._random.choice(own)
            self._ground.apis[url].process.kill()
            self._ground.apis[url].process.wait()
            self._ground.launch_api(url)
        elif ups:
            _send(self._random.choice(ups), signal.SIGKILL)
        return bool(own or ups)

    async def freeze_worker(self) -> bool:
        """SIGSTOP for longer than a lease, then SIGCONT."""
        return await self._freeze(self._random.choice(self._ground.worker_pids() or [0]), self.lease * 1.4)

    async def freeze_nursery(self) -> bool:
        """The supervisor of the bodies stands still for a while; its worker lives."""
        nursery = self.nursery(self._random.choice(self._ground.worker_pids() or [0]))
        return nursery is not None and await self._freeze(nursery.pid, self.lease * 0.8)

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
            async with redis_client.Redis.from_url(self._ground.straight["TRELLIS_REDIS_URL"]) as client:
                await client.flushall()
                return True
        return False

    async def restart_redis(self) -> bool:
        """Stopped for a while; it comes back empty."""
        await self._ground.restart("valkey", pause=self._random.uniform(0.2, 2.0))
        return True

    async def crash_redis(self) -> bool:
        """kill -9; it comes back empty at once."""
        await self._ground.restart("valkey", signal.SIGKILL)
        return True

    async def restart_postgres(self) -> bool:
        """A fast shutdown, and a start."""
        await self._ground.restart("postgres")
        return True

    async def crash_postgres(self) -> bool:
        """An immediate shutdown, and recovery."""
        await self._ground.restart("postgres", signal.SIGQUIT, pause=self._random.uniform(0.0, 0.5))
        return True

    async def kill_backend(self) -> bool:
        """kill -9 of one connection's process: Postgres ends all others and recovers by itself."""
        rows = await self._ground.rows("SELECT pid FROM pg_stat_activity WHERE application_name = 'trellis' ORDER BY pid")
        return bool(rows) and _send(self._random.choice(rows)["pid"], signal.SIGKILL)

    # The network: on the links that are named, or as the kind says

    async def drop_connections(self, *links: str) -> bool:
        """One connection in some breaks."""
        return await self._network({link: Faults(drop=SOME[link]) for link in links or LINKS})

    async def delay_connections(self, *links: str) -> bool:
        return await self._network(dict.fromkeys(links or LINKS, Faults(delay=0.03)))

    async def half_close_connections(self, *links: str) -> bool:
        """One direction ends while the other stays open."""
        return await self._network({link: Faults(half_close=SOME[link]) for link in links or LINKS})

    async def stall_connection(self, *links: str) -> bool:
        """Nothing passes and nothing is closed, for less than a lease."""
        return await self._network(dict.fromkeys(links or self._random.sample(LINKS, 1), Faults(stall=True)), self.lease * 0.6)

    async def refuse_connections(self, *links: str) -> bool:
        """All are cut, and no new ones are let in."""
        return await self._network(dict.fromkeys(links or self._random.sample(LINKS, 1), Faults(refuse=True)))

    async def partition_postgres(self) -> bool:
        """The whole world is cut off from Postgres for longer than a lease."""
        return await self._network({"postgres": Faults(stall=True)}, self.lease * 1.3)

    async def store_answers_errors(self) -> bool:
        return await self._network({"s3": Faults(error=0.5)})

    async def store_hangs(self) -> bool:
        return await self._network({"s3": Faults(hang=0.3)})

    async def store_cuts_transfers(self) -> bool:
        return await self._network({"s3": Faults(cut=0.3)})

    async def store_loses_answers(self) -> bool:
        """It does what it was asked, and the answer is lost."""
        return await self._network({"s3": Faults(lose=0.3)})

    async def _network(self, faults: Mapping[str, Faults], seconds: float = 0.6) -> bool:
        """For so long, and on until each has struck on its link; False where one never did."""
        proxies = self._ground.proxies

        async def all_struck() -> bool:
            return all(proxies.struck(link)[name] for link, harm in faults.items() for name in harm.names())

        for link, harm in faults.items():
            proxies.set(link, harm)
        try:
            await asyncio.sleep(seconds)
            await until(all_struck, STRIKES, every=0.05)
        except AssertionError:
            return False
        finally:
            for link in faults:
                proxies.set(link)
        return True

    # Deliveries and clocks

    async def ring_twice(self) -> bool:
        """Every job that there is, whatever its state, is rung for again, some of them twice."""
        rows = await self._ground.rows("SELECT id, queue, dispatch_no FROM jobs ORDER BY updated_at DESC LIMIT 50")
        client = queue.connect(self._ground.straight["TRELLIS_REDIS_URL"])
        with suppress(redis_client.RedisError, OSError):
            for row in rows:
                numbers = [row["dispatch_no"], 1000 + self._random.randrange(1000)]
                await queue.ring(client, row["queue"], [(row["id"], number) for number in numbers])
            await client.aclose()
            return bool(rows)
        return False

    async def shift_clock(self) -> bool:
        """A worker joins whose clock is 90 s off, and does a job; one of the others goes."""
        own = [worker for worker in self._ground.workers if worker.exit_code() is None]
        worker = self._ground.launch_worker(**{hooks.CLOCK: self._random.choice(["90", "-90"])})
        struck = await self.works(worker)
        if own and worker.exit_code() is None and own[0] in self._ground.workers:
            await self._ground.stop_worker(own[0])
        return struck

    async def works(self, worker: Child, seconds: float = 0.05) -> bool:
        """Whether this worker completes a job that takes so long; some are given out until it has one of them."""
        given: list[UUID] = []

        async def is_done() -> bool:
            query = "SELECT outcome FROM job_attempts WHERE job_id = ANY($1) AND worker LIKE $2"
            outcomes = {row["outcome"] for row in await self._ground.rows(query, given, f"%-{worker.pid}-%")}
            if not outcomes & {None, "completed"} and worker.exit_code() is None:
                given.append((await self._crowd.script(f"nap {seconds:g}", priority=10)).job)
            return "completed" in outcomes or worker.exit_code() is not None

        with suppress(AssertionError):
            await self._ground.serves(worker)  # another fault may meet it before it does
            await until(is_done, 60.0, every=0.1)
            return worker.exit_code() is None
        return False

    # One that is aimed

    async def late_result(self, first: int, script: str = "linger 0.8 2.0") -> Submit:
        """A job that the worker `first` took, and that another has begun since that worker was frozen.

        Only now the first thaws, with a result in its hands if the body has ended by then.
        """
        others = [pid for pid in self._ground.worker_pids() if pid != first]

        def ran(attempt: int) -> Callable[[], Awaitable[bool]]:
            async def begun() -> bool:
                return any((each.job, each.attempt) == (job.job, attempt) for each in executions(self._ground.traces))

            return begun

        with ExitStack() as thawing:
            with self._ground.frozen(*others):
                job = await self._crowd.script(script)
                await until(ran(1))
                thawing.enter_context(self._ground.frozen(first))
            await until(ran(2))
        return job

    # Who runs what

    def nursery(self, worker: int) -> psutil.Process | None:
        with suppress(psutil.Error):
            for child in psutil.Process(worker).children():
                if any("nursery" in word for word in child.cmdline()):
                    return child
        return None

    async def running_body(self) -> Execution | None:
        """A body that runs now, of a job that has used no try."""
        alive = [each for each in executions(self._ground.traces) if each.ended is None and psutil.pid_exists(each.pid)]
        fresh = "SELECT id FROM jobs WHERE id = ANY($1) AND status = 'running' AND tries = 0"
        chosen = {row["id"] for row in await self._ground.rows(fresh, [each.job for each in alive])}
        return next((each for each in self._shuffled(alive) if each.job in chosen), None)

    def _shuffled(self, things: list[T]) -> list[T]:
        return self._random.sample(things, len(things))


def kinds() -> dict[str, Callable[[Mischief], Awaitable[bool]]]:
    """By name, in the order in which they stand here."""
    hidden = {"running_body", "late_result", "works"}
    return {
        name: kind for name, kind in vars(Mischief).items() if inspect.iscoroutinefunction(kind) and name[0] != "_" and name not in hidden
    }


def _send(pid: int, sign: signal.Signals) -> bool:
    """False when it has gone already."""
    if pid <= 1:
        return False
    try:
        os.kill(pid, sign)
    except ProcessLookupError:
        return False
    return True
