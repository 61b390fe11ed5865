"""Events of a job to 1, 100 and 1,000 websocket subscribers, against a plain Starlette broadcast of the same bytes to as many.

`--sockets 5000` measures instead one process with so many sockets at one event a second each: all of one job, then of so many jobs that
each has five subscribers.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import quantiles
from uuid import UUID

import httpx
import orjson
from websockets.asyncio.client import connect as websocket_connect
from websockets.typing import Subprotocol

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services import accounts
from db.settings import StateSettings
from db.stores.redis import connect
from db.streams.notices import RedisNoticePublisher
from graph.core.ids import encode
from tests.benchmarks import deployment
from tests.benchmarks.websocket_clients import Clients, start_clients, subscribe_messages
from tests.event_writer import create_waiting_jobs, write_events

SUBSCRIBERS = (1, 100, 1_000)
BATCH = 20  # events written together; the next batch follows once every subscriber has received these
DELIVERIES = 40_000  # approximate number for each measurement
EVENTS = "subscription($id: ID!) { jobEvents(id: $id) { sequence message type status progress step createdAt cursor } }"
OPTIONS = ("--ws", "websockets-sansio", "--loop", "uvloop", "--http", "httptools", "--ws-per-message-deflate", "false")
TICK = os.sysconf("SC_CLK_TCK")
PER_JOB = 5
SECONDS = 15


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def measure(pid: int, clients_process: Clients, subscribers: int, send: Callable[[], None]) -> tuple[float, float]:
    """Return events a second, and CPU microseconds a delivery."""
    rounds = max(3, DELIVERIES // (BATCH * subscribers))
    send()
    expected = clients_process.received if subscribers == 0 else BATCH * subscribers
    for warmup_round in range(2):
        assert clients_process.wait_for(expected * (warmup_round + 1), 30), f"{clients_process.received:,} of {expected:,} messages came"
        if warmup_round == 0:
            send()
    received_before, cpu_before, started = clients_process.received, cpu_seconds(pid), time.perf_counter()
    for round_ in range(1, rounds + 1):
        send()
        expected_total = received_before + round_ * BATCH * subscribers
        assert clients_process.wait_for(expected_total, 30), f"{clients_process.received:,} of {expected_total:,} messages came"
    seconds = time.perf_counter() - started
    return rounds * BATCH / seconds, (cpu_seconds(pid) - cpu_before) / (rounds * BATCH * subscribers) * 1e6


async def create_job(database: Database, admin: UUID) -> UUID:
    (job,) = await create_waiting_jobs(database, admin, 1)
    return job


def measure_trellis(runner: asyncio.Runner, database: Database, admin: UUID, url: str, pid: int, subscribers: int) -> tuple[float, float]:
    job = runner.run(create_job(database, admin))
    opening = subscribe_messages(
        deployment.TOKEN, EVENTS.replace("jobEvents(id: $id)", "jobEvents(id: $id, after: null)"), id=encode("job", job)
    )
    with start_clients(url, "/graphql", [opening] * subscribers, "graphql-transport-ws") as clients_process:
        assert clients_process.wait_for(subscribers, 60), "not everyone has the first event"
        counted = _CountedFrom(clients_process, subscribers)
        result = measure(pid, counted, subscribers, lambda: runner.run(write_events(database, [job], BATCH, str(time.time_ns()))))  # type: ignore[arg-type]
        report = clients_process.report()
        assert not report.misplaced, f"{report.misplaced} events out of order"
        return result


class _CountedFrom(Clients):
    """The same clients with the message count starting at 0."""

    def __init__(self, clients_process: Clients, received_before: int) -> None:
        super().__init__(clients_process._pipe, clients_process._total)  # pyright: ignore[reportPrivateUsage] - of its base class
        self._before = received_before

    @property
    def received(self) -> int:
        return super().received - self._before


def measure_bare(url: str, pid: int, subscribers: int, text: str) -> tuple[float, float]:
    with start_clients(url, "/sockets", [[]] * subscribers) as clients_process, httpx.Client(base_url=url, timeout=60) as http:
        while int(http.get("/sockets/count").text) < subscribers:
            time.sleep(0.05)
        body = "\n".join([text] * BATCH)
        return measure(pid, clients_process, subscribers, lambda: http.post("/say", content=body).raise_for_status() and None)


def capture_event(runner: asyncio.Runner, database: Database, admin: UUID, url: str) -> str:
    """Return the bytes of one event as we send it, which the plain side sends too."""
    job = runner.run(create_job(database, admin))

    async def receive_event() -> str:
        address = url.replace("http", "ws", 1) + "/graphql"
        async with websocket_connect(address, subprotocols=[Subprotocol("graphql-transport-ws")]) as socket:
            for message in subscribe_messages(deployment.TOKEN, EVENTS, id=encode("job", job)):
                await socket.send(message.decode())
                await socket.recv()
            await write_events(database, [job], BATCH, str(time.time_ns()))
            while '"type":"LOG"' not in (text := await socket.recv(decode=True)):
                pass
            return text

    return runner.run(receive_event())


def compare(runner: asyncio.Runner, database: Database, admin: UUID) -> None:
    rows: list[tuple[int, tuple[float, float], tuple[float, float]]] = []
    text = ""
    for subscribers in SUBSCRIBERS:
        with deployment.trellis_api() as (url, pid):
            text = text or capture_event(runner, database, admin, url)
            trellis_result = measure_trellis(runner, database, admin, url, pid, subscribers)
        with deployment.uvicorn_app("tests.benchmarks.bare_starlette:app", *OPTIONS) as (url, pid):
            rows.append((subscribers, trellis_result, measure_bare(url, pid, subscribers, text)))
    print(f"{'subscribers':>11} {'events/s':>9} {'bare':>9} {'ratio':>6}   {'µs CPU a delivery':>18} {'bare':>7} {'ratio':>6}")
    for subscribers, (rate, cost), (bare_rate, bare_cost) in rows:
        print(
            f"{subscribers:>11,} {rate:>9,.0f} {bare_rate:>9,.0f} {rate / bare_rate:>5.2f}x   {cost:>18.1f} {bare_cost:>7.1f}"
            f" {cost / bare_cost if bare_cost else float('nan'):>5.2f}x"
        )


@dataclass(frozen=True)
class ManySockets:
    """The cost of many sockets. Times in milliseconds, memory in kilobytes a socket, `core` as a share, `cost` in microseconds."""

    sockets: int
    jobs: int
    seconds: float
    deliveries: float
    p50: float
    p99: float
    lost: int
    misplaced: int
    idle: float
    kilobytes: float
    core: float
    cost: float


def measure_many_sockets(runner: asyncio.Runner, database: Database, admin: UUID, sockets: int, job_count: int) -> ManySockets:
    """Measure `sockets` sockets on `job_count` jobs, each of which has an event a second."""
    jobs = runner.run(create_waiting_jobs(database, admin, job_count))
    openings = [subscribe_messages(deployment.TOKEN, EVENTS, id=encode("job", jobs[index % job_count])) for index in range(sockets)]
    subscribers_per_job = sockets // job_count
    with deployment.trellis_api() as (url, pid):
        with start_clients(url, "/graphql", openings[:10], "graphql-transport-ws") as clients_process:  # warm-up of one-time initialization
            assert clients_process.wait_for(10, 30), "not everyone has the first event"
        memory_before = resident_bytes(pid)
        with start_clients(url, "/graphql", openings, "graphql-transport-ws") as clients_process:
            assert clients_process.wait_for(sockets, 120), "not everyone has the first event"
            time.sleep(2)
            memory_idle, cpu_before, started, sent = resident_bytes(pid), cpu_seconds(pid), time.perf_counter(), 0
            batch = max(1, job_count // 100)
            while time.perf_counter() - started < SECONDS:
                batch_jobs = [jobs[(sent + index) % job_count] for index in range(batch)]
                runner.run(write_events(database, batch_jobs, 1, str(time.time_ns())))
                sent += batch
                time.sleep(max(0.0, started + sent / job_count - time.perf_counter()))
            seconds, cost = time.perf_counter() - started, cpu_seconds(pid) - cpu_before
            expected = sockets + sent * subscribers_per_job
            clients_process.wait_for(expected, 30)
            memory_after = resident_bytes(pid)
            report = clients_process.report()
    ages = quantiles(report.ages, n=100)
    return ManySockets(
        sockets=sockets,
        jobs=job_count,
        seconds=seconds,
        deliveries=sent * subscribers_per_job / seconds,
        p50=ages[49] * 1000,
        p99=ages[98] * 1000,
        lost=expected - report.received,
        misplaced=report.misplaced,
        idle=(memory_idle - memory_before) / sockets / 1000,
        kilobytes=(memory_after - memory_before) / sockets / 1000,
        core=cost / seconds,
        cost=cost / max(1, sent * subscribers_per_job) * 1e6,
    )


def print_report(report: ManySockets) -> None:
    print(
        f"{report.sockets:,} sockets, {report.sockets // report.jobs:,} to each of {report.jobs:,} jobs:"
        f" {report.deliveries:,.0f} deliveries/s for {report.seconds:.0f} s in one process"
    )
    print(f"  from before the commit to the client: p50 {report.p50:.1f} ms, p99 {report.p99:.1f} ms (to reach: < 25)")
    print(f"  lost {report.lost:,}, out of order {report.misplaced:,} (to reach: 0)")
    print(f"  {report.idle:.1f} kB a socket idle, {report.kilobytes:.1f} at the end (to reach: < 60)")
    print(f"  {report.core * 100:.0f} % of a core, {report.cost:.0f} µs of CPU a delivery; load {os.getloadavg()[0]:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sockets", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="a line for each measurement of --sockets, for programs")
    arguments = parser.parse_args()
    sockets: int = arguments.sockets
    os.environ |= {
        "TRELLIS_SOCKETS_PER_VIEWER": str(max(sockets, *SUBSCRIBERS)),
        "TRELLIS_MAX_CONNECTIONS": str(max(sockets, *SUBSCRIBERS) + 100),
    }
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with asyncio.Runner() as runner:
        redis = connect(deployment.state_settings().redis_url)
        database_context = Database.open(StateSettings(), RedisNoticePublisher(redis), statement_timeout=0)
        database = runner.run(database_context.__aenter__())

        async def ensure_admin() -> UUID:
            async with database.work(SYSTEM) as work:
                return await accounts.ensure_admin(work, "admin@trellis.local", deployment.TOKEN)

        user = runner.run(ensure_admin())
        if sockets:
            for job_count in (1, sockets // PER_JOB):
                report = measure_many_sockets(runner, database, user, sockets, job_count)
                print(orjson.dumps(asdict(report)).decode()) if arguments.json else print_report(report)
        else:
            compare(runner, database, user)
        runner.run(database_context.__aexit__(None, None, None))


if __name__ == "__main__":
    with deployment.servers():
        main()
