"""Maintenance tasks of workers: run by one worker at a time, when due, and without removing anything in use."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, func, insert, select, text, update
from structlog.testing import capture_logs

from db.core.base import Table
from db.core.queues import QUEUES
from db.core.viewer import SYSTEM
from db.core.work import Database
from db.queries import operations
from db.services import jobs, maintenance
from db.services.maintenance.objects import attempt_key
from db.settings import StateSettings
from db.stores.objects import ObjectStore
from db.stores.redis import connect
from db.streams.notices import RedisNoticePublisher
from db.tables import (
    Artifact,
    IdempotencyKey,
    Job,
    JobCheckpoint,
    MaintenanceTaskState,
    StagedPoint,
    StoredObject,
    Upload,
    User,
    UserCounter,
    Worker,
)
from db.tables.jobs import JobKind
from tests.client import Client
from tests.workers.worker_harness import WorkerHarness, eventually, run_maintenance
from workers.runtime.attempt import WorkerResources
from workers.runtime.engine import Engine
from workers.runtime.process_pool import ProcessPool
from workers.runtime.scratch import Scratch
from workers.settings import WorkerSettings

CSV = b"a,b\n1,x\n2,y\n"
VERSION = """query($id: ID!) { node(id: $id) { ... on DatasetVersion { status issues { code message } } } }"""
SLEEPER = """
import asyncio, sys
from db.core.work import Database
from db.services import maintenance
from db.settings import state_settings
from db.stores.objects import ObjectStore

async def sleep(context):
    print("asleep", flush=True)
    await asyncio.sleep(60)
    return 0

async def main():
    maintenance.MAINTENANCE_TASKS["sleep"] = maintenance.MaintenanceTask("sleep", sleep, lambda settings: 1.0)
    settings = state_settings()
    async with Database.open(settings) as database, ObjectStore.open(settings) as objects:
        await maintenance.run_task(maintenance.MaintenanceContext(database, objects, settings), "sleep", "sleeper")

asyncio.run(main())
"""


@pytest.fixture
async def context(settings: StateSettings, database: Database, clean: None) -> AsyncGenerator[maintenance.MaintenanceContext]:
    """A context in which every object is old enough to be collected."""
    async with ObjectStore.open(settings) as objects:
        await objects.ensure_bucket()
        await objects.delete([stored_object.key async for stored_object in objects.list("")])
        await objects.multipart.abort("")
        yield maintenance.MaintenanceContext(database, objects, settings.model_copy(update={"orphan_age": 0.0}))


@pytest.fixture
def nap_runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A maintenance task that takes a moment, due every hour; the list counts its runs."""
    runs: list[str] = []

    async def sleep(context: maintenance.MaintenanceContext) -> int:
        await asyncio.sleep(0.05)
        runs.append("nap")
        return 2

    monkeypatch.setitem(maintenance.MAINTENANCE_TASKS, "sleep", maintenance.MaintenanceTask("sleep", sleep, lambda settings: 3600.0))
    return runs


async def run_task(context: maintenance.MaintenanceContext, name: str) -> int:
    """Run the task; return how much it has changed since the test began, on any worker."""
    run = await run_maintenance(context, name)
    assert run.error is None
    return (await task_row(context, name)).changed


async def task_row(context: maintenance.MaintenanceContext, name: str) -> Any:
    return next(task for task in await context.database.rows(operations.maintenance_tasks()) if task.name == name)


async def owner_of(client: Client) -> UUID:
    return UUID((await client.one("{ viewer { id } }"))["id"].removeprefix("user_"))


async def execute(context: maintenance.MaintenanceContext, statement: Any) -> None:
    async with context.database.work(SYSTEM) as work:
        await work.run(statement)


async def object_keys(context: maintenance.MaintenanceContext) -> list[str]:
    return [stored_object.key async for stored_object in context.objects.list("")]


# Scheduling


async def test_of_many_workers_one_does_what_is_due_and_it_is_not_due_again(
    context: maintenance.MaintenanceContext, nap_runs: list[str]
) -> None:
    runs = await asyncio.gather(*(maintenance.run_if_due(context, "sleep", f"worker {number}") for number in range(10)))
    assert [run for run in runs if run is not None] == [maintenance.MaintenanceResult("sleep", 2)]
    assert await maintenance.run_if_due(context, "sleep", "late") is None
    task = await task_row(context, "sleep")
    assert (nap_runs, task.runs, task.failures, task.changed, task.error) == (["nap"], 1, 0, 2, None)
    assert task.worker.startswith("worker ")
    assert task.ended_at > task.started_at
    assert 3_500 < (await maintenance.seconds_until_due(context))["sleep"] <= 3_600


async def test_an_operator_does_it_now_whether_it_is_due_or_not(context: maintenance.MaintenanceContext, nap_runs: list[str]) -> None:
    for _ in range(3):
        assert await maintenance.run_task(context, "sleep", "operator") == maintenance.MaintenanceResult("sleep", 2)
    assert ((await task_row(context, "sleep")).runs, (await task_row(context, "sleep")).changed) == (3, 6)


async def test_one_that_fails_says_why_and_is_due_again_after_a_minute(
    context: maintenance.MaintenanceContext, nap_runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(context: maintenance.MaintenanceContext) -> int:
        raise maintenance.MaintenanceTaskFailed("The roof leaks. Call somebody.")

    with monkeypatch.context() as patch:
        patch.setitem(maintenance.MAINTENANCE_TASKS, "sleep", maintenance.MaintenanceTask("sleep", fail, lambda settings: 3600.0))
        assert await maintenance.run_if_due(context, "sleep", "worker") == maintenance.MaintenanceResult(
            "sleep", 0, "The roof leaks. Call somebody."
        )
    task = await task_row(context, "sleep")
    assert (task.runs, task.failures, task.error) == (1, 1, "The roof leaks. Call somebody.")
    await execute(context, update(MaintenanceTaskState).values(started_at=func.now() - timedelta(seconds=61)))
    assert await maintenance.run_if_due(context, "sleep", "worker") == maintenance.MaintenanceResult("sleep", 2)
    assert (await task_row(context, "sleep")).error is None


@pytest.mark.exhaustive
async def test_a_worker_killed_in_the_middle_leaves_the_task_to_the_others(
    context: maintenance.MaintenanceContext, nap_runs: list[str]
) -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE)
    assert sleeper.stdout is not None
    assert await asyncio.to_thread(sleeper.stdout.readline) == b"asleep\n"
    assert await maintenance.run_task(context, "sleep", "other") is None
    assert (await task_row(context, "sleep")).ended_at is None
    sleeper.kill()
    await asyncio.to_thread(sleeper.wait)
    assert await eventually(lambda: maintenance.run_task(context, "sleep", "other")) == maintenance.MaintenanceResult("sleep", 2)
    task = await task_row(context, "sleep")
    assert (task.worker, task.runs) == ("other", 1)


@pytest.mark.exhaustive
async def test_workers_do_them_as_often_as_the_settings_say(harness: WorkerHarness) -> None:
    await harness.start_worker(TRELLIS_MAINTENANCE_RETIRE_WORKERS="0.5")

    async def ran_twice() -> bool:
        return any(task.name == "retire_workers" and task.runs > 1 for task in await harness.database.rows(operations.maintenance_tasks()))

    await eventually(ran_twice)


async def test_one_that_is_turned_off_is_never_due(context: maintenance.MaintenanceContext) -> None:
    enabled = set(await maintenance.seconds_until_due(context))
    disabled = maintenance.MaintenanceContext(
        context.database, context.objects, context.settings.model_copy(update={"maintenance_collect_orphans": 0.0})
    )
    assert enabled - set(await maintenance.seconds_until_due(disabled)) == {"collect_orphans"}


@pytest.mark.exhaustive
async def test_an_idle_worker_sends_two_statements_a_second_at_most(
    context: maintenance.MaintenanceContext, settings: StateSettings, tmp_path: Path
) -> None:
    seconds, sent = 5, list[str]()
    worker_settings = WorkerSettings(scratch=tmp_path)
    redis = connect(settings.redis_url)
    with Scratch.open(worker_settings.scratch) as scratch:
        async with (
            Database.open(settings, RedisNoticePublisher(redis)) as database,
            ObjectStore.open(settings) as objects,
            ProcessPool(preload=False) as process_pool,
        ):
            engine = Engine(
                WorkerResources(database, objects, process_pool, scratch, worker_settings),
                settings.redis_url,
                [f"idle-{queue}" for queue in QUEUES],
                {},
            )
            event.listen(
                database.engine.sync_engine, "before_cursor_execute", lambda _connection, _cursor, statement, *_: sent.append(statement)
            )
            engine_task = asyncio.create_task(engine.run())
            try:

                async def all_ran() -> bool:
                    ended = {task.name for task in await context.database.rows(operations.maintenance_tasks()) if task.ended_at is not None}
                    return ended >= set(await maintenance.seconds_until_due(context))

                async def is_quiet() -> bool:
                    """Another worker may have run the tasks; this one then still looks at each of them once."""
                    sent.clear()
                    await asyncio.sleep(1)
                    return not any("chores" in statement or "advisory" in statement for statement in sent)

                await eventually(all_ran)
                await eventually(is_quiet)
                sent.clear()
                await asyncio.sleep(seconds)
                print(f"{len(sent)} statements in {seconds} s")
                assert len(sent) <= 2 * seconds, sent
                assert len(sent) >= seconds / 2  # the worker is alive
            finally:
                engine.stop()
                await engine_task
    await redis.aclose()


# The tasks


async def test_workers_that_went_silent_are_retired_and_rows_that_nothing_names_go_after_a_month(
    context: maintenance.MaintenanceContext, ada: Client
) -> None:
    stopped_at = func.now() - timedelta(days=31)
    worker_fields: dict[str, Any] = {"queues": ["x"], "slots": 1}
    rows: list[dict[str, Any]] = [
        {"name": "silent", **worker_fields, "heartbeat_at": func.now() - timedelta(minutes=2)},
        {"name": "alive", **worker_fields},
        {"name": "old", **worker_fields, "stopped_at": stopped_at},
        {"name": "old and named", **worker_fields, "stopped_at": stopped_at},
    ]
    worker_ids: dict[str, UUID] = {}
    async with context.database.work(SYSTEM) as work:
        for values in rows:
            worker_ids[values["name"]] = await work.scalar(insert(Worker).values(values).returning(Worker.id))
        job = await jobs.submit(work, jobs.NewJob(await owner_of(ada), JobKind.EXPORT, "x"))
        await jobs.claim(work, job.id, worker_ids["old and named"], "old and named", 60.0)
    await run_task(context, "retire_workers")
    workers = await context.database.rows(
        select(Worker.name, Worker.stopped_at).where(Worker.id.in_(worker_ids.values())).order_by(Worker.name)
    )
    assert [(worker.name, worker.stopped_at is not None) for worker in workers] == [
        ("alive", False),
        ("old and named", True),
        ("silent", True),
    ]
    await execute(context, text("DELETE FROM jobs"))
    await execute(context, text("DELETE FROM workers WHERE name IN ('alive', 'silent', 'old and named')"))


async def test_keys_of_a_day_ago_and_points_that_nobody_took_over_are_forgotten(
    context: maintenance.MaintenanceContext, ada: Client
) -> None:
    owner_id = await owner_of(ada)
    for key, hours in (("old", 25), ("new", 23)):
        created_at = func.now() - timedelta(hours=hours)
        await execute(
            context,
            insert(IdempotencyKey).values(owner_id=owner_id, key=key, operation="x", request_sha256="0" * 64, created_at=created_at),
        )
        await execute(
            context,
            insert(StagedPoint).values(
                batch_id=uuid4(), position=0, key=key, step=0, value=1.0, staged_at=created_at + timedelta(hours=23.5)
            ),
        )
    assert (await run_task(context, "forget_keys"), await run_task(context, "forget_staged_points")) == (1, 1)
    assert [row.key for row in await context.database.rows(select(IdempotencyKey.key))] == ["new"]
    assert [row.key for row in await context.database.rows(select(StagedPoint.key))] == ["new"]


async def test_batches_that_take_longer_than_a_statement_may_get_smaller(
    context: maintenance.MaintenanceContext, ada: Client, settings: StateSettings
) -> None:
    """600 rows of 2 ms each do not fit into 0.4 s, nor do 312."""
    values = "SELECT id, 'key ' || i, 'x', repeat('0', 64), now() - interval '25 hours' FROM users, generate_series(1, 600) i WHERE username = 'ada'"
    await execute(context, text(f"INSERT INTO idempotency_keys (owner_id, key, operation, request_sha256, created_at) {values}"))
    body = "BEGIN PERFORM pg_sleep(0.002); RETURN OLD; END"
    await execute(context, text(f"CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS '{body}'"))
    await execute(context, text("CREATE TRIGGER slow BEFORE DELETE ON idempotency_keys FOR EACH ROW EXECUTE FUNCTION slow()"))
    try:
        async with Database.open(settings, statement_timeout=0.4) as hasty:
            with capture_logs() as logs:
                assert await run_task(replace(context, database=hasty), "forget_keys") == 600
    finally:
        await execute(context, text("DROP FUNCTION slow CASCADE"))
    assert [entry["rows"] for entry in logs if entry["event"] == "batch_made_smaller"] == [1_250, 312, 78]
    assert await context.database.rows(select(IdempotencyKey.key)) == []


async def test_rows_in_a_default_partition_raise_the_alarm(context: maintenance.MaintenanceContext, ada: Client) -> None:
    await run_task(context, "make_partitions")
    owner_id = await owner_of(ada)
    old_id = UUID(int=7)  # a uuidv7 of 1970
    async with context.database.work(SYSTEM) as work:
        await work.run(insert(Job).values(id=old_id, owner_id=owner_id, kind=JobKind.EXPORT, queue="x"))
        await work.run(
            text("INSERT INTO job_events (job_id, sequence, attempt, type, status, progress) VALUES (:id, 1, 0, 'created', 'pending', 0)"),
            {"id": old_id},
        )
    run = await run_maintenance(context, "make_partitions")
    assert (run.error or "").startswith(
        "job_events_default holds rows, which should have had a partition of their own. In one transaction, move"
    )
    assert (await task_row(context, "make_partitions")).failures >= 1


async def test_an_upload_that_never_came_expires_with_its_version_and_what_was_sent(
    context: maintenance.MaintenanceContext, ada: Client
) -> None:
    dataset = await ada.create_dataset("d")
    late_upload, open_upload = [(await ada.request_upload(dataset, name, CSV))["upload"] for name in ("late.csv", "open.csv")]
    for upload in (late_upload, open_upload):
        assert (await ada.put(upload, CSV)).status_code == 200
    late_id = UUID(late_upload["id"].removeprefix("upload_"))
    nobodys = "expires_at = now() - interval '25 hours', created_by_id = NULL"  # else it would be completed as by its maker
    await execute(context, text(f"UPDATE uploads SET {nobodys} WHERE id = '{late_id}'"))
    assert await run_task(context, "expire_uploads") == 1
    version = await ada.one(VERSION, id=late_upload["version"]["id"])
    message = "The file was not sent, or not completed, in time. Ask for a new upload and send it again."
    assert version == {"status": "FAILED", "issues": [{"code": "UPLOAD_EXPIRED", "message": message}]}
    assert (await ada.complete_upload(late_upload["id"]))["__typename"] == "WrongState"
    assert [key.rpartition("/")[2] for key in await object_keys(context)] == [str(UUID(open_upload["id"].removeprefix("upload_")))]
    assert (await ada.one(VERSION, id=open_upload["version"]["id"]))["status"] == "UPLOADING"


async def test_what_no_row_refers_to_is_collected_once_it_is_old_and_nothing_else(
    context: maintenance.MaintenanceContext, ada: Client
) -> None:
    owner_id = await owner_of(ada)
    dataset = await ada.create_dataset("d")
    upload = (await ada.request_upload(dataset, "d.csv", CSV))["upload"]
    assert (await ada.put(upload, CSV)).status_code == 200
    upload_key = (await object_keys(context))[0]
    async with context.database.work(SYSTEM) as work:
        worker_id = await work.scalar(insert(Worker).values(name="writer", queues=["x"], slots=1).returning(Worker.id))
        running = await jobs.submit(work, jobs.NewJob(owner_id, JobKind.TRAIN, "x"))
        await jobs.claim(work, running.id, worker_id, "writer", 60.0)
        waiting = await jobs.submit(work, jobs.NewJob(owner_id, JobKind.TRAIN, "x"))
        stored_key = f"datasets/{owner_id}/{uuid4()}/{uuid4()}/raw/{uuid4()}"
        await work.run(insert(StoredObject).values(owner_id=owner_id, object_key=stored_key, size_bytes=3, sha256="0" * 64))
        checkpoint_key = f"models/{owner_id}/{waiting.id}/{uuid4()}/checkpoints/1"
        checkpoint_object = {"object_key": checkpoint_key, "size_bytes": 3, "sha256": "0" * 64}
        await work.run(insert(JobCheckpoint).values(job_id=waiting.id, name="rounds", attempt=1, position=1, **checkpoint_object))
    attempt_keys = [
        f"datasets/{owner_id}/{uuid4()}/{uuid4()}/raw/{attempt_key(running.id, 1)}",
        f"models/{owner_id}/{running.id}/{attempt_key(running.id, 1)}/artifacts/{uuid4()}",
    ]
    foreign_key = "backups/of-an-operator"
    needed = sorted([upload_key, stored_key, checkpoint_key, foreign_key, *attempt_keys])
    orphans = [
        f"datasets/{owner_id}/{uuid4()}/{uuid4()}/raw/{attempt_key(running.id, 2)}",
        f"models/{owner_id}/{uuid4()}/{uuid4()}/artifacts/{uuid4()}",
        f"uploads/{owner_id}/{uuid4()}",
        f"jobs/{owner_id}/{uuid4()}/{uuid4()}/logs/log",
        f"exports/{owner_id}/{uuid4()}/data.csv",
    ]
    for key in {*needed, *orphans} - {upload_key}:
        await context.objects.write(key, b"abc", "text/plain")
    context_with_min_age = maintenance.MaintenanceContext(
        context.database, context.objects, context.settings.model_copy(update={"orphan_age": 3600.0})
    )
    assert await run_task(context_with_min_age, "collect_orphans") == 0

    async def all_are_there() -> bool:  # a listing of rclone's may show what was just written a moment later
        return sorted(await object_keys(context)) == sorted([*needed, *orphans])

    await eventually(all_are_there, 10)
    assert await run_task(context, "collect_orphans") == len(orphans)
    assert sorted(await object_keys(context)) == needed
    await execute(context, text("DELETE FROM jobs"))
    await execute(context, text("DELETE FROM workers WHERE name = 'writer'"))


def test_every_column_that_holds_an_objects_key_is_known_to_the_collector() -> None:
    """The collector must check every table that refers to objects, new ones too."""
    holders = {table.name for table in Table.metadata.sorted_tables for column in table.columns if column.name.endswith("object_key")}
    assert holders == {"stored_objects", "uploads", "artifact_uploads", "job_checkpoints"}


async def test_stored_objects_that_nothing_refers_to_go_with_their_bytes(context: maintenance.MaintenanceContext, ada: Client) -> None:
    owner_id = await owner_of(ada)
    for name, digest in (("kept", "1"), ("unused", "2"), ("miscounted", "3")):
        key = f"models/{owner_id}/{name}"
        await context.objects.write(key, b"abc", "text/plain")
        async with context.database.work(SYSTEM) as work:
            values = {"owner_id": owner_id, "object_key": key, "size_bytes": 3, "sha256": digest * 64}
            object_id = await work.scalar(insert(StoredObject).values(values).returning(StoredObject.id))
            if name != "unused":
                job = await jobs.submit(work, jobs.NewJob(owner_id, JobKind.EXPORT, "x"))
                file = {"role": "LOGS", "filename": "log.txt", "content_type": "text/plain"}
                await work.run(insert(Artifact).values(owner_id=owner_id, object_id=object_id, job_id=job.id, **file))
            if name == "miscounted":
                await work.run(update(StoredObject).where(StoredObject.id == object_id).values(reference_count=0))
    assert await run_task(context, "remove_unreferenced") == 1
    assert await object_keys(context) == [f"models/{owner_id}/kept", f"models/{owner_id}/miscounted"]
    assert [row.object_key for row in await context.database.rows(select(StoredObject.object_key).order_by(StoredObject.object_key))] == (
        await object_keys(context)
    )
    assert await storage(context, owner_id) == 6


async def storage(context: maintenance.MaintenanceContext, owner_id: UUID) -> int:
    (user,) = await context.database.rows(select(User.storage_bytes).where(User.id == owner_id))
    return user.storage_bytes


async def test_counters_that_drifted_are_told_and_set_right(context: maintenance.MaintenanceContext, ada: Client) -> None:
    owner_id = await owner_of(ada)
    await execute(context, insert(StoredObject).values(owner_id=owner_id, object_key="models/a", size_bytes=5, sha256="1" * 64))
    assert await run_task(context, "reconcile_counters") == 0
    await execute(context, update(User).where(User.id == owner_id).values(storage_bytes=12))
    await execute(context, update(StoredObject).values(reference_count=4))
    assert await run_task(context, "reconcile_counters") == 2
    assert await storage(context, owner_id) == 5
    (row,) = await context.database.rows(select(StoredObject.reference_count))
    assert row.reference_count == 0


async def test_numbers_of_objects_that_drifted_are_told_and_set_right(context: maintenance.MaintenanceContext, ada: Client) -> None:
    for name in ("a", "b"):
        await ada.create_dataset(name)
    stats = "{ viewer { stats { datasets jobs } } }"
    drifted = update(UserCounter).where(UserCounter.owner_id == await owner_of(ada)).values(value=UserCounter.value + 3)
    await execute(context, drifted)
    await execute(context, insert(UserCounter).values(owner_id=await owner_of(ada), kind="jobs", value=4))
    assert await ada.one(stats) == {"stats": {"datasets": 5, "jobs": 4}}
    with capture_logs() as logged:
        assert await run_task(context, "reconcile_counters") == 2, "which the metric `trellis_maintenance_changed` exports"
    owner = str(await owner_of(ada))
    drift = [(entry["event"], entry["counter"], entry["row"], entry["was"], entry["is_now"]) for entry in logged if "counter" in entry]
    assert drift == [
        ("counter_drift_corrected", "user_counters.datasets", owner, 5, 2),
        ("counter_drift_corrected", "user_counters.jobs", owner, 4, 0),
    ]
    assert await ada.one(stats) == {"stats": {"datasets": 2, "jobs": 0}}
    assert await run_task(context, "reconcile_counters") == 2, "nothing has drifted since"


async def test_an_upload_that_a_worker_of_the_release_before_ingested_is_released(
    context: maintenance.MaintenanceContext, ada: Client, worker: object
) -> None:
    await ada.ingest("d", CSV)
    await ada.request_upload(await ada.create_dataset("open"), "d.csv", CSV)
    await execute(context, text("UPDATE uploads SET state = 'completed' WHERE state = 'ingested'"))
    assert await run_task(context, "reconcile_counters") == 1
    assert sorted(row.state for row in await context.database.rows(select(Upload.state))) == ["ingested", "open"]
