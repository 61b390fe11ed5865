"""What it takes to log points of external runs: batches of 1,000 and single points, through the service and over HTTP."""

from __future__ import annotations

import asyncio
import math
import time
from datetime import UTC, datetime, timedelta
from statistics import median
from uuid import UUID

import psutil

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services.tracking import points
from db.services.tracking.points import MAX_POINTS, LoggedPoint
from tests.benchmarks import deployment
from tests.client import Client
from tests.faults.run_writer import CREATE, LOG

BATCHES, SINGLE, CLIENTS = 60, 400, 4
KEYS = 10
START = datetime(2026, 3, 1, tzinfo=UTC)


def batch(number: int) -> list[LoggedPoint]:
    """1,000 points of ten metrics, as a training logs them."""
    steps = range(number * MAX_POINTS // KEYS, (number + 1) * MAX_POINTS // KEYS)
    return [
        LoggedPoint(f"metric_{key}", step, math.sin(step + key), START + timedelta(seconds=step)) for step in steps for key in range(KEYS)
    ]


def as_input(logged: list[LoggedPoint]) -> list[dict[str, object]]:
    return [
        {"key": point.key, "step": point.step, "value": point.value, "recordedAt": str(point.recorded_at).replace(" ", "T")}
        for point in logged
    ]


async def service_times(database: Database, run: UUID) -> list[float]:
    """The milliseconds of each batch: its unit of work with its commit."""
    times: list[float] = []
    for number in range(BATCHES):
        logged = batch(number)
        started = time.perf_counter()
        async with database.work(SYSTEM) as work:
            assert await points.log(work, run, logged) == MAX_POINTS
        times.append((time.perf_counter() - started) * 1000)
    return times


async def http_times(client: Client, run: str) -> list[float]:
    """The milliseconds of each batch as its client waits for it."""
    times: list[float] = []
    for number in range(BATCHES):
        given = as_input(batch(number))
        started = time.perf_counter()
        assert (await client.one(LOG, run=run, points=given))["__typename"] == "LogMetricsPayload"
        times.append((time.perf_counter() - started) * 1000)
    return times


async def single_rate(url: str) -> float:
    """The points a second that several clients log one by one, each to its own run."""

    async def log() -> None:
        client = Client(url, deployment.TOKEN)
        run = (await client.one(CREATE, input={}))["run"]["id"]
        for step in range(SINGLE):
            await client.one(LOG, run=run, points=as_input([LoggedPoint("loss", step, 1.0, START)]))
        await client.close()

    started = time.perf_counter()
    await asyncio.gather(*(log() for _ in range(CLIENTS)))
    return CLIENTS * SINGLE / (time.perf_counter() - started)


async def main() -> None:
    async with deployment.database() as database:
        with deployment.trellis_api() as (url, pid):
            client = Client(url, deployment.TOKEN)
            first, second = [(await client.one(CREATE, input={}))["run"]["id"] for _ in range(2)]
            service = await service_times(database, UUID(first.removeprefix("run_")))
            process = psutil.Process(pid)
            before = process.cpu_times()
            http = await http_times(client, second)
            after = process.cpu_times()
            rate = await single_rate(url)
            await client.close()
    cpu = (after.user + after.system - before.user - before.system) * 1000 / BATCHES
    print(f"1,000 points, the unit of work with its commit: least {min(service):.1f} ms, median {median(service):.1f} ms (to reach: 15)")
    print(
        f"1,000 points over HTTP, as the client waits:    least {min(http):.1f} ms, median {median(http):.1f} ms; {cpu:.1f} ms of CPU of the API"
    )
    print(f"single points over HTTP, {CLIENTS} clients:             {rate:.0f} a second")


if __name__ == "__main__":
    with deployment.servers():
        asyncio.run(main())
