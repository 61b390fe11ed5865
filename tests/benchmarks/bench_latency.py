"""From `runPipeline` to the worker's body being entered, on an idle worker, against `arq.enqueue_job` to the function on a bare arq worker.

Rounds of both alternate, so that whatever else the machine does strikes both. The bodies write the moment themselves, as the harness of the
faults has them do, on the clock that all processes share.
"""

from __future__ import annotations

import asyncio
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
from tests.benchmarks import bare_arq, ground
from tests.client import Client
from tests.faults.ground import ROOT, SITE
from tests.faults.hooks import TRACES
from tests.faults.traces import executions

ROUNDS = 6
EACH = 10  # jobs of a round
PAUSE = 0.137  # seconds between two, so that they meet the rounds of a clock at all its places
CSV = "x,y\n" + "".join(f"{i},{i % 5}\n" for i in range(200))


async def entered(look: Callable[[], float | None]) -> float:
    """The moment that a body wrote, once it has."""
    async with asyncio.timeout(30):
        while (found := look()) is None:
            await asyncio.sleep(0.02)
    return found


Measure = Callable[[], Awaitable[tuple[float, float]]]


async def measured(ours: Measure, theirs: Measure) -> dict[str, list[tuple[float, float]]]:
    """Of both, (milliseconds until the answer, milliseconds from there until it was entered) of each job."""
    found: dict[str, list[tuple[float, float]]] = {"ours": [], "bare": []}
    for turn in range(ROUNDS + 1):
        for name, once in (("ours", ours), ("bare", theirs)):
            for _ in range(EACH):
                took = await once()
                if turn:  # the first round only warms
                    found[name].append(took)
                await asyncio.sleep(PAUSE)
    return found


async def main(folder: Path) -> None:
    async with ground.database():
        pass
    from workers.catalogue import project

    await asyncio.to_thread(project, ground.state_settings().database_url)
    notes = folder / "entered"
    notes.touch()
    traced = {"PYTHONPATH": os.pathsep.join([str(SITE), str(ROOT)]), TRACES: str(folder)}
    with ExitStack() as stack:
        url, _ = stack.enter_context(ground.trellis())
        stack.enter_context(ground.process("server.cli", "worker", **traced))
        stack.enter_context(ground.process("arq", "tests.benchmarks.bare_arq.Settings", **{bare_arq.ENTERED: str(notes)}))
        client = Client(url, ground.TOKEN)
        version = await client.ingest("latency", CSV)
        pipeline = (await client.create_pipeline("latency", ("data", "dataset", {}), ("scale", "scale", {})))["pipeline"]["id"]
        pool = await create_pool(RedisSettings.from_dsn(ground.state_settings().redis_url))
        numbers = iter(range(1_000_000))

        async def ours() -> tuple[float, float]:
            asked = time.monotonic()
            job = (await client.run_pipeline(pipeline, version))["job"]["id"]
            answered = time.monotonic()
            its = decode("job", job)
            at = await entered(lambda: next((each.started for each in executions(folder) if each.job == its), None))
            await client.wait(job)
            return (answered - asked) * 1000, (at - answered) * 1000

        async def theirs() -> tuple[float, float]:
            number = next(numbers)
            asked = time.monotonic()
            assert await pool.enqueue_job("enter", number, _queue_name=bare_arq.QUEUE) is not None
            answered = time.monotonic()

            def look() -> float | None:
                noted = dict(line.split() for line in notes.read_text().splitlines())
                return float(noted[str(number)]) if str(number) in noted else None

            return (answered - asked) * 1000, (await entered(look) - answered) * 1000

        found = await measured(ours, theirs)
        await pool.aclose()
        await client.close()
    print(f"{'':<52} {'p50 ms':>8} {'p95 ms':>8}")
    for title, name in (("runPipeline", "ours"), ("arq.enqueue_job", "bare")):
        for what, values in (
            ("answered after", [answered for answered, _ in found[name]]),
            ("answered, then the body entered after", [wait for _, wait in found[name]]),
            ("asked, then the body entered after", [answered + wait for answered, wait in found[name]]),
        ):
            print(f"{f'{title}: {what}':<52} {median(values):>8.1f} {quantiles(values, n=20)[-1]:>8.1f}")
    waits = {name: median(wait for _, wait in values) for name, values in found.items()}
    print(f"ratio of the medians, answered to entered: {waits['ours'] / waits['bare']:.2f}x of bare arq; ours to reach: <= 30 ms")


if __name__ == "__main__":
    with ground.servers(), tempfile.TemporaryDirectory(prefix="trellis-latency-") as made:
        asyncio.run(main(Path(made)))
