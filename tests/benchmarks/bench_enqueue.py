"""`runPipeline` through GraphQL by several concurrent clients, against plain `arq.enqueue_job` from as many tasks.

Ours commits the job, its inputs, its run and its first event to PostgreSQL before it responds; arq's jobs are lost with Redis. For
comparison, the cost of any HTTP response here: the same clients, requesting a Starlette route that does nothing.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from statistics import median

import httpx
from arq import create_pool
from arq.connections import RedisSettings
from sqlalchemy import text

from tests.benchmarks import deployment
from tests.benchmarks.bench_fanout import cpu_seconds
from tests.client import Client

CLIENTS = 8
ROUNDS = 3
CALLS = 500  # in each round
WARMUP_CALLS = 100
CSV = "x,y\n" + "".join(f"{i},{i % 5}\n" for i in range(200))
RUN = """mutation($input: RunPipelineInput!) { runPipeline(input: $input) { __typename ... on RunPipelinePayload { job { id } }
    ... on Problem { code message } } }"""
COMMITTED = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"


async def rate(clients: int, total: int, call: Callable[[int], Awaitable[None]]) -> tuple[float, float]:
    """Return the calls a second by `clients` concurrent clients, and the median duration of a call in ms."""
    numbers = iter(range(total))
    latencies: list[float] = []

    async def work() -> None:
        for number in numbers:
            started = time.perf_counter()
            await call(number)
            latencies.append((time.perf_counter() - started) * 1000)

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(clients)))
    return total / (time.perf_counter() - started), median(latencies)


async def main() -> None:
    async with deployment.database() as database:
        from workers.catalogue import project_steps_sync

        await asyncio.to_thread(project_steps_sync, deployment.state_settings().database_url)
        with deployment.trellis_api() as (url, pid), deployment.api("tests.benchmarks.bare_starlette:app") as bare_url:
            client = Client(url, deployment.TOKEN)
            with deployment.run_process("server.cli", "worker"):
                version = await client.ingest("enqueue", CSV)
            pipeline = (await client.create_pipeline("enqueue", ("data", "dataset", {}), ("scale", "scale", {})))["pipeline"]["id"]
            outcomes: Counter[str] = Counter()

            async def enqueue(_number: int) -> None:
                answer = await client.one(RUN, input={"pipelineId": pipeline, "datasetVersionId": version})
                outcomes[answer["__typename"]] += 1

            pool = await create_pool(RedisSettings.from_dsn(deployment.state_settings().redis_url))

            async def enqueue_bare(number: int) -> None:
                assert await pool.enqueue_job("run", number, _queue_name="bare") is not None

            async with httpx.AsyncClient(base_url=bare_url) as http:

                async def get_empty(_number: int) -> None:
                    assert (await http.get("/sockets/count")).text == "0"

                await rate(CLIENTS, WARMUP_CALLS, get_empty)
                over_http = await rate(CLIENTS, CALLS, get_empty)

            for call in (enqueue, enqueue_bare):
                await rate(CLIENTS, WARMUP_CALLS, call)
            outcomes.clear()
            committed_before = (await database.rows(text(COMMITTED)))[0][0]
            rounds: list[tuple[tuple[float, float], tuple[float, float]]] = []
            cpu_total = 0.0
            for _ in range(ROUNDS):
                cpu_before = cpu_seconds(pid)
                ours = await rate(CLIENTS, CALLS, enqueue)
                cpu_total += cpu_seconds(pid) - cpu_before
                rounds.append((ours, await rate(CLIENTS, CALLS, enqueue_bare)))
            await asyncio.sleep(1.5)  # PostgreSQL updates its transaction counters with a delay
            transactions = ((await database.rows(text(COMMITTED)))[0][0] - committed_before) / (ROUNDS * CALLS)
            assert outcomes == {"RunPipelinePayload": ROUNDS * CALLS}, outcomes
            await pool.aclose()
            await client.close()
    print(f"{'':<36} {'a second':>9} {'p50 ms':>7}")
    for index, label in enumerate((f"runPipeline, {CLIENTS} clients", f"arq.enqueue_job, {CLIENTS} tasks")):
        print(f"{label:<36} {median(each[index][0] for each in rounds):>9,.0f} {median(each[index][1] for each in rounds):>7.1f}")
    print(f"{f'a GET that does nothing, {CLIENTS} clients':<36} {over_http[0]:>9,.0f} {over_http[1]:>7.1f}")
    ratios = [mine[0] / theirs[0] for mine, theirs in rounds]
    print(
        f"ratio: {median(ratios):.2f}x, the median of {', '.join(f'{each:.2f}' for each in ratios)} (0.5x is out of reach: ADR 15),"
        f" {median(mine[0] for mine, _ in rounds) / over_http[0]:.2f}x of the empty route;"
        f" {cpu_total / (ROUNDS * CALLS) * 1000:.1f} ms of the API's CPU and {transactions:.1f} transactions a mutation"
    )


if __name__ == "__main__":
    os.environ["TRELLIS_RATE_LIMIT_FREE"] = "0"
    with deployment.servers():
        asyncio.run(main())
