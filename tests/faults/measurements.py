"""Measurements on a running cluster, in seconds or counts."""

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
from db.stores.redis import connect
from db.streams.notices import RedisNoticePublisher
from server.embedded import ManagedProcess
from tests.benchmarks.websocket_clients import start_clients, subscribe_messages
from tests.event_writer import write_events
from tests.faults.cluster import Cluster, eventually
from tests.faults.fault_injection import FaultInjector
from tests.faults.invariants import find_violations
from tests.faults.traces import Execution, executions
from tests.faults.viewers import Submission
from tests.faults.workload import Workload

NO_REDIS = {"TRELLIS_REDIS_URL": "redis://127.0.0.1:1/0"}
FOLLOW = "subscription($id: ID!) { jobEvents(id: $id) { sequence status } }"


async def wait_for_starts(workload: Workload, job: Submission, count: int, within: float = 60.0) -> list[Execution]:
    """Wait for `count` executions of a job and return them."""

    async def enough_starts() -> list[Execution]:
        of_job = [each for each in executions(workload.cluster.traces) if each.job == job.job]
        return of_job if len(of_job) >= count else []

    return await eventually(enough_starts, within, f"start {count} of {job.script}", 0.01)


async def restart_delay(workload: Workload, target: str, pause: float) -> float:
    """Return the seconds from killing a job's worker, or its child process, until the job runs again. The worker is not replaced."""
    job = await workload.submit_script("linger 120 0.1")
    body = (await wait_for_starts(workload, job, 1))[0]
    await asyncio.sleep(pause)
    killed_at = time.monotonic()
    if target == "worker":
        worker = psutil.Process(body.pid).parents()[1].pid
        workload.cluster.kill(next(child for child in workload.cluster.workers if child.pid == worker))
    else:
        psutil.Process(body.pid).send_signal(signal.SIGKILL)
    return (await wait_for_starts(workload, job, 2))[1].started - killed_at


async def cancel_delays(workload: Workload, scripts: Sequence[str], rng: random.Random) -> list[float]:
    """Return the seconds from each cancel request until the body is dead. There must be a slot for each."""
    jobs = [await workload.submit_script(script) for script in scripts]
    pids = [(await wait_for_starts(workload, job, 1))[0].pid for job in jobs]
    await asyncio.sleep(rng.uniform(0.2, 1.0))

    async def cancel_delay(job: Submission, pid: int) -> float:
        started = time.monotonic()
        await workload.cancel(job.job)

        async def is_gone() -> bool:
            return not psutil.pid_exists(pid)

        await eventually(is_gone, 60.0, f"the end of process {pid}", 0.01)
        return time.monotonic() - started

    return await asyncio.gather(*(cancel_delay(job, pid) for job, pid in zip(jobs, pids, strict=True)))


@dataclass(frozen=True)
class RollingRestartReport:
    """The cost of rolling restarts."""

    tries: int
    not_completed: int
    broken_streams: int


async def rolling_restarts(
    workload: Workload, injector: FaultInjector, api: str, turns: int, viewers: int, script: str
) -> RollingRestartReport:
    """Deploy workers `turns` times, and in every fifth turn the API at `api`, while jobs are watched; some viewers join each turn."""
    cluster, jobs = workload.cluster, list[Submission]()

    async def submit_and_watch() -> None:
        jobs.append(await workload.submit_script(script))
        workload.subscribe(jobs[-1])

    for turn in range(turns):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(injector.roll_worker())
            for _ in range(viewers):
                tasks.create_task(submit_and_watch())
            if turn % 5 == 0:
                await asyncio.to_thread(cluster.apis[api].stop, 10.0)
                cluster.launch_api(api)
    ended = await workload.wait_for_end(*jobs, within=300)
    await workload.wait_for_subscribers(60)
    tries_rows = await cluster.rows("SELECT sum(tries) AS tries FROM jobs WHERE id = ANY($1)", list(ended))
    return RollingRestartReport(
        tries_rows[0]["tries"], sum(status != "completed" for status in ended.values()), await count_broken_streams(workload)
    )


async def count_broken_streams(workload: Workload) -> int:
    """Count all subscribers so far that saw a gap or a repeated event."""
    return sum(len(rows) for name, rows in (await find_violations(workload.cluster, workload)).items() if name.startswith("13"))


async def throughput(workload: Workload, workers: Collection[ManagedProcess], script: str, count: int) -> tuple[float, list[Submission]]:
    """Return the jobs a second of these workers, starting with all jobs queued, and the jobs."""
    with workload.cluster.freeze(*(worker.pid for worker in workers)):
        jobs = list[Submission]()
        for _ in range(0, count, 10):
            jobs += await workload.submit_scripts(*[script] * 10)
        started = time.monotonic()
    await workload.wait_for_end(*jobs, within=180)
    return len(jobs) / (time.monotonic() - started), jobs


async def subscriber_churn(workload: Workload, injector: FaultInjector, jobs: int, count: int, pause: float) -> int:
    """Have `count` subscribers reconnect repeatedly while Redis is wiped and crashes; return the total of their connections."""
    submissions = [await workload.submit_script("nap 0.5") for _ in range(jobs)]
    subscribers = [workload.subscribe(submissions[turn % jobs], churn=0.1) for turn in range(count)]
    ids = [submission.job for submission in submissions]
    for turn in range(1000):
        await (injector.crash_redis if turn % 2 else injector.wipe_redis)()
        await asyncio.sleep(pause)
        if not await workload.cluster.rows("SELECT 1 FROM jobs WHERE id = ANY($1) AND completed_at IS NULL LIMIT 1", ids):
            break
    await workload.wait_for_subscribers(60)
    return sum(subscriber.connections for subscriber in subscribers)


@dataclass(frozen=True)
class SocketReport:
    """Messages that sockets received of one job: their number, those out of order, and the expected number."""

    received: int
    misplaced: int
    expected: int


async def measure_sockets(workload: Workload, count: int, events: int) -> SocketReport:
    """Have `count` sockets follow one job: events are written while it waits, then it ends."""
    cluster = workload.cluster
    settings = StateSettings(
        database_url=cluster.direct_environment["TRELLIS_DATABASE_URL"], redis_url=cluster.direct_environment["TRELLIS_REDIS_URL"]
    )
    with cluster.freeze(*cluster.worker_pids()):
        job = await workload.submit_script("nap 0.1")
        messages = subscribe_messages(workload.viewer(job.owner).token, FOLLOW, id=f"job_{job.job.hex}")
        client_context = start_clients(cluster.urls[0], "/graphql", [messages] * count, "graphql-transport-ws")
        clients_process = await asyncio.to_thread(client_context.__enter__)
        assert await asyncio.to_thread(clients_process.wait_for, count, 60), "not everyone has the first event"
        async with Database.open(settings, RedisNoticePublisher(connect(settings.redis_url))) as database:
            for number in range(events):
                await write_events(database, [job.job], 1, str(number))
    await workload.wait_for_end(job)
    expected = count * (await workload.job(job))["last_sequence"]
    await asyncio.to_thread(clients_process.wait_for, expected, 20)
    report = await asyncio.to_thread(clients_process.report)
    await asyncio.to_thread(client_context.__exit__, None, None, None)
    return SocketReport(report.received, report.misplaced, expected)


async def statement_rate(cluster: Cluster, seconds: float) -> float:
    """Return the statements a second that the product sends, from PostgreSQL's log.

    PostgreSQL's transaction counters do not work here: each connection, also of frozen processes and of the harness, adds its transactions
    up to ten seconds late.
    """
    log = cluster.folder / "servers" / "logs" / "postgres.log"
    await _reload(cluster, "ALTER SYSTEM SET log_line_prefix = '%a '", "ALTER SYSTEM SET log_statement = 'all'")
    try:
        start_offset = log.stat().st_size
        await asyncio.sleep(seconds)
    finally:
        await _reload(cluster, "ALTER SYSTEM RESET log_line_prefix", "ALTER SYSTEM RESET log_statement")
    with log.open("rb") as file:
        file.seek(start_offset)
        return len(_STATEMENT.findall(file.read())) / seconds


_STATEMENT = re.compile(rb"^trellis LOG:  (?:statement|execute)", re.MULTILINE)


async def _reload(cluster: Cluster, *settings: str) -> None:
    for setting in (*settings, "SELECT pg_reload_conf()"):
        await cluster.rows(setting)
    await asyncio.sleep(0.1)  # until the postmaster has read it; backends do before their next statement
