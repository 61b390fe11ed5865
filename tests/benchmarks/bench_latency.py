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

EVENTS = "query($id: ID!) { job(id: $id) { events(first: 100) { edges { node { type createdAt } } } } }"


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
        after: dict[str, list[float]] = {"STARTED": [], "STEP_STARTED": []}
        for _ in range(JOBS):
            began = time.perf_counter()
            job = (await client.run_pipeline(pipeline, version))["job"]["id"]
            moment = datetime.now(UTC)
            answered.append((time.perf_counter() - began) * 1000)
            await client.wait(job)
            events = (await client.one(EVENTS, id=job))["events"]["edges"]
            for type_, waits in after.items():
                first = next(edge["node"]["createdAt"] for edge in events if edge["node"]["type"] == type_)
                waits.append((datetime.fromisoformat(first) - moment).total_seconds() * 1000)
        await client.close()
    print(f"{'':<44} {'p50 ms':>8} {'p95 ms':>8}")
    for name, values in (
        ("runPipeline answered after", answered),
        ("then the job is claimed after", after["STARTED"]),
        ("then its first step has been told after", after["STEP_STARTED"]),
    ):
        print(f"{name:<44} {median(values):>8.1f} {quantiles(values, n=20)[-1]:>8.1f}")
    print(f"ratio of the wait for a worker to the mutation itself: {median(after['STARTED']) / median(answered):.2f}x")


if __name__ == "__main__":
    with ground.servers():
        asyncio.run(main())
