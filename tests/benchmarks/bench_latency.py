"""Latency from `runPipeline` to the start of the body on an idle worker, against `arq.enqueue_job` to the function on a plain arq worker.

Rounds of both alternate, so that other load on the machine affects both. The bodies record the time themselves, with the traces of the
fault tests, on the monotonic clock that all processes share.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles

from arq import create_pool
from arq.connections import RedisSettings

from graph.core.ids import decode
from tests.benchmarks import bare_arq, deployment
from tests.client import Client
from tests.faults.cluster import ROOT, SITE
from tests.faults.hooks import TRACES
from tests.faults.traces import executions

ROUNDS = 6
JOBS_PER_ROUND = 10  # jobs in a round
PAUSE = 0.137  # seconds between jobs, so that they hit every phase of periodic polls
CSV = "x,y\n" + "".join(f"{i},{i % 5}\n" for i in range(200))


async def wait_entered(probe: Callable[[], float | None]) -> float:
    """Wait for and return the time that a body recorded."""
    async with asyncio.timeout(30):
        while (entered_at := probe()) is None:
            await asyncio.sleep(0.02)
    return entered_at


Measure = Callable[[], Awaitable[tuple[float, float]]]


async def measure(ours: Measure, theirs: Measure) -> dict[str, list[tuple[float, float]]]:
    """Return for each job of both (milliseconds until the response, milliseconds from there until the body was entered)."""
    latencies: dict[str, list[tuple[float, float]]] = {"ours": [], "bare": []}
    for turn in range(ROUNDS + 1):
        for name, run_once in (("ours", ours), ("bare", theirs)):
            for _ in range(JOBS_PER_ROUND):
                latency = await run_once()
                if turn:  # the first round is a warm-up
                    latencies[name].append(latency)
                await asyncio.sleep(PAUSE)
    return latencies


async def main(folder: Path) -> None:
    async with deployment.database():
        pass
    from workers.catalogue import project_steps_sync

    await asyncio.to_thread(project_steps_sync, deployment.state_settings().database_url)
    entered_file = folder / "entered"
    entered_file.touch()
    trace_environment = {
        "PYTHONPATH": os.pathsep.join([str(SITE), str(ROOT)]),
        TRACES: str(folder),
        "TRELLIS_WORKER_BODY_PATHS": json.dumps([str(folder)]),
    }
    with ExitStack() as stack:
        url, _ = stack.enter_context(deployment.trellis_api())
        stack.enter_context(deployment.run_process("server.cli", "worker", **trace_environment))
        stack.enter_context(deployment.run_process("arq", "tests.benchmarks.bare_arq.Settings", **{bare_arq.ENTERED: str(entered_file)}))
        client = Client(url, deployment.TOKEN)
        version = await client.ingest("latency", CSV)
        pipeline = (await client.create_pipeline("latency", ("data", "dataset", {}), ("scale", "scale", {})))["pipeline"]["id"]
        pool = await create_pool(RedisSettings.from_dsn(deployment.state_settings().redis_url))
        numbers = iter(range(1_000_000))

        async def ours() -> tuple[float, float]:
            started = time.monotonic()
            job = (await client.run_pipeline(pipeline, version))["job"]["id"]
            answered_at = time.monotonic()
            job_id = decode("job", job)
            entered_at = await wait_entered(
                lambda: next((execution.started for execution in executions(folder) if execution.job == job_id), None)
            )
            await client.wait(job)
            return (answered_at - started) * 1000, (entered_at - answered_at) * 1000

        async def theirs() -> tuple[float, float]:
            number = next(numbers)
            started = time.monotonic()
            assert await pool.enqueue_job("enter", number, _queue_name=bare_arq.QUEUE) is not None
            answered_at = time.monotonic()

            def probe() -> float | None:
                entered_by_number = dict(line.split() for line in entered_file.read_text().splitlines())
                return float(entered_by_number[str(number)]) if str(number) in entered_by_number else None

            return (answered_at - started) * 1000, (await wait_entered(probe) - answered_at) * 1000

        latencies = await measure(ours, theirs)
        await pool.aclose()
        await client.close()
    print(f"{'':<52} {'p50 ms':>8} {'p95 ms':>8}")
    for title, name in (("runPipeline", "ours"), ("arq.enqueue_job", "bare")):
        for label, values in (
            ("answered after", [answered for answered, _ in latencies[name]]),
            ("answered, then the body entered after", [wait for _, wait in latencies[name]]),
            ("asked, then the body entered after", [answered + wait for answered, wait in latencies[name]]),
        ):
            print(f"{f'{title}: {label}':<52} {median(values):>8.1f} {quantiles(values, n=20)[-1]:>8.1f}")
    waits = {name: median(wait for _, wait in values) for name, values in latencies.items()}
    print(f"ratio of the medians, answered to entered: {waits['ours'] / waits['bare']:.2f}x of bare arq; ours to reach: <= 30 ms")


if __name__ == "__main__":
    with deployment.servers(), tempfile.TemporaryDirectory(prefix="trellis-latency-") as temporary_folder:
        asyncio.run(main(Path(temporary_folder)))
