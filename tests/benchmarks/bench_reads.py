"""Five reads over HTTP: ours against PostGraphile and against one SQL statement that makes the whole response, which is the limit.

The servers share a PostgreSQL and are measured alternately in short rounds, after their answers were compared. Ours has a viewer, policies,
limits and logs; the others have none. Where the schema of PostGraphile has no such read, only the statement is compared.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import asyncpg
import httpx
import uvloop

from tests.benchmarks import deployment, scale_data
from tests.benchmarks.bench_nested_read import port_of, postgraphile
from tests.benchmarks.raw_client import rate, request

JOBS = int(os.environ.get("TRELLIS_BENCH_READS_JOBS", "4000"))
ROUNDS = int(os.environ.get("TRELLIS_BENCH_READS_ROUNDS", "9"))
SECONDS = 0.6
CLIENTS = (1, 8, 32)
VARIABLES = 50  # different ones, which the requests have in turn


@dataclass(frozen=True)
class Read:
    """A read by each server's query; `ids` selects the values of its variable `$id`."""

    name: str
    ours: str
    theirs: str | None = None
    ids: str | None = None
    prefix: str = ""
    has_statement: bool = True

    def variables(self, ids: Sequence[Any], server: str) -> Sequence[Mapping[str, Any] | None]:
        if self.ids is None:
            return (None,)
        return [{"id": str(value) if server == "PostGraphile" else f"{self.prefix}_{value.hex}"} for value in ids]


READS = (
    Read(
        "one row by id",
        "query OneRow($id: ID!) { dataset(id: $id) { id name modality } }",
        "query OneRow($id: UUID!) { datasetByRowId(rowId: $id) { rowId name modality } }",
        "SELECT id FROM datasets ORDER BY id LIMIT $1",
        "dataset",
    ),
    Read(
        "flat page of 100 rows",
        "query FlatPage { jobs(first: 100) { edges { node { id kind status progress } } } }",
        "query FlatPage { allJobs(first: 100, orderBy: [CREATED_AT_DESC, PRIMARY_KEY_DESC]) { edges { node { rowId kind status progress } } } }",
    ),
    Read(
        "three levels with totalCounts",
        """query ThreeLevels { datasets(first: 20) { totalCount edges { node { id name
          versions(first: 3) { totalCount edges { node { id number jobs(first: 3) { totalCount edges { node { id kind status } } } } } } } } } }""",
        """query ThreeLevels { allDatasets(first: 20, orderBy: [PRIMARY_KEY_DESC]) { totalCount edges { node { rowId name
          datasetVersionsByDatasetId(first: 3, orderBy: [NUMBER_DESC]) { totalCount edges { node { rowId number
            jobsByDatasetVersionId(first: 3, orderBy: [CREATED_AT_DESC]) { totalCount edges { node { rowId kind status } } } } } } } } } }""",
    ),
    Read(
        "50 runs by a metric, with 5 metrics each",
        """query RunTable($id: ID!) { experiment(id: $id) { runs(first: 50, orderBy: {by: {metric: "loss"}, direction: ASC}) {
          edges { node { id number status metrics { key last } } } } } }""",
        None,
        "SELECT id FROM experiments ORDER BY id LIMIT $1",
        "experiment",
    ),
    Read(
        "lineage of 200 nodes",
        """query Lineage($id: ID!) { lineage(id: $id, maxNodes: 200) { isPartial nodes { nodeId kind label } edges { source target relation } } }""",
        None,
        "SELECT id FROM dataset_versions ORDER BY id LIMIT least($1, 1)",
        "version",
        has_statement=False,
    ),
)


def values(answer: Any) -> Iterator[str]:
    """The values of an answer in their order, in one spelling: ids as hexadecimal digits, and in upper case."""
    if isinstance(answer, dict):
        for inner in answer.values():
            yield from values(inner)
    elif isinstance(answer, list):
        for inner in answer:
            yield from values(inner)
    else:
        text = str(answer).upper()
        yield re.sub(r"^[A-Z]+_(?=[0-9A-F]{32}$)", "", text if re.search("[^0-9A-F-]", text) else text.replace("-", ""))


def answer(url: str, query: str, variables: Mapping[str, Any] | None) -> Any:
    body = {"query": query, "variables": variables}
    answered = httpx.post(f"{url}/graphql", json=body, headers={"authorization": f"Bearer {deployment.TOKEN}"}, timeout=60).json()
    if answered.get("errors"):
        raise SystemExit(f"{url}: {answered['errors'][0]['message']}")
    return answered["data"]


async def measure(read: Read, servers: Mapping[str, tuple[str, str]], ids: Sequence[Any]) -> None:
    """Print a row for each number of clients and server."""
    for clients in CLIENTS:
        rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
        for number in range(ROUNDS + 1):
            for name, (url, query) in servers.items():
                sent = [request(query, variables) for variables in read.variables(ids, name)]
                measured = await rate(port_of(url), sent, clients, SECONDS, 100)
                if number:  # the first round warms up
                    rounds[name].append(measured)
        for name, its_rounds in rounds.items():
            ratio = median(ours[0] / its[0] for ours, its in zip(rounds["ours"], its_rounds, strict=True))
            requests, seconds = (median(column) for column in zip(*its_rounds, strict=True))
            print(f"{read.name:<42} {clients:>7} {name:>14} {requests:>8.1f} {seconds * 1000:>7.1f} {ratio:>9.2f}x", flush=True)


async def _prepare() -> dict[str, list[Any]]:
    await scale_data.fill(os.environ["TRELLIS_DATABASE_URL"], scale_data.Size(JOBS))
    async with deployment.database():
        pass
    connect: Any = asyncpg.connect
    connection = await connect(os.environ["TRELLIS_DATABASE_URL"])
    found = {read.name: [row[0] for row in await connection.fetch(read.ids, VARIABLES)] for read in READS if read.ids is not None}
    await connection.close()
    return found


def main() -> None:
    ids = asyncio.run(_prepare())
    with (
        deployment.trellis_api() as (ours, _),
        deployment.api("tests.benchmarks.sql_statements:app") as statements,
        postgraphile() as postgraphile_port,
    ):
        print(f"{'read':<42} {'clients':>7} {'server':>14} {'req/s':>8} {'p50 ms':>7} {'ours / it':>10}")
        for read in READS:
            servers = {"ours": (ours, read.ours)}
            if read.theirs is not None:
                servers["PostGraphile"] = f"http://127.0.0.1:{postgraphile_port}", read.theirs
            if read.has_statement:
                servers["one statement"] = statements, read.ours
            answers = {
                name: list(values(answer(url, query, read.variables(ids.get(read.name, ()), name)[0])))
                for name, (url, query) in servers.items()
            }
            if differing := [name for name in answers if answers[name] != answers["ours"]]:
                pairs = [(mine, its) for mine, its in zip(answers["ours"], answers[differing[0]], strict=False) if mine != its]
                raise SystemExit(f"{read.name}: the answers of ours and {differing[0]} differ: {pairs[:3]}")
            uvloop.run(measure(read, servers, ids.get(read.name, ())))


if __name__ == "__main__":
    with deployment.servers():
        main()
        sys.stdout.flush()
