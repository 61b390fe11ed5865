"""Months are written to the bucket as Parquet before they are dropped, if the operator wants it."""

from __future__ import annotations

import asyncio
import io
import json
import math
from datetime import timedelta
from typing import Any

import polars as pl
import pytest
from sqlalchemy import text

from db.core.work import Database
from db.errors import Unavailable
from db.services.maintenance import archive, retention
from db.stores.objects import ObjectStore
from tests.client import Client
from tests.retention.conftest import MAY, OldJob, Past
from tests.workers.worker_harness import run_maintenance

EVENTS, POINTS = "archive/job_events/2020-05.parquet", "archive/metric_points/2020-05.parquet"
RECORDS = text("SELECT name, drops, archive_key, archive_bytes, archive_sha256, archived_rows FROM dropped_partitions ORDER BY name")


@pytest.fixture
async def objects(past: Past) -> ObjectStore:
    objects = past.context.objects
    await objects.delete([each.key async for each in objects.list(archive.PREFIX)])
    return objects


async def keys(objects: ObjectStore) -> list[str]:
    return [each.key async for each in objects.list(archive.PREFIX)]


async def read(objects: ObjectStore, key: str) -> pl.DataFrame:
    return pl.read_parquet(io.BytesIO(await objects.read(key, 1_000_000_000)))


async def rows_of(database: Database, table: str, key: str) -> list[dict[str, Any]]:
    return [dict(row._mapping) for row in await database.rows(text(f"SELECT * FROM {table} ORDER BY {key}"))]


async def test_an_archive_has_every_row_and_value_of_the_month(
    past: Past, objects: ObjectStore, ada: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "BLOCK_BYTES", 1_000)  # so that the files have several blocks
    for day in range(3):
        await past.add_job("ada", MAY + timedelta(days=day), events=9)
    events = await rows_of(past.database, "job_events_2020_05", "job_id, sequence")
    points = await rows_of(past.database, "metric_points_2020_05", "run_id, key, step")
    assert (await past.apply(retention_archive=True)).changed == 3 * 8 + 3 * 8
    assert await keys(objects) == [EVENTS, POINTS]
    archived_events = (await read(objects, EVENTS)).to_dicts()
    expected = [{**row, "job_id": str(row["job_id"])} for row in events]
    assert [{**row, "data": None if row["data"] is None else json.loads(row["data"])} for row in archived_events] == [
        {**row, "data": json.loads(row["data"]) if isinstance(row["data"], str) else row["data"]} for row in expected
    ]
    archived_points = (await read(objects, POINTS)).to_dicts()
    assert [repr(row) for row in archived_points] == [  # NaN differs from itself
        repr({**row, "run_id": str(row["run_id"])}).replace("datetime.timezone.utc", "zoneinfo.ZoneInfo(key='UTC')") for row in points
    ]
    assert sum(math.isnan(row["value"]) for row in archived_points) == 6
    assert (await past.count("job_events_2020_05"), await past.count("metric_points_2020_05")) == (3, 0)
    for row, key, rows in zip(await past.database.rows(RECORDS), (EVENTS, POINTS), (27, 24), strict=True):
        info = await objects.head(key)
        assert info is not None
        assert tuple(row)[1:] == (1, key, info.size, await objects.sha256(key, 10**9), rows)


async def test_the_documented_line_reads_the_events_of_a_job(past: Past, objects: ObjectStore, ada: Client, tmp_path: Any) -> None:
    old = await past.add_job("ada", MAY, events=6)
    await past.add_job("ada", MAY)
    await past.apply(retention_archive=True)
    folder = tmp_path / "archive/job_events"
    folder.mkdir(parents=True)
    await objects.download(EVENTS, folder / "2020-05.parquet")
    name = old.names["job"]
    found = (
        pl.scan_parquet(tmp_path / "archive/job_events/*.parquet").filter(pl.col("job_id").str.replace_all("-", "") == name[4:]).collect()
    )
    assert found["sequence"].to_list() == [1, 2, 3, 4, 5, 6]
    assert found.schema["created_at"] == pl.Datetime("us", "UTC")


async def test_with_an_archive_nothing_goes_before_its_month_can(past: Past, objects: ObjectStore, ada: Client) -> None:
    old = await past.add_job("ada", MAY)
    await past.add_job("ada", MAY, "running")
    assert (await past.apply(retention_archive=True)).changed == 0
    assert (await past.sequences(old), await past.points(old), await keys(objects)) == ([1, 2, 3, 4, 5], 8, [])


async def test_an_interrupted_archive_is_written_again_as_a_whole(
    past: Past, objects: ObjectStore, ada: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await past.add_job("ada", MAY)
    with monkeypatch.context() as patch:
        patch.setattr(archive, "_record", _interrupted)
        with pytest.raises(asyncio.CancelledError):
            await past.apply(retention_archive=True)
    assert await keys(objects) == [EVENTS]
    assert await past.sequences(old) == [1, 2, 3, 4, 5]
    await objects.write(EVENTS, b"half", archive.CONTENT_TYPE)
    assert (await past.apply(retention_archive=True)).error is None
    assert await keys(objects) == [EVENTS, POINTS]
    assert (await read(objects, EVENTS)).height == 5
    assert await past.sequences(old) == [5]


async def test_an_archive_that_was_written_before_a_run_was_interrupted_is_used(
    past: Past, objects: ObjectStore, ada: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await past.add_job("ada", MAY)
    with monkeypatch.context() as patch:
        patch.setattr(retention, "replace_month", _interrupted)
        with pytest.raises(asyncio.CancelledError):
            await past.apply(retention_archive=True)
    written = [each.modified async for each in objects.list(EVENTS)]
    (record,) = await past.database.rows(RECORDS)
    assert (record.drops, record.archived_rows) == (0, 5)
    # A row that is deleted meanwhile, as by the purge of its account, is in the archive; then it is written again.
    await _delete_event(past, old)
    assert (await past.apply(retention_archive=True)).error is None
    assert (await read(objects, EVENTS)).height == 4
    assert [each.modified async for each in objects.list(EVENTS)] >= written
    assert [row.drops for row in await past.database.rows(RECORDS)] == [1, 1]


async def test_a_month_stays_that_changed_while_it_was_archived(
    past: Past, objects: ObjectStore, ada: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await past.add_job("ada", MAY)
    archive_month = retention.archive_month

    async def archive_and_change(context: Any, partition: Any) -> int:
        rows = await archive_month(context, partition)
        if partition.parent == "job_events":
            await _delete_event(past, old)
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(retention, "archive_month", archive_and_change)
        assert (await past.apply(retention_archive=True)).changed == 8
    assert await past.sequences(old) == [1, 3, 4, 5]
    assert (await past.apply(retention_archive=True)).changed == 3
    assert (await read(objects, EVENTS))["sequence"].to_list() == [1, 3, 4, 5]


@pytest.mark.parametrize("fault", ["unavailable", "another file"])
async def test_without_an_archive_that_can_be_read_back_nothing_is_dropped(
    past: Past, objects: ObjectStore, ada: Client, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    old = await past.add_job("ada", MAY)

    async def download(self: ObjectStore, key: str, path: Any) -> tuple[int, str]:
        if fault == "unavailable":
            raise Unavailable("object store", "It was stopped.")
        path.write_bytes(b"other")
        return 5, "0" * 64

    with monkeypatch.context() as patch:
        patch.setattr(ObjectStore, "download", download)
        result = await past.apply(retention_archive=True)
    assert (result.changed, bool(result.error)) == (0, True)
    assert (await past.sequences(old), await past.points(old)) == ([1, 2, 3, 4, 5], 8)
    assert await past.database.rows(RECORDS) == []
    assert (await past.apply(retention_archive=True)).error is None
    assert (await past.sequences(old), await keys(objects)) == ([5], [EVENTS, POINTS])


async def test_a_month_that_is_dropped_again_gets_a_further_file(past: Past, objects: ObjectStore, ada: Client) -> None:
    old = await past.add_job("ada", MAY)
    await past.apply(retention_archive=True)
    async with past.database.engine.begin() as connection:
        statement = "INSERT INTO metric_points (run_id, key, step, value, batch) VALUES (:id, 'loss', 99, 0.5, 3)"
        await connection.execute(text(statement), {"id": old.run})
    await past.apply(retention_archive=True)
    assert await keys(objects) == [EVENTS, "archive/metric_points/2020-05-2.parquet", POINTS]
    assert [(await read(objects, key)).height for key in await keys(objects)] == [5, 1, 8]


async def test_archives_are_no_orphans(past: Past, objects: ObjectStore, ada: Client) -> None:
    await past.add_job("ada", MAY)
    await past.apply(retention_archive=True)
    past.context.settings.orphan_age = 0.0
    await run_maintenance(past.context, "collect_orphans")
    assert await keys(objects) == [EVENTS, POINTS]


async def _interrupted(*_arguments: Any) -> Any:
    raise asyncio.CancelledError


async def _delete_event(past: Past, old: OldJob) -> None:
    async with past.database.engine.begin() as connection:
        await connection.execute(text("DELETE FROM job_events WHERE job_id = :id AND sequence = 2"), {"id": old.job})
