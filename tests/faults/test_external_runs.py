"""Processes log external runs, through GraphQL and as MLflow's clients do, while the APIs are killed: nothing that was acknowledged is lost, nothing is
there twice, and a stream misses nothing.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any
from uuid import UUID

import pytest

from tests.client import GraphQLErrors
from tests.faults.cluster import ROOT, Cluster, eventually
from tests.faults.fault_injection import FaultInjector
from tests.faults.invariants import assert_invariants
from tests.faults.run_writer import Writing, command
from tests.faults.viewers import RETRYABLE_CODES, RETRYABLE_ERRORS, Viewer
from tests.faults.workload import Workload

pytestmark = pytest.mark.exhaustive

KILLS = 40  # at most, of an API
METRICS = "subscription($id: ID!, $after: String) { runMetrics(id: $id, after: $after) { cursor points { step value } } }"


@pytest.mark.timeout(3_600)
@pytest.mark.parametrize(("processes", "runs", "batches", "points"), [(2, 3, 8, 60), (8, 125, 12, 200)])
async def test_nothing_acknowledged_is_lost_and_nothing_is_there_twice(
    processes: int, runs: int, batches: int, points: int, cluster: Cluster, workload: Workload, fault_injector: FaultInjector
) -> None:
    viewer = workload.viewers[0]
    started = time.time_ns()  # whose digits are the writers' names
    writings = [
        Writing(list(cluster.urls), viewer.token, started + number, runs, batches, points, is_mlflow=number % 2 == 1)
        for number in range(processes)
    ]
    writers = [await asyncio.create_subprocess_exec(*command(writing), cwd=ROOT, stdout=asyncio.subprocess.PIPE) for writing in writings]
    try:
        acknowledged: list[list[dict[str, Any]]] = [[] for _ in writers]
        writing = asyncio.gather(*(_follow(writer, entries) for writer, entries in zip(writers, acknowledged, strict=True)))
        watching = asyncio.create_task(_watched_points(viewer, await _run_of(cluster, writings[0])))
        kills = 0
        while not writing.done():
            # Counted in runs and not in seconds: a slow machine would kill them before they answer, for ever.
            kill_after = sum(map(len, acknowledged)) + max(processes * runs // KILLS, 1)
            kills += await fault_injector.kill_api()
            await cluster.wait_apis()
            while not writing.done() and sum(map(len, acknowledged)) < kill_after:
                await asyncio.wait([writing], timeout=0.1)
        await writing
    finally:
        for writer in writers:
            if writer.returncode is None:
                writer.kill()
                await writer.wait()
    assert kills > 0
    print(f"{processes * runs} runs, {kills} kills in {(time.time_ns() - started) / 1e9:.0f} s")
    for writing_, entries in zip(writings, acknowledged, strict=True):
        assert [entry["number"] for entry in entries] == list(range(runs))
        for entry in entries:
            expected = sorted(value for batch in range(batches) for value in writing_.values(entry["number"], batch))
            run = UUID(entry["run"].removeprefix("run_"))
            rows = await cluster.rows("SELECT step, value FROM metric_points WHERE run_id = $1 ORDER BY step, value", run)
            assert [tuple(row) for row in rows] == expected
            (row,) = await cluster.rows("SELECT status, hyperparameters FROM runs WHERE id = $1", run)
            assert (row["status"], json.loads(row["hyperparameters"])) == (
                "completed",
                {"number": entry["number"], "writer": writing_.number},
            )
    writers_names = [f"writer {each.number}-{number}" for each in writings for number in range(runs)]
    rows = await cluster.rows("SELECT name FROM runs WHERE name = ANY($1)", writers_names)
    assert sorted(row["name"] for row in rows) == sorted(writers_names)
    async with asyncio.timeout(120):
        watched = await watching
    assert watched == [point for batch in range(batches) for point in sorted(writings[0].values(0, batch))]
    await assert_invariants(cluster, workload)


async def _follow(writer: asyncio.subprocess.Process, acknowledged: list[dict[str, Any]]) -> None:
    """Collect what a process says of the runs that it has written, until it ends."""
    assert writer.stdout is not None
    async for line in writer.stdout:
        acknowledged += [json.loads(line)]
    assert await writer.wait() == 0


async def _run_of(cluster: Cluster, writing: Writing) -> UUID:
    """The first run of a process, as soon as it is there."""
    runs: list[Any] = []

    async def is_there() -> bool:
        runs.extend(await cluster.rows("SELECT id FROM runs WHERE name = $1", f"writer {writing.number}-0"))
        return bool(runs)

    await eventually(is_there, 120.0, "the first run")
    return runs[0]["id"]


async def _watched_points(viewer: Viewer, run: UUID) -> list[tuple[int, float]]:
    """The points of a run as a subscriber sees them who comes back to another API, after the last cursor, whenever the connection breaks."""
    seen: list[tuple[int, float]] = []
    cursor, turn = None, 0
    while True:
        turn += 1
        try:
            async for answer in viewer.client(turn).subscribe(METRICS, id=f"run_{run.hex}", after=cursor):
                cursor = answer["runMetrics"]["cursor"]
                seen += [(point["step"], point["value"]) for point in answer["runMetrics"]["points"]]
        except GraphQLErrors as error:
            if not set(error.codes) <= RETRYABLE_CODES:
                raise
        except RETRYABLE_ERRORS:
            pass
        else:
            return seen
        await asyncio.sleep(0.2)
