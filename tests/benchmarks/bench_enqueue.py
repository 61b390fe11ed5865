"""`runPipeline` through GraphQL by several clients at once, against `arq.enqueue_job` alone from as many tasks.

Ours commits the job, its inputs, its run and its first event to PostgreSQL before it answers; arq's word is lost with Redis. Between the two
stands what any answer over HTTP costs here: the same clients, asking a Starlette route that does nothing.
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

from tests.benchmarks import ground
from tests.benchmarks.bench_fanout import cpu
from tests.client import Client

CLIENTS = 8
ROUNDS = 3
MANY = 500  # in each round
FEW = 100
CSV = "x,y\n" + "".join(f"{i},{i % 5}\n" for i in range(200))
RUN = """mutation($input: RunPipelineInput!) { runPipeline(input: $input) { __typename ... on RunPipelinePayload { job { id } }
    ... on Problem { code message } } }"""
COMMITTED = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"


async def rate(clients: int, total: int, once: Callable[[int], Awaitable[None]]) -> tuple[float, float]:
    """Calls a second by so many at once, and the median of how long each took, in ms."""
    left = iter(range(total))
    took: list[float] = []

    async def work() -> None:
        for number in left:
            began = time.perf_counter()
            await once(number)
            took.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(clients)))
    return total / (time.perf_counter() - began), median(took)


async def main() -> None:
    async with ground.database() as database:
        from workers.catalogue import project

        await asyncio.to_thread(project, ground.state_settings().database_url)
        with ground.trellis() as (url, pid), ground.api("tests.benchmarks.bare:app") as nothing_url:
            client = Client(url, ground.TOKEN)
            with ground.process("server.cli", "worker"):
                version = await client.ingest("enqueue", CSV)
            pipeline = (await client.create_pipeline("enqueue", ("data", "dataset", {}), ("scale", "scale", {})))["pipeline"]["id"]
            outcomes: Counter[str] = Counter()

            async def enqueue(_number: int) -> None:
                answer = await client.one(RUN, input={"pipelineId": pipeline, "datasetVersionId": version})
                outcomes[answer["__typename"]] += 1

            pool = await create_pool(RedisSettings.from_dsn(ground.state_settings().redis_url))

            async def bare(number: int) -> None:
                assert await pool.enqueue_job("run", number, _queue_name="bare") is not None

            async with httpx.AsyncClient(base_url=nothing_url) as http:

                async def nothing(_number: int) -> None:
                    assert (await http.get("/sockets/count")).text == "0"

                await rate(CLIENTS, FEW, nothing)
                over_http = await rate(CLIENTS, MANY, nothing)

            for once in (enqueue, bare):
                await rate(CLIENTS, FEW, once)
            outcomes.clear()
            before = (await database.rows(text(COMMITTED)))[0][0]
            rounds: list[tuple[tuple[float, float], tuple[float, float]]] = []
            cost = 0.0
            for _ in range(ROUNDS):
                used = cpu(pid)
                ours = await rate(CLIENTS, MANY, enqueue)
                cost += cpu(pid) - used
                rounds.append((ours, await rate(CLIENTS, MANY, bare)))
            await asyncio.sleep(1.5)  # the server counts its transactions a moment later
            transactions = ((await database.rows(text(COMMITTED)))[0][0] - before) / (ROUNDS * MANY)
            assert outcomes == {"RunPipelinePayload": ROUNDS * MANY}, outcomes
            await pool.aclose()
            await client.close()
    print(f"{'':<36} {'a second':>9} {'p50 ms':>7}")
    for place, what in enumerate((f"runPipeline, {CLIENTS} clients", f"arq.enqueue_job, {CLIENTS} tasks")):
        print(f"{what:<36} {median(each[place][0] for each in rounds):>9,.0f} {median(each[place][1] for each in rounds):>7.1f}")
    print(f"{f'a GET that does nothing, {CLIENTS} clients':<36} {over_http[0]:>9,.0f} {over_http[1]:>7.1f}")
    ratios = [mine[0] / theirs[0] for mine, theirs in rounds]
    print(
        f"ratio: {median(ratios):.2f}x, the median of {', '.join(f'{each:.2f}' for each in ratios)} (0.5x is out of reach: ADR 15),"
        f" {median(mine[0] for mine, _ in rounds) / over_http[0]:.2f}x of the empty route;"
        f" {cost / (ROUNDS * MANY) * 1000:.1f} ms of the API's CPU and {transactions:.1f} transactions a mutation"
    )


if __name__ == "__main__":
    os.environ["TRELLIS_RATE_LIMIT_FREE"] = "0"
    with ground.servers():
        asyncio.run(main())
