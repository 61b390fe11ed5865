"""What the numbers are taken with: each measures on a ground that stands, and says in seconds or counts what it found."""

from __future__ import annotations

import asyncio
import random
import re
import signal
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import psutil

from db.core.work import Database
from db.settings import StateSettings
from db.stores.events import RedisPost, connect
from server.embedded import Child
from tests.benchmarks.sockets import clients, subscribing
from tests.faults.crowd import Crowd
from tests.faults.ground import Ground, until
from tests.faults.invariants import violations
from tests.faults.mischief import Mischief
from tests.faults.people import Submit
from tests.faults.traces import Execution, executions
from tests.telling import tell

NOWHERE = {"TRELLIS_REDIS_URL": "redis://127.0.0.1:1/0"}
FOLLOW = "subscription($id: ID!) { jobEvents(id: $id) { sequence status } }"


async def starts(crowd: Crowd, job: Submit, count: int, within: float = 60.0) -> list[Execution]:
    """The first executions of a job, once there are so many."""

    async def there() -> list[Execution]:
        found = [each for each in executions(crowd.ground.traces) if each.job == job.job]
        return found if len(found) >= count else []

    return await until(there, within, f"start {count} of {job.script}", 0.01)


async def again(crowd: Crowd, what: str, pause: float) -> float:
    """Seconds from the kill of a job's worker, or of its child, to its running again. A worker is not started in its place."""
    job = await crowd.script("linger 120 0.1")
    body = (await starts(crowd, job, 1))[0]
    await asyncio.sleep(pause)
    killed = time.monotonic()
    if what == "worker":
        worker = psutil.Process(body.pid).parents()[1].pid
        crowd.ground.kill(next(child for child in crowd.ground.workers if child.pid == worker))
    else:
        psutil.Process(body.pid).send_signal(signal.SIGKILL)
    return (await starts(crowd, job, 2))[1].started - killed


async def cancelled(crowd: Crowd, scripts: Sequence[str], chance: random.Random) -> list[float]:
    """Seconds from each cancel's being sent until the process has gone. There must be a slot for each."""
    jobs = [await crowd.script(script) for script in scripts]
    pids = [(await starts(crowd, job, 1))[0].pid for job in jobs]
    await asyncio.sleep(chance.uniform(0.2, 1.0))

    async def gone(job: Submit, pid: int) -> float:
        started = time.monotonic()
        await crowd.cancel(job.job)

        async def is_gone() -> bool:
            return not psutil.pid_exists(pid)

        await until(is_gone, 30.0, f"the end of process {pid}", 0.01)
        return time.monotonic() - started

    return await asyncio.gather(*(gone(job, pid) for job, pid in zip(jobs, pids, strict=True)))


@dataclass(frozen=True)
class Rolled:
    """What rolling restarts cost."""

    tries: int
    not_completed: int
    broken_streams: int


async def rolling(crowd: Crowd, mischief: Mischief, api: str, turns: int, people: int, script: str) -> Rolled:
    """So many deploys of workers, and one of the API at `api` in five, beside jobs that are watched; some people come with each."""
    ground, jobs = crowd.ground, list[Submit]()

    async def submit_and_watch() -> None:
        jobs.append(await crowd.script(script))
        crowd.watch(jobs[-1])

    for turn in range(turns):
        async with asyncio.TaskGroup() as together:
            together.create_task(mischief.roll_worker())
            for _ in range(people):
                together.create_task(submit_and_watch())
            if turn % 5 == 0:
                await asyncio.to_thread(ground.apis[api].stop, 10.0)
                ground.launch_api(api)
    ended = await crowd.ended(*jobs, within=300)
    await crowd.watched(60)
    used = await ground.rows("SELECT sum(tries) AS tries FROM jobs WHERE id = ANY($1)", list(ended))
    return Rolled(used[0]["tries"], sum(status != "completed" for status in ended.values()), await broken_streams(crowd))


async def broken_streams(crowd: Crowd) -> int:
    """Subscribers with a gap or a repeat, of all that there ever were."""
    return sum(len(rows) for name, rows in (await violations(crowd.ground, crowd)).items() if name.startswith("13"))


async def throughput(crowd: Crowd, workers: Collection[Child], script: str, count: int) -> tuple[float, list[Submit]]:
    """Jobs a second by these workers, who find them all waiting; and the jobs."""
    with crowd.ground.frozen(*(worker.pid for worker in workers)):
        jobs = list[Submit]()
        for _ in range(0, count, 10):
            jobs += await crowd.scripts(*[script] * 10)
        started = time.monotonic()
    await crowd.ended(*jobs, within=180)
    return len(jobs) / (time.monotonic() - started), jobs


async def churn(crowd: Crowd, mischief: Mischief, jobs: int, people: int, pause: float) -> int:
    """So many subscribers hang up and come back while Redis is wiped and crashes; their connections, all together."""
    submits = [await crowd.script("nap 0.5") for _ in range(jobs)]
    watches = [crowd.watch(submits[turn % jobs], churn=0.1) for turn in range(people)]
    ids = [submit.job for submit in submits]
    for turn in range(1000):
        await (mischief.crash_redis if turn % 2 else mischief.wipe_redis)()
        await asyncio.sleep(pause)
        if not await crowd.ground.rows("SELECT 1 FROM jobs WHERE id = ANY($1) AND completed_at IS NULL LIMIT 1", ids):
            break
    await crowd.watched(60)
    return sum(watch.connections for watch in watches)


@dataclass(frozen=True)
class Heard:
    """What sockets heard of one job: messages in all, those that did not follow the one before, and how many there should have been."""

    received: int
    misplaced: int
    wanted: int


async def sockets(crowd: Crowd, count: int, events: int) -> Heard:
    """So many sockets follow one job: events are told while it waits, and it ends."""
    ground = crowd.ground
    settings = StateSettings(database_url=ground.straight["TRELLIS_DATABASE_URL"], redis_url=ground.straight["TRELLIS_REDIS_URL"])
    with ground.frozen(*ground.worker_pids()):
        job = await crowd.script("nap 0.1")
        opening = subscribing(crowd.viewer(job.owner).token, FOLLOW, id=f"job_{job.job.hex}")
        opened = clients(ground.urls[0], "/graphql", [opening] * count, "graphql-transport-ws")
        listening = await asyncio.to_thread(opened.__enter__)
        assert await asyncio.to_thread(listening.wait_for, count, 60), "not everyone has the first event"
        async with Database.open(settings, RedisPost(connect(settings.redis_url))) as database:
            for number in range(events):
                await tell(database, [job.job], 1, str(number))
    await crowd.ended(job)
    wanted = count * (await crowd.job(job))["last_sequence"]
    await asyncio.to_thread(listening.wait_for, wanted, 20)
    report = await asyncio.to_thread(listening.report)
    await asyncio.to_thread(opened.__exit__, None, None, None)
    return Heard(report.received, report.misplaced, wanted)


async def statements(ground: Ground, seconds: float) -> float:
    """Statements a second that the product sends, by the log of Postgres.

    Its counters of transactions are of no use for this: each connection adds what it did up to ten seconds later, those of processes that
    stand still included, and the harness's own.
    """
    log = ground.folder / "servers" / "logs" / "postgres.log"
    await _reload(ground, "ALTER SYSTEM SET log_line_prefix = '%a '", "ALTER SYSTEM SET log_statement = 'all'")
    try:
        begin = log.stat().st_size
        await asyncio.sleep(seconds)
    finally:
        await _reload(ground, "ALTER SYSTEM RESET log_line_prefix", "ALTER SYSTEM RESET log_statement")
    with log.open("rb") as file:
        file.seek(begin)
        return len(_SENT.findall(file.read())) / seconds


_SENT = re.compile(rb"^trellis LOG:  (?:statement|execute)", re.MULTILINE)


async def _reload(ground: Ground, *settings: str) -> None:
    for setting in (*settings, "SELECT pg_reload_conf()"):
        await ground.rows(setting)
    await asyncio.sleep(0.1)  # until the postmaster has read it; its children do before their next statement
