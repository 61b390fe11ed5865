"""Code elsewhere makes runs, measures them and ends them through the API."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete as sql_delete
from sqlalchemy import select, update

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services.maintenance import MAINTENANCE_TASKS, MaintenanceContext
from db.services.tracking.runs import abandon_silent
from db.settings import StateSettings
from db.stores.objects import ObjectStore
from db.tables import MetricPoint, Run
from tests.client import Client
from tests.deletions.deleting import delete
from tests.endings import key_of
from tests.tracking.conftest import CREATE, LOG, METRICS, PARAMETERS, create_run, finish, log

T1, T2, T3 = (f"2026-03-01T12:00:0{second}.000000Z" for second in (1, 2, 3))
SUMMARIES = "query($id: ID!) { run(id: $id) { metrics { key last lastStep lastAt min minStep max maxStep count } } }"
HISTORY = "query($id: ID!, $n: Int! = 1000) { run(id: $id) { metricHistory(maxPoints: $n) { key totalPoints points { step value recordedAt } } } }"
STATE = (
    "query($id: ID!) { run(id: $id) { status source seed job { id } startedAt completedAt updatedAt error { code message retryable } } }"
)


async def test_a_run_is_created_with_all_that_is_said_of_it(ada: Client, worker: object) -> None:
    version = await ada.ingest("tracked", b"a,b\n" + b"1,2\n" * 20)
    experiment = (
        await ada.one('mutation { createExperiment(input: {name: "outside"}) { ... on CreateExperimentPayload { experiment { id } } } }')
    )["experiment"]["id"]
    parent = await create_run(ada, experimentId=experiment, name="search")
    fields = {
        "name": "lr 0.1",
        "datasetVersionId": version,
        "parentRunId": parent,
        "hyperparameters": {"lr": 0.1},
        "config": {"gpu": "A100"},
    }
    run = await create_run(ada, **fields, notes="n", annotations={"commit": "abc"}, tags=["night", "gpu"], startedAt=T1)
    query = """query($id: ID!) { run(id: $id) { number name status source seed hyperparameters config notes annotations startedAt job { id } parentRun { id }
      experiment { id } datasetVersion { id } owner { username } tags { name } } }"""
    assert await ada.one(query, id=run) == {
        "number": 2,
        "name": "lr 0.1",
        "status": "RUNNING",
        "source": "EXTERNAL",
        "seed": 0,
        "hyperparameters": {"lr": 0.1},
        "config": {"gpu": "A100"},
        "notes": "n",
        "annotations": {"commit": "abc"},
        "startedAt": T1,
        "job": None,
        "parentRun": {"id": parent},
        "experiment": {"id": experiment},
        "datasetVersion": {"id": version},
        "owner": {"username": "ada"},
        "tags": [{"name": "gpu"}, {"name": "night"}],
    }
    children = await ada.one("query($id: ID!) { run(id: $id) { childRuns { edges { node { id } } } } }", id=parent)
    assert children["childRuns"]["edges"] == [{"node": {"id": run}}]
    filtered = "query($filter: RunFilter) { runs(filter: $filter) { edges { node { id } } } }"
    for given, expected in (({"source": ["EXTERNAL"]}, [run, parent]), ({"source": ["JOB"]}, []), ({"parentRunId": parent}, [run])):
        assert [edge["node"]["id"] for edge in (await ada.one(filtered, filter=given))["edges"]] == expected, given


async def test_a_repeated_call_with_its_key_makes_no_second_run(ada: Client, database: Database) -> None:
    first, second = await asyncio.gather(*(create_run(ada, name="once", idempotencyKey="k1") for _ in range(2)))
    assert first == second
    assert (await ada.one(CREATE, input={"name": "other", "idempotencyKey": "k1"}))["__typename"] == "Conflict"
    assert (await ada.one("{ runs { totalCount } }"))["totalCount"] == 1
    assert await delete(ada, first) is not None
    for gone in ("it is deleted", "it is purged"):
        assert (await ada.one(CREATE, input={"name": "once", "idempotencyKey": "k1"}))["__typename"] == "NotFound", gone
        async with database.work(SYSTEM) as work:
            await work.run(sql_delete(Run).where(Run.id == key_of(first)))
    assert (await ada.one("{ runs { totalCount } }"))["totalCount"] == 0


async def test_points_are_kept_once_and_a_step_may_have_several(ada: Client) -> None:
    run = await create_run(ada)
    points = (("loss", 0, 3.0, T1), ("loss", 1, 2.0, T2), ("loss", 1, 2.5, T2), ("loss", 1, 2.0, T3), ("acc", 0, "NaN", T1))
    assert await log(ada, run, *points) == 5
    assert await log(ada, run, *points) == 0
    assert await log(ada, run, *points[:2], ("loss", 2, "-Infinity", T1), ("loss", 2, "-Infinity", T1)) == 1
    accuracy, loss = (await ada.one(HISTORY, id=run))["metricHistory"]
    assert [(point["step"], point["value"], point["recordedAt"]) for point in loss["points"]] == [
        (0, 3.0, T1),
        (1, 2.0, T2),
        (1, 2.5, T2),
        (1, 2.0, T3),
        (2, None, T1),
    ]
    assert (accuracy["totalPoints"], loss["totalPoints"]) == (1, 5)
    assert (await ada.one(SUMMARIES, id=run))["metrics"] == [
        {"key": "acc", "last": None, "lastStep": 0, "lastAt": T1, "min": None, "minStep": None, "max": None, "maxStep": None, "count": 1},
        {"key": "loss", "last": None, "lastStep": 2, "lastAt": T1, "min": 2.0, "minStep": 1, "max": 3.0, "maxStep": 0, "count": 5},
    ]


async def test_keys_of_any_characters_and_values_to_the_last_bit_come_back(ada: Client) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    values = [math.ldexp(draw.uniform(-1, 1), draw.randrange(-1000, 1000)) for _ in range(200)]
    values += [5e-324, 1.7976931348623157e308, 2.2250738585072014e-308, 0.1, 1e22, 123456789012345680.0]
    keys = ['a"b', "c\\d", "{e}", "f,g", "NULL", " h ", "'i'", "j\\", '"', "k=>l", "ключ", "métrique 🙂", "{}", 'a\\"b']
    points = [
        *((key, 0, float(position), T1) for position, key in enumerate(keys)),
        *(("v", step, value, T2) for step, value in enumerate(values)),
    ]
    run = await create_run(ada)
    assert await log(ada, run, *points) == len(points)
    histories = (await ada.one(HISTORY, id=run, n=1_000))["metricHistory"]
    found = {each["key"]: [(point["step"], point["value"], point["recordedAt"]) for point in each["points"]] for each in histories}
    assert found == {
        **{key: [(0, float(position), T1)] for position, key in enumerate(keys)},
        "v": [(step, value, T2) for step, value in enumerate(values)],
    }
    assert await log(ada, run, *points) == 0


async def test_the_last_value_is_that_of_the_greatest_step_then_of_the_latest_time(ada: Client) -> None:
    run = await create_run(ada)
    for point in (("loss", 5, 1.0, T2), ("loss", 5, 9.0, T1), ("loss", 4, 8.0, T3), ("loss", 5, 0.5, T2), ("loss", 5, 1.0, T1)):
        await log(ada, run, point)
    (loss,) = (await ada.one(SUMMARIES, id=run))["metrics"]
    assert (loss["last"], loss["lastStep"], loss["lastAt"], loss["min"], loss["max"], loss["maxStep"]) == (1.0, 5, T2, 0.5, 9.0, 5)


async def test_a_long_series_of_one_step_is_thinned_by_time(ada: Client) -> None:
    run = await create_run(ada)
    times = [f"2026-03-01T{minute // 60:02}:{minute % 60:02}:00Z" for minute in range(1440)]
    points = [("loss", 0, 99 if minute == 700 else minute % 7, at) for minute, at in enumerate(times)]
    for start in (720, 0):
        await log(ada, run, *points[start : start + 720])
    (series,) = (await ada.one(HISTORY, id=run, n=100))["metricHistory"]
    times = [point["recordedAt"] for point in series["points"]]
    assert series["totalPoints"] == 1440
    assert 50 <= len(times) <= 100
    assert times == sorted(times)
    assert (times[0], times[-1]) == ("2026-03-01T00:00:00.000000Z", "2026-03-01T23:59:00.000000Z")
    assert 99 in [point["value"] for point in series["points"]]


async def test_parameters_are_written_once(ada: Client) -> None:
    run = await create_run(ada, hyperparameters={"lr": 0.1})
    added = await ada.one(PARAMETERS, run=run, parameters={"lr": 0.1, "depth": 3, "layers": {"b": 1, "a": [1]}})
    assert added["run"]["hyperparameters"] == {"lr": 0.1, "depth": 3, "layers": {"b": 1, "a": [1]}}
    assert (await ada.one(PARAMETERS, run=run, parameters={"depth": 3.0, "layers": {"a": [1], "b": 1}}))[
        "__typename"
    ] == "LogParametersPayload"
    refused = await ada.one(PARAMETERS, run=run, parameters={"depth": True, "lr": 0.2, "new": 1})
    assert refused["__typename"] == "InvalidInput"
    assert [issue["path"] for issue in refused["issues"]] == [["parameters", "depth"], ["parameters", "lr"]]
    assert "0.1" in refused["issues"][1]["message"]
    query = 'query { runs(orderBy: {by: {parameter: "depth"}}, filter: {parameters: [{key: "lr", gte: 0.05}]}) { edges { node { id hyperparameters } } } }'
    (edge,) = (await ada.one(query))["edges"]
    assert edge["node"] == {"id": run, "hyperparameters": {"lr": 0.1, "depth": 3, "layers": {"b": 1, "a": [1]}}}


async def test_a_run_ends_takes_writes_and_runs_again(ada: Client) -> None:
    run = await create_run(ada, startedAt=T1)
    assert (await finish(ada, run, at=T3))["run"] == {"status": "COMPLETED", "startedAt": T1, "completedAt": T3, "error": None}
    assert await log(ada, run, ("late", 0, 1.0, None)) == 1
    assert (await ada.one(STATE, id=run))["status"] == "COMPLETED"
    again = (await finish(ada, run, "RUNNING"))["run"]
    assert (again["status"], again["completedAt"]) == ("RUNNING", None)
    assert (await finish(ada, run, "FAILED"))["run"]["status"] == "FAILED"
    assert (await finish(ada, run, "PENDING"))["__typename"] == "InvalidInput"
    assert (await finish(ada, run, "FAILED", "2020-01-01T00:00:00Z"))["__typename"] == "InvalidInput"
    actions = await ada.one("{ auditEvents { edges { node { action after } } } }")
    events = [(edge["node"]["action"], edge["node"]["after"].get("status")) for edge in actions["edges"]]
    assert events[:4] == [("finish_run", "FAILED"), ("finish_run", "RUNNING"), ("finish_run", "COMPLETED"), ("create_run", None)]


async def test_a_batch_is_no_change_of_the_run(ada: Client) -> None:
    run = await create_run(ada)
    before = (await ada.one(STATE, id=run))["updatedAt"]
    await log(ada, run, ("loss", 0, 1.0, None))
    assert (await ada.one(STATE, id=run))["updatedAt"] == before
    await ada.one(PARAMETERS, run=run, parameters={"a": 1})
    assert (await ada.one(STATE, id=run))["updatedAt"] > before


async def _age(database: Database, run: str, hours: float) -> None:
    async with database.work(SYSTEM) as work:
        await work.run(update(Run).where(Run.id == key_of(run)).values(last_written_at=Run.last_written_at - timedelta(hours=hours)))


async def test_a_silent_run_is_abandoned_and_goes_on_when_it_is_heard_of_again(
    ada: Client, database: Database, settings: StateSettings
) -> None:
    silent, parent, ended = [await create_run(ada, name=name) for name in ("silent", "parent", "ended")]
    child = await create_run(ada, parentRunId=parent)
    await finish(ada, ended)
    for run in (silent, parent, ended):
        await _age(database, run, 25)
    await _age(database, child, 23)
    async with ObjectStore.open(settings) as objects:
        assert await MAINTENANCE_TASKS["abandon_runs"].run(MaintenanceContext(database, objects, settings)) == 1
    state = await ada.one(STATE, id=silent)
    assert (state["status"], state["error"]["code"], state["error"]["retryable"]) == ("FAILED", "ABANDONED", False)
    assert "24 hours" in state["error"]["message"]
    assert state["completedAt"] is not None
    assert [(await ada.one(STATE, id=run))["status"] for run in (parent, child, ended)] == ["RUNNING", "RUNNING", "COMPLETED"]
    await log(ada, silent, ("loss", 0, 1.0, None))
    state = await ada.one(STATE, id=silent)
    assert (state["status"], state["error"], state["completedAt"]) == ("RUNNING", None, None)
    assert await abandon_silent(database, timedelta(hours=24)) == 0


async def test_a_stream_resumes_by_its_cursor_and_ends_with_the_run(ada: Client) -> None:
    run = await create_run(ada)
    await log(ada, run, ("loss", 0, 1.0, T1), ("loss", 1, "Infinity", T1))
    received: list[dict[str, Any]] = []
    first = asyncio.Event()

    async def watch() -> None:
        async for answer in ada.subscribe(METRICS, id=run):
            received.append(answer["runMetrics"])
            first.set()

    watching = asyncio.create_task(watch())
    async with asyncio.timeout(60):
        await first.wait()
        await log(ada, run, ("loss", 2, 0.5, T2))
        await log(ada, run, ("loss", 2, 0.25, T3))
        await finish(ada, run)
        await watching
    points = [(point["step"], point["value"]) for batch in received for point in batch["points"]]
    assert points == [(0, 1.0), (1, None), (2, 0.5), (2, 0.25)]
    rest = [answer["runMetrics"] async for answer in ada.subscribe(METRICS, id=run, after=received[0]["cursor"])]
    assert [point["step"] for batch in rest for point in batch["points"]] == [2, 2]
    await log(ada, run, ("loss", 3, 0.1, T3))
    later = [answer["runMetrics"] async for answer in ada.subscribe(METRICS, id=run, after=received[-1]["cursor"])]
    assert [point["step"] for batch in later for point in batch["points"]] == [3]


async def test_only_who_may_write_there_logs(
    ada: Client, bob: Client, reader: Client, database: Database, sign_in: Callable[[str], Awaitable[Client]]
) -> None:
    run = await create_run(ada)
    point = [{"key": "loss", "value": 1}]
    for strange in (run, run[:-32] + "0" * 32, "nonsense"):
        for query, given in ((LOG, {"points": point}), (PARAMETERS, {"parameters": {}})):
            assert (await bob.one(query, run=strange, **given))["__typename"] == "NotFound"
        assert (await finish(bob, strange))["__typename"] == "NotFound"
    assert (await bob.one(CREATE, input={"parentRunId": run}))["__typename"] == "NotFound"
    answer = await reader.post(CREATE, input={})
    assert answer["errors"][0]["extensions"]["code"] == "FORBIDDEN"
    rows = await database.rows(select(MetricPoint.step))
    assert rows == []


@pytest.mark.parametrize(
    "points",
    [
        [],
        [{"key": "", "value": 1}],
        [{"key": "a\nb", "value": 1}],
        [{"key": "x" * 251, "value": 1}],
        [{"key": "ok", "value": 1}, {"key": "\u0000", "value": 1}],
    ],
)
async def test_a_batch_is_refused_as_a_whole(ada: Client, points: list[dict[str, Any]]) -> None:
    run = await create_run(ada)
    assert (await ada.one(LOG, run=run, points=points))["__typename"] == "InvalidInput"
    assert (await ada.one(SUMMARIES, id=run))["metrics"] == []


async def test_nobody_logs_to_the_run_of_a_job(ada: Client, database: Database) -> None:
    run = await create_run(ada)
    async with database.work(SYSTEM) as work:
        await work.run(update(Run).where(Run.id == key_of(run)).values(source="job"))
    for query, given in ((LOG, {"points": [{"key": "loss", "value": 1}]}), (PARAMETERS, {"parameters": {"a": 1}})):
        refused = await ada.one(query, run=run, **given)
        assert refused["__typename"] == "WrongState"
        assert "createRun" in refused["message"]
