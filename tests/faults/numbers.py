"""The numbers that the engine is to reach, each measured on the product as it runs, with its default lease of ten seconds."""

from __future__ import annotations

import asyncio
import math
import random
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from tests.faults.crowd import NAMES, Crowd, Submit
from tests.faults.ground import QUICK, Ground, until
from tests.faults.invariants import violations
from tests.faults.mischief import Mischief
from tests.faults.traces import Execution, executions

SETTINGS: Mapping[str, str] = {
    "TRELLIS_WORKER_SLOTS": "4",
    "TRELLIS_WORKER_PRELOAD": "false",
    "TRELLIS_WORKER_LOG_BYTES": QUICK["TRELLIS_WORKER_LOG_BYTES"],  # the disk is as small as in the short run
    "TRELLIS_LOG_LEVEL": "warning",
}
LEASE = 10.0
NOWHERE = {"TRELLIS_REDIS_URL": "redis://127.0.0.1:1/0"}


class Measured:
    """One ground for one number, and what was found on it."""

    def __init__(self, ground: Ground, crowd: Crowd, chance: random.Random, table: Table) -> None:
        self.ground = ground
        self.crowd = crowd
        self.random = chance
        self.mischief = Mischief(ground, crowd, chance)
        self._table = table
        self.held = True

    def row(self, what: str, found: str, wanted: str, *, held: bool) -> None:
        self.held = self.held and held
        self._table.add_row(what, found, wanted, "[green]yes" if held else "[red]NO")

    async def starts(self, job: Submit, count: int, within: float = 60.0) -> list[Execution]:
        async def there() -> list[Execution]:
            found = [each for each in executions(self.ground.traces) if each.job == job.job]
            return found if len(found) >= count else []

        return await until(there, within, f"start {count} of {job.script}", 0.01)


async def again(m: Measured) -> None:
    """How soon a job runs again whose worker, or whose body, was killed."""
    await m.ground.start_up(0)
    for _ in range(4):
        await m.ground.start_worker()
    await m.crowd.gather()
    spans: dict[str, list[float]] = {"worker": [], "child": []}
    for what in ["worker", "worker", "worker", "child", "child", "child", "child", "child"]:
        job = await m.crowd.script("linger 120 0.1")
        body = (await m.starts(job, 1))[0]
        await asyncio.sleep(m.random.uniform(0, 2.5))
        worker = psutil.Process(body.pid).parents()[1]
        killed = time.monotonic()
        if what == "worker":
            m.ground.kill(next(child for child in m.ground.workers if child.pid == worker.pid))
        else:
            psutil.Process(body.pid).send_signal(signal.SIGKILL)
        spans[what].append((await m.starts(job, 2))[1].started - killed)
    m.row(
        "a killed worker's job runs again",
        f"{max(spans['worker']):.2f} s at most",
        f"<= {LEASE + 1:g} s",
        held=max(spans["worker"]) <= LEASE + 1,
    )
    m.row("a killed child's job runs again", f"{max(spans['child']):.2f} s at most", "<= 1 s", held=max(spans["child"]) <= 1)


async def cancel(m: Measured) -> None:
    """From the cancel's being sent until the process has gone."""
    await m.ground.start_up(0)
    for _ in range(2):
        await m.ground.start_worker()
    await m.crowd.gather()
    for script, wanted, times in (("nap 600", 2.0, 104), ("stubborn 600", 7.0, 32)):
        spans: list[float] = []
        for _ in range(times // 8):  # all slots of both workers
            jobs = [await m.crowd.script(script) for _ in range(8)]
            pids = [(await m.starts(job, 1))[0].pid for job in jobs]
            await asyncio.sleep(m.random.uniform(0.2, 1.0))
            spans += await asyncio.gather(*(_gone(m, job, pid) for job, pid in zip(jobs, pids, strict=True)))
        p99 = sorted(spans)[math.ceil(len(spans) * 0.99) - 1]
        what = "obeys" if script.startswith("nap") else "does not"
        m.row(
            f"cancel to process gone, where the body {what}",
            f"p99 {p99:.2f} s, {max(spans):.2f} s at most, of {times}",
            f"p99 <= {wanted:g} s",
            held=p99 <= wanted,
        )


async def _gone(m: Measured, job: Submit, pid: int) -> float:
    started = time.monotonic()
    await m.crowd.cancel(job.job)

    async def gone() -> bool:
        return not psutil.pid_exists(pid)

    await until(gone, 30.0, f"the end of process {pid}", 0.01)
    return time.monotonic() - started


async def rolling(m: Measured) -> None:
    """Twenty deploys of workers and of the API while 500 people watch 500 jobs."""
    await m.ground.start_up(0)
    url = await m.ground.start_api()
    for _ in range(2):
        await m.ground.start_worker()
    await m.crowd.gather(NAMES)
    for turn in range(20):  # 25 people come with each, so that jobs are under way in all of them
        async with asyncio.TaskGroup() as together:
            together.create_task(m.mischief.roll_worker())
            for _ in range(25):
                together.create_task(_submit_and_watch(m))
            if turn % 5 == 0:
                await asyncio.to_thread(m.ground.apis[url].stop, 10.0)
                m.ground.launch_api(url)
    await m.crowd.ended(within=300)
    await m.crowd.watched(60)
    row = (await m.ground.rows("SELECT sum(tries) AS tries, count(*) FILTER (WHERE status <> 'completed') AS other FROM jobs"))[0]
    broken = await _broken(m, "13")
    m.row("tries used by 20 rolling restarts", str(row["tries"]), "0", held=row["tries"] == 0)
    m.row("of 500 jobs not COMPLETED", str(row["other"]), "0", held=row["other"] == 0)
    m.row("of 500 subscribers with a gap or a repeat", str(broken), "0", held=broken == 0)


async def _submit_and_watch(m: Measured) -> None:
    m.crowd.watch(await m.crowd.script("nap 1"))


async def without_redis(m: Measured) -> None:
    """The same jobs with a Redis, and with none that ever answered; in both orders, for the later finds more rows in its tables."""
    await m.ground.start_up(0)
    first = await m.ground.start_worker()
    await m.crowd.gather()
    await m.ground.stop_worker(first)
    seconds = {False: 0.0, True: 0.0}
    for is_there in (True, False, False, True):
        environment = {} if is_there else NOWHERE
        workers = [await m.ground.start_worker(**environment) for _ in range(2)]
        jobs = [await m.crowd.script("nap 0.02", None) for _ in range(20)]  # until all is warm
        await m.crowd.ended(*jobs)
        for worker in workers:
            worker.process.send_signal(signal.SIGSTOP)
        jobs = [await m.crowd.script("nap 0.02") for _ in range(200)]
        started = time.monotonic()
        for worker in workers:
            worker.process.send_signal(signal.SIGCONT)
        await m.crowd.ended(*jobs, within=180)
        seconds[is_there] += time.monotonic() - started
        for worker in workers:
            await m.ground.stop_worker(worker)
    without, with_one = 400 / seconds[False], 400 / seconds[True]
    share = without / with_one
    m.row("Redis never there: throughput", f"{without:.1f} of {with_one:.1f} jobs a second, {share:.0%}", ">= 50 %", held=share >= 0.5)
    rows = await m.ground.rows("SELECT count(*) AS left FROM jobs WHERE completed_at IS NULL")
    m.row("Redis never there: jobs that did not end", str(rows[0]["left"]), "0", held=rows[0]["left"] == 0)


async def subscribers(m: Measured) -> None:
    """A thousand of them that hang up and come back, while Redis is wiped and restarted."""
    await m.ground.start_up(0)
    await m.ground.start_worker()
    await m.crowd.gather(NAMES)
    jobs = [await m.crowd.script("nap 0.5") for _ in range(100)]
    for turn in range(1000):
        m.crowd.watch(jobs[turn % len(jobs)], churn=0.1)
    while any(await m.ground.rows("SELECT 1 FROM jobs WHERE completed_at IS NULL LIMIT 1")):
        await m.random.choice([m.mischief.wipe_redis, m.mischief.crash_redis])()
        await asyncio.sleep(1.0)
    await m.crowd.watched(60)
    broken = await _broken(m, "13")
    connections = sum(watch.connections for watch in m.crowd.watches)
    m.row("of 1,000 subscribers with a gap or a repeat", f"{broken}, over {connections} connections", "0", held=broken == 0)


async def misbehaving(m: Measured) -> None:
    """What takes too long for the short run: the interpreter's lock held for three leases, and a gigabyte printed."""
    await m.ground.start_up(0)
    for _ in range(2):
        await m.ground.start_worker()
    await m.crowd.gather()
    workers = set(m.ground.worker_pids())
    holds = await m.crowd.script(f"hold {3 * LEASE:g}")
    prints = await m.crowd.script("chatter 1024")
    beside = [await m.crowd.script("nap 0.1") for _ in range(20)]
    await m.crowd.ended(*beside, within=60)
    memory = max(psutil.Process(pid).memory_info().rss for pid in workers) // 1024**2
    await m.crowd.ended(within=300)
    for job, what in ((holds, f"a body that holds the interpreter's lock for {3 * LEASE:g} s"), (prints, "a body that prints a gigabyte")):
        row = await m.crowd.job(job)
        found = f"{row['status']}, attempt {row['attempt']}, {row['tries']} tries used"
        m.row(what, found, "completed, attempt 1", held=(row["status"], row["attempt"]) == ("completed", 1))
    m.row("workers that died of them", str(len(workers - set(m.ground.worker_pids()))), "0", held=workers <= set(m.ground.worker_pids()))
    m.row("memory of their workers", f"{memory} MiB at most", "< 1024 MiB", held=memory < 1024)
    broken = [f"{name}: {len(found)}" for name, found in (await violations(m.ground, m.crowd)).items() if found]
    m.row("invariants broken by them", "; ".join(broken) or "none", "none", held=not broken)


async def idle(m: Measured) -> None:
    """Transactions of workers that have nothing to do: what there is with two of them, less what there is without."""
    await m.ground.start_up(0)
    without = await _transactions(m, 10)
    for _ in range(2):
        await m.ground.start_worker()
    await asyncio.sleep(10)  # what they do once at their start is no part of it
    each = (await _transactions(m, 20) - without) / 2
    m.row("statements of an idle worker", f"{each:.2f} a second", "<= 2", held=each <= 2)


async def _transactions(m: Measured, seconds: float) -> float:
    """A second, of all who use the database."""
    counts: list[int] = []
    for pause in (seconds, 0):
        rows = await m.ground.rows("SELECT xact_commit + xact_rollback AS count FROM pg_stat_database WHERE datname = current_database()")
        counts.append(rows[0]["count"])
        await asyncio.sleep(pause)
    return (counts[1] - counts[0]) / seconds


async def _broken(m: Measured, number: str) -> int:
    return sum(len(rows) for name, rows in (await violations(m.ground, m.crowd)).items() if name.startswith(number))


NUMBERS: dict[str, Callable[[Measured], Awaitable[None]]] = {
    number.__name__: number for number in (again, cancel, rolling, without_redis, subscribers, misbehaving, idle)
}


async def measure(folder: Path, seed: int, names: str) -> bool:
    """Whether all that were asked for are reached; each on a ground of its own."""
    table = Table("number", "found", "to reach", "held")
    held = True
    for name in NUMBERS if names == "all" else names.split(","):
        with Ground(folder / name, seed, SETTINGS) as ground:
            await ground.connect()
            chance = random.Random(seed)
            measured = Measured(ground, Crowd(ground, chance), chance, table)
            try:
                await NUMBERS[name](measured)
            except AssertionError as error:
                measured.row(name, str(error)[:200], "", held=False)
            await measured.crowd.leave()
            await ground.pool.close()
            held = held and measured.held
    Console().print(table)
    return held
