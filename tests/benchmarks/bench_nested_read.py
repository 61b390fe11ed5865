"""50 datasets, each with its owner, 3 versions and 5 jobs, over HTTP: ours against stock Strawberry with DataLoaders.

Both servers run on the same PostgreSQL and are measured alternately, so that other load on the machine affects both.
"""

from __future__ import annotations

import asyncio
import time
from statistics import median
from typing import Any

import httpx
from sqlalchemy import text

from db.core.work import Database
from tests.benchmarks import deployment

QUERY = """{ datasets(first: 50) { edges { node { id name createdAt owner { id username }
  versions(first: 3) { edges { node { id number status createdAt } } }
  jobs(first: 5) { edges { node { id kind status progress createdAt } } } } } } }"""
ROUNDS, SECONDS = 5, 2.0

ROWS = (
    "INSERT INTO datasets (owner_id, name, modality, source) SELECT u.id, 'd' || i, 'tabular', 'upload' FROM users u, generate_series(1, 200) i",
    "INSERT INTO dataset_versions (dataset_id, number, status, source) SELECT d.id, n, 'ready', 'upload' FROM datasets d, generate_series(1, 4) n",
    "SET session_replication_role = replica",  # a trigger rejects jobs that are inserted in a terminal state
    (
        "INSERT INTO jobs (owner_id, kind, status, queue, dataset_id, completed_at)"
        " SELECT d.owner_id, 'profile', 'completed', 'default', d.id, now() FROM datasets d, generate_series(1, 8)"
    ),
    "RESET session_replication_role",
    "ANALYZE",
)


async def fill(state: Database) -> None:
    async with state.read() as connection:
        for statement in ROWS:
            await connection.execute(text(statement))


async def rate(url: str, clients: int, seconds: float) -> tuple[float, float]:
    """Return (requests a second, median seconds of a request) with `clients` concurrent clients."""
    times: list[float] = []
    async with httpx.AsyncClient(
        base_url=url, headers={"authorization": f"Bearer {deployment.TOKEN}"}, limits=httpx.Limits(max_connections=clients)
    ) as http:
        deadline = time.perf_counter() + seconds

        async def ask() -> None:
            while (started := time.perf_counter()) < deadline:
                answer = await http.post("/graphql", json={"query": QUERY})
                assert answer.status_code == 200
                times.append(time.perf_counter() - started)

        started = time.perf_counter()
        await asyncio.gather(*(ask() for _ in range(clients)))
        return len(times) / (time.perf_counter() - started), median(times)


async def answers(*urls: str) -> list[object]:
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {deployment.TOKEN}"}) as http:
        return [(await http.post(f"{url}/graphql", json={"query": QUERY})).json()["data"] for url in urls]


def _without_times(value: Any) -> Any:
    """The response without `createdAt`, which the two write with different offsets."""
    if isinstance(value, dict):
        return {key: _without_times(inner) for key, inner in value.items() if key != "createdAt"}
    return [_without_times(inner) for inner in value] if isinstance(value, list) else value


async def main() -> None:
    async with deployment.database() as state:
        await fill(state)
    with deployment.api("server.app:create_app", "--factory") as ours, deployment.api("tests.benchmarks.stock_strawberry:app") as stock:
        mine, theirs = await answers(ours, stock)
        if _without_times(mine) != _without_times(theirs):
            raise SystemExit("the two answers differ, so their times do not compare")
        print(f"{'clients':>8} {'ours req/s':>11} {'p50 ms':>7} {'stock req/s':>12} {'p50 ms':>7} {'ratio':>6}")
        for clients in (1, 8):
            await asyncio.gather(rate(ours, 1, 0.5), rate(stock, 1, 0.5))
            rounds = [(await rate(ours, clients, SECONDS), await rate(stock, clients, SECONDS)) for _ in range(ROUNDS)]
            ratios = sorted(our[0] / their[0] for our, their in rounds)
            our, their = rounds[len(rounds) // 2]
            print(f"{clients:>8} {our[0]:>11.1f} {our[1] * 1000:>7.1f} {their[0]:>12.1f} {their[1] * 1000:>7.1f} {median(ratios):>5.2f}x")


if __name__ == "__main__":
    with deployment.servers():
        asyncio.run(main())
