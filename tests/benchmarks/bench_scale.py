"""Every list with each filter, order and page, in a database of 200 thousand jobs and 2 million runs against one of a hundredth of that.

Both are measured alternately, over HTTP, as an owner, as one with a tenth of all rows, and as an admin. The table has what takes longer in the
large database than 1.5 times as in the small one, the worst first, with its plan. `totalCount` counts, so it has a table of its own. The
number of jobs is 200,000 unless `TRELLIS_BENCH_SCALE_JOBS` is set.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import Any

import asyncpg
import orjson

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.migrations import upgrade
from db.services import accounts
from db.settings import StateSettings
from tests.benchmarks import deployment, scale_data
from tests.list_operations import Operation, Parents, deep_cursor, operations

JOBS = int(os.environ.get("TRELLIS_BENCH_SCALE_JOBS", str(scale_data.FULL)))
FLAT, LIMIT = 1.5, 5.0
VIEWERS: Mapping[str, str] = {"admin": deployment.TOKEN, **scale_data.TOKENS}
SCREENED, AGAIN = 2, 9  # times: all operations, and those that seem not to be flat
APP = "tests.benchmarks.scale_server:app"
CERTAIN = 200  # milliseconds; what takes longer is not flat by chance
CONFIRMED, SHOWN = 300, 60  # rows of the table with plans


class Refused(Exception):
    """An operation has errors."""


@dataclass
class Server:
    """One API, its keep-alive connection and the ids that each viewer's operations use."""

    port: int
    url: str
    ids: Mapping[str, Parents]

    def __post_init__(self) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", self.port)

    def post(self, path: str, body: bytes = b"", token: str = "") -> bytes:
        headers = {"content-type": "application/json", "accept": "application/json", "authorization": f"Bearer {token}"}
        self._connection.request("POST", path, body, headers)
        response = self._connection.getresponse()
        content = response.read()
        if response.status >= 300:
            raise SystemExit(f"{response.status}: {content[:500].decode()}\n{body.decode()}")
        return content

    def execute(self, body: bytes, token: str) -> dict[str, Any]:
        answer = orjson.loads(self.post("/graphql", body, token))
        if answer.get("errors"):
            raise Refused(answer["errors"][0]["message"])
        return answer["data"]

    def seconds(self, body: bytes, token: str) -> float:
        started_at = time.perf_counter()
        self.post("/graphql", body, token)
        return time.perf_counter() - started_at

    def plans(self, body: bytes, token: str) -> list[dict[str, Any]]:
        """The plans of the operation's statements."""
        self.post("/forget")
        self.execute(body, token)
        return orjson.loads(self.post("/plans"))


@dataclass
class Measured:
    """An operation's milliseconds in both databases."""

    viewer: str
    operation: Operation
    bodies: tuple[bytes, bytes]  # small, large
    small: float
    large: float

    @property
    def factor(self) -> float:
        return self.large / self.small


def body_of(server: Server, viewer: str, operation: Operation) -> bytes | None:
    """The request of an operation; None for a deep page of an empty list."""
    body = orjson.dumps(operation.request())
    if operation.page != "deep":
        return body
    data: Any = server.execute(body, VIEWERS[viewer])
    while "edges" not in data:
        (data,) = data.values()
    if not data["edges"]:
        return None
    return orjson.dumps(operation.request(deep_cursor(data["edges"][0]["cursor"])))


def alternate(servers: Sequence[Server], bodies: Sequence[bytes], viewer: str, times: int) -> tuple[float, float]:
    """The milliseconds in each database: the median, or the least of few."""
    token = VIEWERS[viewer]
    for server, body in zip(servers, bodies, strict=True):
        server.execute(body, token)
    rounds = [[server.seconds(body, token) * 1000 for server, body in zip(servers, bodies, strict=True)] for _ in range(times)]
    small, large = ((min if times <= SCREENED else median)(values) for values in zip(*rounds, strict=True))
    return small, large


def measure(servers: Sequence[Server], places: Sequence[str]) -> Iterator[Measured]:
    """Measure all lists, or those of these places."""
    for viewer in VIEWERS:
        for small, large in zip(*(operations(server.ids[viewer]) for server in servers), strict=True):
            if places and large.place not in places:
                continue
            try:
                bodies = [body_of(server, viewer, operation) for server, operation in zip(servers, (small, large), strict=True)]
                if None not in bodies:
                    pair: Any = tuple(bodies)
                    yield Measured(viewer, large, pair, *alternate(servers, pair, viewer, SCREENED))
            except Refused as error:
                print(f"REFUSED {viewer}: {large}: {error}", flush=True)


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


def summary(explained: Sequence[Mapping[str, Any]]) -> tuple[int, str]:
    """The buffers of the statements, and how they read their tables: the scans that took most rows."""
    buffers, scans = 0, list[tuple[int, str]]()
    for statement in explained:
        plan = orjson.loads(statement["plan"])[0]["Plan"]
        buffers += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        for node in nodes(plan):
            removed = node.get("Rows Removed by Filter", 0) * node["Actual Loops"]
            rows = round(node["Actual Rows"] * node["Actual Loops"])
            if rows + removed > 100:
                name = node.get("Index Name") or node.get("Relation Name") or ""
                scans.append((rows + removed, f"{node['Node Type']} {name} {rows:,} rows" + (f", {removed:,} removed" if removed else "")))
    return buffers, "; ".join(text for _, text in sorted(scans, reverse=True)[:4])


def report(servers: Sequence[Server], all_measured: Sequence[Measured], flat: float) -> None:
    pages = [measured for measured in all_measured if measured.operation.selection != "totalCount"]
    slow = sorted((measured for measured in pages if measured.factor > flat), key=lambda measured: -measured.factor)
    for measured in slow[:CONFIRMED]:
        if measured.large < CERTAIN:
            measured.small, measured.large = alternate(servers, measured.bodies, measured.viewer, AGAIN)
    slow = sorted((measured for measured in slow if measured.factor > flat), key=lambda measured: -measured.factor)
    print(f"{len(pages)} lists; {len(slow)} above {flat}x, {sum(measured.factor > LIMIT for measured in slow)} above {LIMIT:g}x")
    for measured in slow[:SHOWN]:
        plans = [summary(server.plans(body, VIEWERS[measured.viewer])) for server, body in zip(servers, measured.bodies, strict=True)]
        print(
            f"{measured.factor:>7.2f}x {measured.small:>7.1f} -> {measured.large:>8.1f} ms, {plans[0][0]:>6,} -> {plans[1][0]:>8,} buffers"
            f"  {measured.viewer}: {measured.operation}\n{'':>10}{plans[1][1]}"
        )
    by_place: dict[tuple[str, str], list[Measured]] = {}
    for measured in slow:
        by_place.setdefault((measured.operation.place, "+".join(measured.operation.filter) or "-"), []).append(measured)
    for (place, filtered), group in sorted(by_place.items(), key=lambda entry: -max(m.factor for m in entry[1])):
        print(f"{max(m.factor for m in group):>7.2f}x {place} {filtered}: {len(group)}")
    counts = sorted((m for m in all_measured if m.operation.selection == "totalCount"), key=lambda measured: -measured.large)
    print(f"{len(counts)} totalCounts; the slowest:")
    for measured in counts[:10]:
        print(f"{measured.factor:>7.2f}x {measured.small:>7.1f} -> {measured.large:>8.1f} ms  {measured.viewer}: {measured.operation}")


async def parents_of(url: str) -> dict[str, Parents]:
    """The first rows of the heavy owner, which the admin uses too, and of the light one."""
    connect: Any = asyncpg.connect
    connection = await connect(url)
    tables = {
        "dataset": "datasets",
        "pipeline": "pipelines",
        "experiment": "experiments",
        "model": "models",
        "job": "jobs",
        "run": "runs",
        "tag": "tags",
        "study": "studies",
    }
    try:
        found: dict[str, Parents] = {}
        for viewer, name in (("owner", scale_data.LIGHT), ("heavy owner", scale_data.HEAVY), ("admin", scale_data.HEAVY)):
            owner = await connection.fetchval("SELECT id FROM users WHERE username = $1", name)
            ids = {"user": f"user_{owner.hex}"}
            for key, table in tables.items():
                first = await connection.fetchval(f"SELECT id FROM {table} WHERE owner_id = $1 ORDER BY id LIMIT 1", owner)
                ids[key] = f"{key}_{first.hex}"
            version = (
                "SELECT v.id FROM dataset_versions v JOIN datasets d ON d.id = v.dataset_id WHERE d.owner_id = $1 ORDER BY v.id LIMIT 1"
            )
            ids["version"] = f"version_{(await connection.fetchval(version, owner)).hex}"
            item = """SELECT i.id FROM dataset_items i JOIN dataset_versions v ON v.id = i.version_id JOIN datasets d ON d.id = v.dataset_id
              WHERE d.owner_id = $1 ORDER BY i.id LIMIT 1"""
            ids["item"] = f"item_{(await connection.fetchval(item, owner)).hex}"
            model_version = (
                "SELECT v.id FROM model_versions v JOIN models m ON m.id = v.model_id WHERE m.owner_id = $1 ORDER BY v.id LIMIT 1"
            )
            ids["modelVersion"] = f"mversion_{(await connection.fetchval(model_version, owner)).hex}"
            snapshot = await connection.fetchval("SELECT id FROM pipeline_snapshots WHERE owner_id = $1 ORDER BY id LIMIT 1", owner)
            ids["pipelineSnapshot"] = f"snapshot_{snapshot.hex}"
            endpoint = await connection.fetchval("SELECT id FROM webhook_endpoints WHERE owner_id = $1", owner)
            ids["webhookEndpoint"] = f"webhook_{endpoint.hex}"
            key = await connection.fetchval("SELECT id FROM api_keys WHERE user_id = $1 ORDER BY id LIMIT 1", owner)
            rare = await connection.fetchval("SELECT id FROM tags WHERE owner_id = $1 AND name = 'rare'", owner)
            ids["rareTag"] = f"tag_{rare.hex}"
            ids["apiKey"] = f"apikey_{key.hex}"
            found[viewer] = Parents(ids)
        return found
    finally:
        await connection.close()


async def prepare(name: str, jobs: int) -> str:
    """Make, migrate and fill a database; return its URL."""
    base = os.environ["TRELLIS_DATABASE_URL"]
    connect: Any = asyncpg.connect
    connection = await connect(base)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    url = f"{base.rsplit('/', 1)[0]}/{name}"
    await asyncio.to_thread(upgrade, url)
    started_at = time.perf_counter()
    await scale_data.fill(url, scale_data.Size(jobs))
    async with Database.open(StateSettings(database_url=url), statement_timeout=0) as database, database.work(SYSTEM) as work:
        await accounts.ensure_admin(work, "admin@trellis.local", deployment.TOKEN)
    print(f"{jobs:,} jobs and {jobs * 10:,} runs: filled in {time.perf_counter() - started_at:.0f} s", flush=True)
    return url


def compare(urls: Sequence[str], places: Sequence[str] = (), flat: float = FLAT) -> None:
    """Measure the databases at these addresses, the small one first."""
    with ExitStack() as stack:
        servers: list[Server] = []
        for url in urls:
            address, _ = stack.enter_context(deployment.uvicorn_app(APP, "--timeout-keep-alive", "600", TRELLIS_DATABASE_URL=url))
            servers.append(Server(int(address.rpartition(":")[2]), url, asyncio.run(parents_of(url))))
        started_at = time.perf_counter()
        measured = list(measure(servers, places))
        print(f"measured in {time.perf_counter() - started_at:.0f} s", flush=True)
        report(servers, measured, flat)


def main() -> None:
    compare([asyncio.run(prepare(name, jobs)) for name, jobs in (("scale_small", JOBS // 100), ("scale_large", JOBS))])


if __name__ == "__main__":
    with deployment.servers():
        main()
        sys.stdout.flush()
