"""Months of events and points go as a whole once all in them have ended long ago; until then rows go in batches."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from db.core.work import Database
from db.services.maintenance import MaintenanceResult, partitions, retention
from tests.client import Client
from tests.retention.conftest import JUNE, MAY, OldJob, Past

ALL = ["job_events_2020_05", "job_events_2020_06", "metric_points_2020_05", "metric_points_2020_06"]
SEEN = """query($job: ID!, $run: ID!) {
  job(id: $job) { status events { totalCount isPruned edges { node { sequence type message } } } }
  run(id: $run) { metrics { key last lastStep min max count } metricHistory { key totalPoints isPruned points { step value } } }
}"""


async def seen(client: Client, old: OldJob) -> dict[str, Any]:
    return await client.execute(SEEN, **old.names)


async def test_without_a_setting_everything_is_kept(past: Past, ada: Client) -> None:
    old = await past.add_job("ada", MAY)
    before = await seen(ada, old)
    assert await past.apply(retention_job_events=None, retention_metric_points=None) == MaintenanceResult("apply_retention", 0)
    assert await seen(ada, old) == before
    assert (await past.sequences(old), await past.points(old)) == ([1, 2, 3, 4, 5], 8)


async def test_a_month_that_is_over_is_dropped_and_what_live_rows_show_stays(past: Past, ada: Client, bob: Client) -> None:
    first, second = await past.add_job("ada", MAY), await past.add_job("bob", MAY + timedelta(days=30), events=3, points=2)
    young = await past.add_job("ada", JUNE, ended=datetime.now(UTC) - JUNE - timedelta(days=29))
    before, others, untouched = await seen(ada, first), await seen(bob, second), await seen(ada, young)
    assert await past.apply() == MaintenanceResult("apply_retention", 4 + 2 + 8 + 4)
    after = await seen(ada, first)
    assert after["job"] == {
        "status": "COMPLETED",
        "events": {
            "totalCount": 1,
            "isPruned": True,
            "edges": [{"node": {"sequence": 5, "type": "COMPLETED", "message": 'line "5",\nüber'}}],
        },
    }
    assert after["run"] == {
        "metrics": before["run"]["metrics"],
        "metricHistory": [{"key": key, "totalPoints": 4, "isPruned": True, "points": []} for key in ("accuracy", "loss")],
    }
    assert (await seen(bob, second))["run"]["metrics"] == others["run"]["metrics"]
    assert await seen(ada, young) == untouched
    assert not untouched["job"]["events"]["isPruned"]
    assert not any(series["isPruned"] for series in untouched["run"]["metricHistory"])
    assert await past.relations() == ALL
    rows = await past.database.rows(text("SELECT name, drops, rows, kept_rows FROM dropped_partitions ORDER BY name"))
    assert [tuple(row) for row in rows] == [("job_events_2020_05", 1, 6, 2), ("metric_points_2020_05", 1, 12, 0)]
    assert await past.apply() == MaintenanceResult("apply_retention", 0)


async def test_of_a_month_that_is_not_over_rows_go_in_batches(past: Past, ada: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "EVENTS_A_BATCH", 7)
    monkeypatch.setattr(retention, "POINTS_A_BATCH", 10)
    monkeypatch.setattr(retention, "RUNS_A_PAGE", 2)
    old = [await past.add_job("ada", MAY + timedelta(hours=hour), events=5) for hour in range(5)]
    long = await past.add_job("ada", MAY + timedelta(hours=9), events=20, points=50)
    running = await past.add_job("ada", MAY + timedelta(hours=3), "running")
    before = await seen(ada, running)
    assert await past.apply() == MaintenanceResult("apply_retention", 5 * 4 + 19 + 5 * 8 + 100)
    assert [await past.sequences(each) for each in (*old, long)] == [[5]] * 5 + [[20]]
    assert [await past.points(each) for each in (*old, long)] == [0] * 6
    assert await seen(ada, running) == before
    assert (await seen(ada, long))["job"]["events"]["isPruned"]
    assert await past.database.rows(text("SELECT name FROM dropped_partitions")) == []
    totals = await past.database.rows(text("SELECT table_name, rows, partitions FROM retention_totals ORDER BY 1"))
    assert [tuple(row) for row in totals] == [("job_events", 39, 0), ("metric_points", 140, 0)]
    # Once the last one has ended and is past it too, the month goes, with what is left.
    await _execute(
        past.database, f"UPDATE jobs SET status = 'completed', lease_until = NULL, completed_at = '2020-05-02' WHERE id = '{running.job}'"
    )
    await _execute(past.database, f"UPDATE runs SET status = 'completed', completed_at = '2020-05-02' WHERE id = '{running.run}'")
    assert await past.apply() == MaintenanceResult("apply_retention", 4 + 8)
    assert (await past.count("job_events_2020_05"), await past.count("metric_points_2020_05")) == (7, 0)


async def test_a_month_in_use_waits_for_the_next_run_and_nobody_waits_for_it(
    past: Past, ada: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "ATTEMPTS", 2)
    monkeypatch.setattr(partitions, "PAUSE", (0.0, 0.01))
    old = await past.add_job("ada", MAY)
    async with past.database.engine.begin() as reader:
        for timeout in ("idle_in_transaction_session_timeout", "transaction_timeout"):
            await reader.execute(text(f"SET LOCAL {timeout} = 0"))
        await reader.execute(text("SELECT count(*) FROM job_events"))
        result = await past.apply()
        assert (result.error or "").startswith("job_events_2020_05 was in use, and was not dropped.")
        assert (await past.sequences(old), await past.points(old)) == ([1, 2, 3, 4, 5], 0)  # the other table was free
    result = await past.apply()
    assert (result.changed, result.error) == (4, None)
    assert await past.relations() == ALL


@pytest.mark.parametrize("step", ["prepare", "swap", "drop"])
async def test_a_run_that_was_killed_is_completed_by_the_next(past: Past, ada: Client, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    old = await past.add_job("ada", MAY)
    attempt, calls = partitions._attempt, 0
    last = {"prepare": 1, "swap": 2, "drop": 3}[step]

    async def killed(database: Database, name: str, change: object) -> object:
        nonlocal calls
        calls += 1
        if calls > last - 1 and step == "drop":
            raise asyncio.CancelledError
        result = await attempt(database, name, change)  # pyright: ignore[reportArgumentType, reportUnknownVariableType] - of any type
        if calls == last:
            raise asyncio.CancelledError
        return result

    monkeypatch.setattr(partitions, "_attempt", killed)
    with pytest.raises(asyncio.CancelledError):
        await past.apply()
    monkeypatch.setattr(partitions, "_attempt", attempt)
    assert (await past.sequences(old))[-1:] == [5]  # whenever it was killed
    assert (await past.apply()).error is None
    assert (await past.sequences(old), await past.points(old)) == ([5], 0)
    assert await past.relations() == ALL
    assert [row.drops for row in await past.database.rows(text("SELECT drops FROM dropped_partitions"))] == [1, 1]


async def test_writers_go_on_while_months_are_dropped(past: Past, ada: Client, database: Database) -> None:
    for day in range(20):
        await past.add_job("ada", MAY + timedelta(days=day), events=50, points=50)
    running = await past.add_job("ada", datetime.now(UTC), "running", events=1, points=1)
    written, is_over = 1, asyncio.Event()

    async def write() -> None:
        nonlocal written
        while not is_over.is_set():
            async with database.engine.begin() as connection:
                sequence = await connection.scalar(
                    text("UPDATE jobs SET last_sequence = last_sequence + 1 WHERE id = :id RETURNING last_sequence"), {"id": running.job}
                )
                await _add_event(connection, running, sequence)
            written += 1

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write())
        result = await past.apply()
        is_over.set()
    assert (result.changed, result.error) == (20 * (49 + 100), None)
    assert await past.sequences(running) == list(range(1, written + 1))
    assert await past.relations() == ALL


async def test_partitions_in_place_of_dropped_ones_have_all_keys_and_checks(past: Past, ada: Client) -> None:
    old = await past.add_job("ada", MAY)
    before = await _definitions(past.database)
    await past.apply()
    assert await _definitions(past.database) == before
    await _execute(
        past.database, f"DELETE FROM jobs WHERE id = '{old.job}'", is_replica=False, before=f"DELETE FROM runs WHERE id = '{old.run}'"
    )
    assert await past.sequences(old) == []  # its foreign key cascades


async def test_points_that_came_after_the_month_was_dropped_are_let_go_too(past: Past, ada: Client) -> None:
    old = await past.add_job("ada", MAY)
    await past.apply()
    await _execute(past.database, f"INSERT INTO metric_points (run_id, key, step, value, batch) VALUES ('{old.run}', 'loss', 9, 0.5, 3)")
    await _execute(past.database, f"UPDATE run_metrics SET count = 5 WHERE run_id = '{old.run}' AND key = 'loss'")
    history = (await seen(ada, old))["run"]["metricHistory"]
    assert [(each["key"], each["totalPoints"], each["isPruned"], len(each["points"])) for each in history] == [
        ("accuracy", 4, True, 0),
        ("loss", 5, True, 1),
    ]
    assert (await past.apply()).changed == 1
    assert await past.points(old) == 0


async def _definitions(database: Database) -> list[tuple[str, ...]]:
    constraints = (
        "SELECT conrelid::regclass::text AS relation, contype::text AS kind, pg_get_constraintdef(oid) AS definition FROM pg_constraint"
        " WHERE conrelid::regclass::text ~ '_2020_'"
        " UNION ALL SELECT tablename, 'index', regexp_replace(indexdef, 'INDEX \\S+', 'INDEX') FROM pg_indexes WHERE tablename ~ '_2020_'"
        " UNION ALL SELECT relname, 'bounds', pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname ~ '_2020_' AND relkind = 'r' ORDER BY 1, 2, 3"
    )
    return [tuple(row) for row in await database.rows(text(constraints))]


async def _execute(database: Database, statement: str, *, is_replica: bool = True, before: str | None = None) -> None:
    async with database.engine.begin() as connection:
        if before is not None:
            await connection.execute(text(before))
        if is_replica:
            await connection.execute(text("SET LOCAL session_replication_role = replica"))
        await connection.execute(text(statement))


async def _add_event(connection: AsyncConnection, old: OldJob, sequence: int | None) -> None:
    await connection.execute(
        text("INSERT INTO job_events (job_id, sequence, attempt, type, status, progress) VALUES (:id, :sequence, 1, 'log', 'running', 0)"),
        {"id": old.job, "sequence": sequence},
    )
