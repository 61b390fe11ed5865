"""From the answer of `runPipeline` to the worker's body being entered, on an idle worker; and how long the mutation itself takes."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from statistics import median, quantiles

from tests.benchmarks import ground
from tests.client import Client

JOBS = 60
CSV = "x,y\n" + "".join(f"{i},{i % 5}\n" for i in range(200))


async def main() -> None:
    async with ground.database():
        pass
    from workers.catalogue import project

    await asyncio.to_thread(project, ground.state_settings().database_url)
    with ground.api("server.app:create_app", "--factory") as url, ground.process("server.cli", "worker"):
        client = Client(url, ground.TOKEN)
        version = await client.ingest("latency", CSV)
        pipeline = (await client.create_pipeline("latency", ("data", "dataset", {}), ("scale", "scale", {})))["pipeline"]["id"]
        answered: list[float] = []
        started: list[float] = []
        for _ in range(JOBS):
            began = time.perf_counter()
            job = (await client.run_pipeline(pipeline, version))["job"]["id"]
            moment = datetime.now(UTC)
            answered.append((time.perf_counter() - began) * 1000)
            await client.wait(job)
            events = client.events(job)
            entered = [event async for event in events if event["type"] == "STEP_STARTED"]
            attempts = await client.one(
                "query($id: ID!) { job(id: $id) { attempts { startedAt } events(first: 100) { edges { node { type createdAt } } } } }",
                id=job,
            )
            times = [
                edge["node"]["createdAt"] for edge in attempts["events"]["edges"] if edge["node"]["type"] in {"STARTED", "STEP_STARTED"}
            ]
            started.append((datetime.fromisoformat(times[0]) - moment).total_seconds() * 1000)
            assert entered is not None
        await client.close()
    print(f"{'':<38} {'p50 ms':>8} {'p95 ms':>8}")
    for name, values in (("runPipeline answered after", answered), ("then claimed after", started)):
        print(f"{name:<38} {median(values):>8.1f} {quantiles(values, n=20)[-1]:>8.1f}")
    print(f"ratio of the wait to the mutation itself: {median(started) / median(answered):.2f}x")


if __name__ == "__main__":
    with ground.servers():
        asyncio.run(main())
