"""A small query while a response of some 5 MB is made beside it in the same process: how long it takes, alone and beside.

The large one reads thousands of objects up to the limits of an operation's cost and of a response's length. It is sent by one process, again
and again, and the small one by another, so that neither client delays the other's measurement.
"""

from __future__ import annotations

import asyncio
import sys
import time

import uvloop
from sqlalchemy import text

from db.core.work import Database
from tests.benchmarks import deployment
from tests.benchmarks.bench_nested_read import port_of
from tests.benchmarks.raw_client import RawConnection, request

JOB = "a: id b: id kind status progress createdAt startedAt completedAt c: createdAt d: createdAt e: completedAt f: createdAt g: id h: id i: id"
LARGE = f"{{ datasets(first: 98) {{ edges {{ node {{ id name jobs(first: 98) {{ edges {{ node {{ {JOB} }} }} }} }} }} }} }}"
SMALL = "query Small($id: ID!) { node(id: $id) { id ... on Dataset { name createdAt } } }"
REQUESTS, ROUNDS = 400, 5
LEAST, MOST = 3_000_000, 5_000_000  # bytes of the large response
ROWS = (
    "INSERT INTO datasets (owner_id, name, modality, source) SELECT u.id, 'd' || i, 'tabular', 'upload' FROM users u, generate_series(1, 100) i",
    "SET session_replication_role = replica",  # a trigger rejects jobs that are inserted in a terminal state
    (
        "INSERT INTO jobs (owner_id, kind, status, queue, dataset_id, completed_at)"
        " SELECT d.owner_id, 'profile', 'completed', 'default', d.id, now() FROM datasets d, generate_series(1, 100)"
    ),
    "RESET session_replication_role",
    "ANALYZE",
)


async def fill(state: Database) -> str:
    """Insert the rows; return the id of a dataset."""
    async with state.read() as connection:
        for statement in ROWS:
            await connection.execute(text(statement))
        return f"dataset_{(await connection.execute(text('SELECT id FROM datasets LIMIT 1'))).scalar_one().hex}"


async def connect(port: int) -> RawConnection:
    return (await asyncio.get_running_loop().create_connection(RawConnection, "127.0.0.1", port))[1]


async def send_large(port: int) -> None:
    """Send the large query for ever."""
    connection, sent = await connect(port), request(LARGE)
    while True:
        response = await connection.send(sent)
        if not response.startswith(b"HTTP/1.1 200") or not LEAST < len(response) < MOST:
            raise SystemExit(f"{len(response):,} bytes: {response[:500].decode()}")


async def times_of_small(port: int, id_: str) -> list[float]:
    """The seconds of each small query, sorted."""
    connection, sent = await connect(port), request(SMALL, {"id": id_})
    times: list[float] = []
    for _ in range(REQUESTS):
        started_at = time.perf_counter()
        response = await connection.send(sent)
        times.append(time.perf_counter() - started_at)
        if not response.startswith(b"HTTP/1.1 200") or b'"errors"' in response:
            raise SystemExit(response.decode())
    connection.transport.close()
    return sorted(times)


def show(name: str, times: list[float]) -> None:
    p50, p90, p99, longest = (times[int(len(times) * share)] * 1000 for share in (0.5, 0.9, 0.99, 0.9999))
    print(f"{name:>10} {p50:>8.1f} {p90:>8.1f} {p99:>8.1f} {longest:>8.1f}", flush=True)


async def prepare() -> str:
    async with deployment.database() as state:
        return await fill(state)


def main() -> None:
    id_ = asyncio.run(prepare())
    with deployment.trellis_api() as (url, _):
        port = port_of(url)
        uvloop.run(times_of_small(port, id_))  # warms up
        print(f"{'small':>10} {'p50 ms':>8} {'p90 ms':>8} {'p99 ms':>8} {'max ms':>8}")
        alone: list[float] = []
        beside: list[float] = []
        for _ in range(ROUNDS):
            alone += uvloop.run(times_of_small(port, id_))
            with deployment.run_process("tests.benchmarks.bench_beside", "--large", str(port)) as large:
                time.sleep(1)  # until it is connected
                beside += uvloop.run(times_of_small(port, id_))
                if large.poll() is not None:
                    raise SystemExit("The client of the large query ended.")
        show("alone", sorted(alone))
        show("beside", sorted(beside))


if __name__ == "__main__":
    if "--large" in sys.argv:
        uvloop.run(send_large(int(sys.argv[-1])))
    with deployment.servers():
        main()
        sys.stdout.flush()
