"""Events of a job to 1, 100 and 1,000 websocket subscribers, against a bare Starlette broadcast of the same bytes to as many.

`--sockets 5000` measures instead one process that serves so many sockets at one event a second to each of them: all of one job, then of
as many jobs as give each five subscribers.
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
from websockets.asyncio.client import connect as connected
from websockets.typing import Subprotocol

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services import accounts
from db.settings import StateSettings
from db.stores.events import RedisPost, connect
from graph.core.ids import encode
from tests.benchmarks import ground
from tests.benchmarks.sockets import Clients, clients, subscribing
from tests.telling import tell, waiting_jobs

SUBSCRIBERS = (1, 100, 1_000)
BATCH = 20  # events that are told together; the next follow once everyone has these
DELIVERIES = 40_000  # of each measurement, about
EVENTS = "subscription($id: ID!) { jobEvents(id: $id) { sequence message type status progress step createdAt cursor } }"
OPTIONS = ("--ws", "websockets-sansio", "--loop", "uvloop", "--http", "httptools", "--ws-per-message-deflate", "false")
TICK = os.sysconf("SC_CLK_TCK")
PER_JOB = 5
SECONDS = 15


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory(pid: int) -> int:
    """Bytes that a process holds in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def measured(pid: int, listening: Clients, subscribers: int, say: Callable[[], None]) -> tuple[float, float]:
    """Events a second, and microseconds of CPU a delivery."""
    rounds = max(3, DELIVERIES // (BATCH * subscribers))
    say()
    expected = listening.received if subscribers == 0 else BATCH * subscribers
    for warm in range(2):
        assert listening.wait_for(expected * (warm + 1), 30), f"{listening.received:,} of {expected:,} messages came"
        if warm == 0:
            say()
    done, used, began = listening.received, cpu(pid), time.perf_counter()
    for round_ in range(1, rounds + 1):
        say()
        wanted = done + round_ * BATCH * subscribers
        assert listening.wait_for(wanted, 30), f"{listening.received:,} of {wanted:,} messages came"
    seconds = time.perf_counter() - began
    return rounds * BATCH / seconds, (cpu(pid) - used) / (rounds * BATCH * subscribers) * 1e6


async def a_job(database: Database, admin: UUID) -> UUID:
    (job,) = await waiting_jobs(database, admin, 1)
    return job


def ours(runner: asyncio.Runner, database: Database, admin: UUID, url: str, pid: int, subscribers: int) -> tuple[float, float]:
    job = runner.run(a_job(database, admin))
    opening = subscribing(ground.TOKEN, EVENTS.replace("jobEvents(id: $id)", "jobEvents(id: $id, after: null)"), id=encode("job", job))
    with clients(url, "/graphql", [opening] * subscribers, "graphql-transport-ws") as listening:
        assert listening.wait_for(subscribers, 60), "not everyone has the first event"
        base = _Counted(listening, subscribers)
        found = measured(pid, base, subscribers, lambda: runner.run(tell(database, [job], BATCH, str(time.time_ns()))))  # type: ignore[arg-type]
        report = listening.report()
        assert not report.misplaced, f"{report.misplaced} events out of order"
        return found


class _Counted(Clients):
    """The same clients, counted from here on."""

    def __init__(self, listening: Clients, before: int) -> None:
        super().__init__(listening._pipe, listening._total)  # pyright: ignore[reportPrivateUsage] - of the same kind
        self._before = before

    @property
    def received(self) -> int:
        return super().received - self._before


def theirs(url: str, pid: int, subscribers: int, text: str) -> tuple[float, float]:
    with clients(url, "/sockets", [[]] * subscribers) as listening, httpx.Client(base_url=url, timeout=60) as http:
        while int(http.get("/sockets/count").text) < subscribers:
            time.sleep(0.05)
        body = "\n".join([text] * BATCH)
        return measured(pid, listening, subscribers, lambda: http.post("/say", content=body).raise_for_status() and None)


def captured(runner: asyncio.Runner, database: Database, admin: UUID, url: str) -> str:
    """One event as we send it, byte for byte: what the bare side sends too."""
    job = runner.run(a_job(database, admin))

    async def frame() -> str:
        address = url.replace("http", "ws", 1) + "/graphql"
        async with connected(address, subprotocols=[Subprotocol("graphql-transport-ws")]) as socket:
            for message in subscribing(ground.TOKEN, EVENTS, id=encode("job", job)):
                await socket.send(message.decode())
                await socket.recv()
            await tell(database, [job], BATCH, str(time.time_ns()))
            while '"type":"LOG"' not in (text := await socket.recv(decode=True)):
                pass
            return text

    return runner.run(frame())


def compare(runner: asyncio.Runner, database: Database, admin: UUID) -> None:
    rows: list[tuple[int, tuple[float, float], tuple[float, float]]] = []
    text = ""
    for subscribers in SUBSCRIBERS:
        with ground.trellis() as (url, pid):
            text = text or captured(runner, database, admin, url)
            mine = ours(runner, database, admin, url, pid, subscribers)
        with ground.serving("tests.benchmarks.bare:app", *OPTIONS) as (url, pid):
            rows.append((subscribers, mine, theirs(url, pid, subscribers, text)))
    print(f"{'subscribers':>11} {'events/s':>9} {'bare':>9} {'ratio':>6}   {'µs CPU a delivery':>18} {'bare':>7} {'ratio':>6}")
    for subscribers, (rate, cost), (bare_rate, bare_cost) in rows:
        print(
            f"{subscribers:>11,} {rate:>9,.0f} {bare_rate:>9,.0f} {rate / bare_rate:>5.2f}x   {cost:>18.1f} {bare_cost:>7.1f}"
            f" {cost / bare_cost if bare_cost else float('nan'):>5.2f}x"
        )


@dataclass(frozen=True)
class Many:
    """What so many sockets cost. Times in milliseconds, memory in kilobytes of each socket, `core` as a share, `cost` in microseconds."""

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


def many(runner: asyncio.Runner, database: Database, admin: UUID, sockets: int, among: int) -> Many:
    """So many sockets on `among` jobs, each of which has an event a second."""
    jobs = runner.run(waiting_jobs(database, admin, among))
    openings = [subscribing(ground.TOKEN, EVENTS, id=encode("job", jobs[place % among])) for place in range(sockets)]
    each = sockets // among
    with ground.trellis() as (url, pid):
        with clients(url, "/graphql", openings[:10], "graphql-transport-ws") as listening:  # whatever is made once is there
            assert listening.wait_for(10, 30), "not everyone has the first event"
        empty = memory(pid)
        with clients(url, "/graphql", openings, "graphql-transport-ws") as listening:
            assert listening.wait_for(sockets, 120), "not everyone has the first event"
            time.sleep(2)
            idle, used, began, told = memory(pid), cpu(pid), time.perf_counter(), 0
            step = max(1, among // 100)
            while time.perf_counter() - began < SECONDS:
                some = [jobs[(told + place) % among] for place in range(step)]
                runner.run(tell(database, some, 1, str(time.time_ns())))
                told += step
                time.sleep(max(0.0, began + told / among - time.perf_counter()))
            seconds, cost = time.perf_counter() - began, cpu(pid) - used
            wanted = sockets + told * each
            listening.wait_for(wanted, 30)
            busy = memory(pid)
            report = listening.report()
    ages = quantiles(report.ages, n=100)
    return Many(
        sockets=sockets,
        jobs=among,
        seconds=seconds,
        deliveries=told * each / seconds,
        p50=ages[49] * 1000,
        p99=ages[98] * 1000,
        lost=wanted - report.received,
        misplaced=report.misplaced,
        idle=(idle - empty) / sockets / 1000,
        kilobytes=(busy - empty) / sockets / 1000,
        core=cost / seconds,
        cost=cost / max(1, told * each) * 1e6,
    )


def tell_of(found: Many) -> None:
    print(
        f"{found.sockets:,} sockets, {found.sockets // found.jobs:,} to each of {found.jobs:,} jobs:"
        f" {found.deliveries:,.0f} deliveries/s for {found.seconds:.0f} s in one process"
    )
    print(f"  from before the commit to the client: p50 {found.p50:.1f} ms, p99 {found.p99:.1f} ms (to reach: < 25)")
    print(f"  lost {found.lost:,}, out of order {found.misplaced:,} (to reach: 0)")
    print(f"  {found.idle:.1f} kB a socket idle, {found.kilobytes:.1f} at the end (to reach: < 60)")
    print(f"  {found.core * 100:.0f} % of a core, {found.cost:.0f} µs of CPU a delivery; load {os.getloadavg()[0]:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sockets", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="a line for each measurement of --sockets, for programs")
    given = parser.parse_args()
    sockets: int = given.sockets
    os.environ |= {
        "TRELLIS_SOCKETS_PER_VIEWER": str(max(sockets, *SUBSCRIBERS)),
        "TRELLIS_MAX_CONNECTIONS": str(max(sockets, *SUBSCRIBERS) + 100),
    }
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with asyncio.Runner() as runner:
        redis = connect(ground.state_settings().redis_url)
        database_ = Database.open(StateSettings(), RedisPost(redis), statement_timeout=0)
        database = runner.run(database_.__aenter__())

        async def admin() -> UUID:
            async with database.work(SYSTEM) as work:
                return await accounts.ensure_admin(work, "admin@trellis.local", ground.TOKEN)

        user = runner.run(admin())
        if sockets:
            for among in (1, sockets // PER_JOB):
                found = many(runner, database, user, sockets, among)
                print(orjson.dumps(asdict(found)).decode()) if given.json else tell_of(found)
        else:
            compare(runner, database, user)
        runner.run(database_.__aexit__(None, None, None))


if __name__ == "__main__":
    with ground.servers():
        main()
