"""The memory of one API process after 100,000 mixed requests of 500 documents.

The documents differ in their shape, and each request in its variables: reads of one row to several levels, with and without totals, errors of
validation and of fields, and mutations. Each document is sent several times before the first measurement, so that the caches are full.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Iterator

import psutil
import uvloop

from tests.benchmarks import bench_nested_read, deployment
from tests.benchmarks.bench_nested_read import port_of
from tests.benchmarks.raw_client import RawConnection, request

DOCUMENTS, CLIENTS, WARM_UPS = 500, 8, 12
REQUESTS = int(os.environ.get("REQUESTS", "100000"))
LEAVES = ("name", "createdAt", "updatedAt", "description", "modality")
JOB_LEAVES = ("kind", "status", "progress", "createdAt", "attempt", "queue")


def document(number: int) -> str:
    """One of the documents; equal numbers make equal ones."""
    chosen = random.Random(number)
    leaves = " ".join(chosen.sample(LEAVES, chosen.randint(1, len(LEAVES))))
    job_leaves = " ".join(chosen.sample(JOB_LEAVES, chosen.randint(1, len(JOB_LEAVES))))
    total = "totalCount pageInfo { endCursor hasNextPage }" if number % 3 else ""
    jobs = f"jobs(first: {1 + number % 5}) {{ {total} edges {{ node {{ id {job_leaves} }} }} }}"
    name = f"Document{number}"
    match number % 10:
        case 0:
            return f"query {name}($first: Int!, $id: ID!) {{ dataset(id: $id) {{ {leaves} }} viewer {{ id }} datasets(first: $first) {{ edges {{ cursor }} }} }}"
        case 1:
            return f"query {name}($first: Int!) {{ datasets(first: $first) {{ edges {{ node {{ {leaves} nothing{number} }} }} }} }}"
        case 2:
            return f"mutation {name}($name: String!) {{ createDataset(input: {{name: $name}}) {{ __typename ... on Problem {{ code message }} }} }}"
        case 3:
            return f"query {name}($after: String) {{ datasets(first: 5, after: $after) {{ {total} edges {{ node {{ id {leaves} }} }} }} }}"
        case _:
            return f"query {name}($first: Int!) {{ datasets(first: $first) {{ {total} edges {{ node {{ id {leaves} owner {{ id username }} {jobs} }} }} }} }}"


def variables(number: int, turn: int) -> dict[str, object]:
    values: dict[str, object] = {"first": 1 + turn % 20, "id": f"dataset_{turn:032x}"}
    if number % 10 == 2:
        return {"name": f"dataset {turn % 400}"}  # new at first, then a problem
    if number % 10 == 3:
        return {"after": "no cursor" if turn % 2 else None}
    if number % 10 != 0:
        del values["id"]
    return values


async def send(port: int, requests: Iterator[tuple[int, int]]) -> None:
    loop = asyncio.get_running_loop()

    async def send_some() -> None:
        connection = (await loop.create_connection(RawConnection, "127.0.0.1", port))[1]
        for number, turn in requests:
            response = await connection.send(request(document(number), variables(number, turn)))
            if not response.startswith(b"HTTP/1.1 200"):
                raise SystemExit(response[:500].decode())
        connection.transport.close()

    await asyncio.gather(*(send_some() for _ in range(CLIENTS)))


def rounds(first: int, count: int) -> Iterator[tuple[int, int]]:
    return ((number % DOCUMENTS, number // DOCUMENTS) for number in range(first, first + count))


def main() -> None:
    asyncio.run(bench_nested_read.prepare())
    with deployment.trellis_api() as (url, pid):
        port, process = port_of(url), psutil.Process(pid)
        uvloop.run(send(port, rounds(0, DOCUMENTS * WARM_UPS)))
        before = process.memory_info().rss
        print(f"{before / 1e6:.1f} MB after {DOCUMENTS * WARM_UPS:,} requests", flush=True)
        steps = 5
        for step in range(steps):
            uvloop.run(send(port, rounds(DOCUMENTS * WARM_UPS + step * (REQUESTS // steps), REQUESTS // steps)))
            now = process.memory_info().rss
            print(f"{now / 1e6:.1f} MB after {(step + 1) * (REQUESTS // steps):,} more: {100 * (now / before - 1):+.1f} %", flush=True)


if __name__ == "__main__":
    with deployment.servers():
        main()
        sys.stdout.flush()
