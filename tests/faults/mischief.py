"""The faults: each does its harm, and heals it where the world would, while jobs run."""

from __future__ import annotations

import asyncio
import inspect
import os
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar
from uuid import UUID

import psutil
import redis.asyncio as redis_client

from db.stores import queue
from tests.faults import hooks
from tests.faults.crowd import Crowd, Submit
from tests.faults.ground import Ground, until
from tests.faults.proxy import Faults
from tests.faults.traces import Execution, executions

T = TypeVar("T")
LINKS = ("postgres", "redis", "s3")


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
        """kill -9 of the process between a worker and its bodies; its bodies use a try, so it is spared where one has used any."""
        for pid in self._shuffled(self._ground.worker_pids()):
            nursery = self.nursery(pid)
            if nursery is not None and not await self._tried(pid):
                return _send(nursery.pid, signal.SIGKILL)
        return False

    async def kill_child(self) -> bool:
        """kill -9 of a body; of one that has used no try yet, for three tries are all a job has."""
        found = await self.running_body()
        return found is not None and _send(found.pid, signal.SIGKILL)

    async def kill_api(self) -> None:
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

    async def wipe_redis(self) -> None:
        """FLUSHALL."""
        with suppress(redis_client.RedisError, OSError):
            async with redis_client.Redis.from_url(self._ground.straight["TRELLIS_REDIS_URL"]) as client:
                await client.flushall()

    async def restart_redis(self) -> None:
        """Stopped for a while; it comes back empty."""
        await self._ground.restart("valkey", pause=self._random.uniform(0.2, 2.0))

    async def crash_redis(self) -> None:
        """kill -9; it comes back empty at once."""
        await self._ground.restart("valkey", signal.SIGKILL)

    async def restart_postgres(self) -> None:
        """A fast shutdown, and a start."""
        await self._ground.restart("postgres")

    async def crash_postgres(self) -> None:
        """An immediate shutdown, and recovery."""
        await self._ground.restart("postgres", signal.SIGQUIT, pause=self._random.uniform(0.0, 0.5))

    async def kill_backend(self) -> bool:
        """kill -9 of one connection's process: Postgres ends all others and recovers by itself."""
        rows = await self._ground.rows("SELECT pid FROM pg_stat_activity WHERE application_name = 'trellis' ORDER BY pid")
        return bool(rows) and _send(self._random.choice(rows)["pid"], signal.SIGKILL)

    # The network

    async def drop_connections(self) -> None:
        """One connection in some breaks, to each of the servers."""
        await self._network(Faults(drop=0.02))

    async def delay_connections(self) -> None:
        await self._network(Faults(delay=0.03))

    async def half_close_connections(self) -> None:
        """One direction ends while the other stays open."""
        await self._network(Faults(half_close=0.02))

    async def stall_connection(self) -> None:
        """Nothing passes and nothing is closed, for less than a lease."""
        await self._network(Faults(stall=True), self._random.choice(LINKS), seconds=self.lease * 0.6)

    async def refuse_connections(self) -> None:
        """All are cut, and no new ones are let in."""
        await self._network(Faults(refuse=True), self._random.choice(LINKS), seconds=1.0)

    async def partition_postgres(self) -> None:
        """The whole world is cut off from Postgres for longer than a lease."""
        await self._network(Faults(stall=True), "postgres", seconds=self.lease * 1.3)

    async def _network(self, faults: Faults, *links: str, seconds: float = 1.0) -> None:
        chosen = links or LINKS
        for link in chosen:
            self._ground.proxies.set(link, faults)
        try:
            await asyncio.sleep(seconds)
        finally:
            for link in chosen:
                self._ground.proxies.set(link)

    async def store_answers_errors(self) -> None:
        await self._network(Faults(error=0.5), "s3")

    async def store_hangs(self) -> None:
        await self._network(Faults(hang=0.3), "s3")

    async def store_cuts_transfers(self) -> None:
        await self._network(Faults(cut=0.3), "s3")

    async def store_loses_answers(self) -> None:
        """It does what it was asked, and the answer is lost."""
        await self._network(Faults(lose=0.3), "s3")

    # Deliveries and clocks

    async def ring_twice(self) -> None:
        """Every job that there is, whatever its state, is rung for again, some of them twice."""
        rows = await self._ground.rows("SELECT id, queue, dispatch_no FROM jobs ORDER BY updated_at DESC LIMIT 50")
        client = queue.connect(self._ground.straight["TRELLIS_REDIS_URL"])
        with suppress(redis_client.RedisError, OSError):
            for row in rows:
                numbers = [row["dispatch_no"], 1000 + self._random.randrange(1000)]
                await queue.ring(client, row["queue"], [(row["id"], number) for number in numbers])
            await client.aclose()

    async def shift_clock(self) -> None:
        """A worker joins whose clock is 90 s off; one of the others goes."""
        own = [worker for worker in self._ground.workers if worker.exit_code() is None]
        worker = self._ground.launch_worker(**{hooks.CLOCK: self._random.choice(["90", "-90"])})
        if own:
            await asyncio.sleep(self.lease)
            if worker.exit_code() is None and own[0] in self._ground.workers:
                await self._ground.stop_worker(own[0])

    # One that is aimed

    async def late_result(self, first: int) -> Submit:
        """A job that the worker `first` took, whose body ended while that worker was frozen, and which another has taken since.

        Only now the first thaws, with a result in its hands.
        """
        others = [pid for pid in self._ground.worker_pids() if pid != first]
        for pid in others:
            _send(pid, signal.SIGSTOP)
        job = await self._crowd.script("linger 0.8 3.0")

        async def begun() -> bool:
            return any(each.job == job.job for each in executions(self._ground.traces))

        async def taken_over() -> bool:
            return (await self._crowd.job(job))["attempt"] == 2

        try:
            await until(begun)
            _send(first, signal.SIGSTOP)
            for pid in others:
                _send(pid, signal.SIGCONT)
            await until(taken_over)
        finally:
            for pid in (first, *others):
                _send(pid, signal.SIGCONT)
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

    async def _tried(self, worker: int) -> set[UUID]:
        """The jobs of a worker that have used a try already."""
        query = "SELECT j.id FROM jobs j JOIN workers w ON w.id = j.worker_id WHERE w.name LIKE $1 AND j.tries > 0"
        return {row["id"] for row in await self._ground.rows(query, f"%-{worker}-%")}

    def _shuffled(self, things: list[T]) -> list[T]:
        return self._random.sample(things, len(things))


def kinds() -> dict[str, Callable[[Mischief], Awaitable[bool | None]]]:
    """By name, in the order in which they stand here."""
    hidden = {"running_body", "late_result"}
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
