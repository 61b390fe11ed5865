"""50 datasets, each with its owner, 3 versions and 5 jobs, over HTTP: ours against PostGraphile, stock Strawberry with DataLoaders, and one SQL
statement, which is the limit.

All servers run on the same PostgreSQL and are measured alternately in short rounds, so that other load on the machine affects all. The variables
differ from request to request. Ours has a viewer, policies, a rate limit, logs and metrics; PostGraphile and the statement have none.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import uvloop
from sqlalchemy import text

from db.core.work import Database
from tests.benchmarks import deployment
from tests.benchmarks.raw_client import rate, request
from tests.clients import node

QUERY = """query($first: Int!) { datasets(first: $first) { edges { node { id name createdAt owner { id username }
  versions(first: 3) { edges { node { id number status createdAt } } }
  jobs(first: 5) { edges { node { id kind status progress createdAt } } } } } } }"""
POSTGRAPHILE_QUERY = """query($first: Int!) { allDatasets(first: $first, orderBy: [PRIMARY_KEY_DESC]) { edges { node { id name createdAt userByOwnerId { id username }
  datasetVersionsByDatasetId(first: 3, orderBy: [NUMBER_DESC]) { edges { node { id number status createdAt } } }
  jobsByDatasetId(first: 5, orderBy: [CREATED_AT_DESC]) { edges { node { id kind status progress createdAt } } } } } } }"""
POSTGRAPHILE = Path(__file__).parent / "postgraphile"
FIRST = 50
PAGE_SIZES = (50, 48, 52, 49, 51)  # one after the other
ROUNDS, SECONDS = 9, 0.8
RATE_LIMIT = "100000000"  # points a minute, which no client of the benchmark reaches
SHORTEST = 60_000  # bytes of a response with all rows

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


async def answers(*urls: str) -> list[object]:
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {deployment.TOKEN}"}) as http:
        return [(await http.post(f"{url}/graphql", json={"query": QUERY, "variables": {"first": FIRST}})).json()["data"] for url in urls]


def _without_times(value: Any) -> Any:
    """The response without `createdAt`, which the two write with different offsets."""
    if isinstance(value, dict):
        return {key: _without_times(inner) for key, inner in value.items() if key != "createdAt"}
    return [_without_times(inner) for inner in value] if isinstance(value, list) else value


@contextmanager
def postgraphile() -> Generator[int]:
    """Serve PostGraphile in a process of Node; yield its port. Its packages are installed on first use."""
    if not (POSTGRAPHILE / "node_modules").exists() and node.install(POSTGRAPHILE) != 0:
        raise SystemExit("npm could not install PostGraphile.")
    port = deployment.free_port()
    environment = node.environment(PORT=str(port), NODE_ENV="production")
    with deployment.run_command([str(node.NODE / "node"), str(POSTGRAPHILE / "server.mjs")], environment):
        deployment.wait_until_served(f"http://127.0.0.1:{port}")
        yield port


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


async def measure(servers: dict[str, tuple[int, str]]) -> None:
    print(f"{'clients':>8} {'server':>14} {'req/s':>8} {'p50 ms':>7} {'ours / it':>10}")
    for clients in (1, 8, 32):
        rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
        for number in range(ROUNDS + 1):
            for name, (port, query) in servers.items():
                requests = [request(query, {"first": size}) for size in PAGE_SIZES]
                measured = await rate(port, requests, clients, SECONDS, SHORTEST)
                if number:  # the first round warms up
                    rounds[name].append(measured)
        for name, measured_rounds in rounds.items():
            ratio = median(ours[0] / its[0] for ours, its in zip(rounds["ours"], measured_rounds, strict=True))
            requests, seconds = (median(values) for values in zip(*measured_rounds, strict=True))
            print(f"{clients:>8} {name:>14} {requests:>8.1f} {seconds * 1000:>7.1f} {ratio:>9.2f}x")


async def prepare() -> None:
    async with deployment.database() as state:
        await fill(state)


def main() -> None:
    asyncio.run(prepare())
    os.environ.update(dict.fromkeys(deployment.UNLIMITED, RATE_LIMIT))
    with (
        deployment.trellis_api() as (ours, _),
        deployment.api("tests.benchmarks.stock_strawberry:app") as stock,
        deployment.api("tests.benchmarks.one_statement:app") as statement,
        postgraphile() as postgraphile_port,
    ):
        mine, theirs = asyncio.run(answers(ours, stock))
        if _without_times(mine) != _without_times(theirs):
            raise SystemExit("the two answers differ, so their times do not compare")
        servers = {
            "ours": (port_of(ours), QUERY),
            "PostGraphile": (postgraphile_port, POSTGRAPHILE_QUERY),
            "stock": (port_of(stock), QUERY),
            "one statement": (port_of(statement), QUERY),
        }
        uvloop.run(measure(servers))


if __name__ == "__main__":
    with deployment.servers():
        main()
        sys.stdout.flush()
