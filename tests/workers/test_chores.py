"""What the workers do without being asked: one of them at a time, as often as it is due, and nothing that anybody still needs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, func, insert, select, text, update

from db.core.base import Table
from db.core.queues import QUEUES
from db.core.viewer import SYSTEM
from db.core.work import Database
from db.queries import operations
from db.services import chores, jobs
from db.services.chores.objects import attempt_key
from db.settings import StateSettings
from db.stores.events import RedisPost, connect
from db.stores.objects import ObjectStore
from db.tables import Artifact, Chore, IdempotencyKey, Job, JobCheckpoint, StagedPoint, StoredObject, User, Worker
from db.tables.jobs import JobKind
from tests.client import Client
from tests.workers.stage import Stage, eventually
from workers.runtime.attempt import Tools
from workers.runtime.child import Nursery
from workers.runtime.engine import Engine
from workers.runtime.scratch import Scratch
from workers.settings import WorkerSettings

CSV = b"a,b\n1,x\n2,y\n"
VERSION = """query($id: ID!) { node(id: $id) { ... on DatasetVersion { status issues { code message } } } }"""
SLEEPER = """
import asyncio, sys
from db.core.work import Database
from db.services import chores
from db.settings import state_settings
from db.stores.objects import ObjectStore

async def sleep(ground):
    print("asleep", flush=True)
    await asyncio.sleep(60)
    return 0

async def main():
    chores.CHORES["sleep"] = chores.Chore("sleep", sleep, lambda settings: 1.0)
    settings = state_settings()
    async with Database.open(settings) as database, ObjectStore.open(settings) as objects:
        await chores.run_chore(chores.Ground(database, objects, settings), "sleep", "sleeper")

asyncio.run(main())
"""


@pytest.fixture
async def ground(settings: StateSettings, database: Database, clean: None) -> AsyncGenerator[chores.Ground]:
    """Every object is old enough to be collected here."""
    async with ObjectStore.open(settings) as objects:
        await objects.ensure_bucket()
        await objects.delete([found.key async for found in objects.list("")])
        yield chores.Ground(database, objects, settings.model_copy(update={"orphan_age": 0.0}))


@pytest.fixture
def nap(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A chore that takes a moment, due every hour; the list says how often it was done."""
    done: list[str] = []

    async def sleep(ground: chores.Ground) -> int:
        await asyncio.sleep(0.05)
        done.append("nap")
        return 2

    monkeypatch.setitem(chores.CHORES, "sleep", chores.Chore("sleep", sleep, lambda settings: 3600.0))
    return done


async def do(ground: chores.Ground, name: str) -> int:
    """Do it; how much has changed by it since the test began, whoever did it."""
    ran = await eventually(lambda: chores.run_chore(ground, name, "test"))
    assert ran.error is None
    return (await row(ground, name)).changed


async def row(ground: chores.Ground, name: str) -> Any:
    return next(found for found in await ground.database.rows(operations.chores()) if found.name == name)


async def owner_of(client: Client) -> UUID:
    return UUID((await client.one("{ viewer { id } }"))["id"].removeprefix("user_"))


async def change(ground: chores.Ground, statement: Any) -> None:
    async with ground.database.work(SYSTEM) as work:
        await work.run(statement)


async def keys(ground: chores.Ground) -> list[str]:
    return [found.key async for found in ground.objects.list("")]


# How they are done


async def test_of_many_workers_one_does_what_is_due_and_it_is_not_due_again(ground: chores.Ground, nap: list[str]) -> None:
    ran = await asyncio.gather(*(chores.run_if_due(ground, "sleep", f"worker {number}") for number in range(10)))
    assert [one for one in ran if one is not None] == [chores.Ran("sleep", 2)]
    assert await chores.run_if_due(ground, "sleep", "late") is None
    found = await row(ground, "sleep")
    assert (nap, found.runs, found.failures, found.changed, found.error) == (["nap"], 1, 0, 2, None)
    assert found.worker.startswith("worker ")
    assert found.ended_at > found.started_at
    assert 3_500 < (await chores.waits(ground))["sleep"] <= 3_600


async def test_an_operator_does_it_now_whether_it_is_due_or_not(ground: chores.Ground, nap: list[str]) -> None:
    for _ in range(3):
        assert await chores.run_chore(ground, "sleep", "operator") == chores.Ran("sleep", 2)
    assert ((await row(ground, "sleep")).runs, (await row(ground, "sleep")).changed) == (3, 6)


async def test_one_that_fails_says_why_and_is_due_again_after_a_minute(
    ground: chores.Ground, nap: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(ground: chores.Ground) -> int:
        raise chores.ChoreFailed("The roof leaks. Call somebody.")

    with monkeypatch.context() as patch:
        patch.setitem(chores.CHORES, "sleep", chores.Chore("sleep", fail, lambda settings: 3600.0))
        assert await chores.run_if_due(ground, "sleep", "worker") == chores.Ran("sleep", 0, "The roof leaks. Call somebody.")
    found = await row(ground, "sleep")
    assert (found.runs, found.failures, found.error) == (1, 1, "The roof leaks. Call somebody.")
    await change(ground, update(Chore).values(started_at=func.now() - timedelta(seconds=61)))
    assert await chores.run_if_due(ground, "sleep", "worker") == chores.Ran("sleep", 2)
    assert (await row(ground, "sleep")).error is None


async def test_a_worker_killed_in_the_middle_leaves_the_chore_to_the_others(ground: chores.Ground, nap: list[str]) -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE)
    assert sleeper.stdout is not None
    assert await asyncio.to_thread(sleeper.stdout.readline) == b"asleep\n"
    assert await chores.run_chore(ground, "sleep", "other") is None
    assert (await row(ground, "sleep")).ended_at is None
    sleeper.kill()
    await asyncio.to_thread(sleeper.wait)
    assert await eventually(lambda: chores.run_chore(ground, "sleep", "other")) == chores.Ran("sleep", 2)
    found = await row(ground, "sleep")
    assert (found.worker, found.runs) == ("other", 1)


async def test_workers_do_them_as_often_as_the_settings_say(stage: Stage) -> None:
    await stage.start(TRELLIS_CHORE_RETIRE_WORKERS="0.5")

    async def twice() -> bool:
        return any(found.name == "retire_workers" and found.runs > 1 for found in await stage.database.rows(operations.chores()))

    await eventually(twice)


async def test_one_that_is_turned_off_is_never_due(ground: chores.Ground) -> None:
    off = chores.Ground(ground.database, ground.objects, ground.settings.model_copy(update={"chore_collect_orphans": 0.0}))
    assert set(chores.CHORES) - set(await chores.waits(off)) == {"collect_orphans"}


async def test_an_idle_worker_sends_two_statements_a_second_at_most(ground: chores.Ground, settings: StateSettings, tmp_path: Path) -> None:
    seconds, sent = 8, list[str]()
    own = WorkerSettings(scratch=tmp_path)
    redis = connect(settings.redis_url)
    with Scratch.open(own.scratch) as scratch:
        async with (
            Database.open(settings, RedisPost(redis)) as database,
            ObjectStore.open(settings) as objects,
            Nursery(preload=False) as nursery,
        ):
            engine = Engine(Tools(database, objects, nursery, scratch, own), settings.redis_url, [f"idle-{queue}" for queue in QUEUES], {})
            running = asyncio.create_task(engine.run())

            async def settled() -> bool:
                ended = {found.name for found in await ground.database.rows(operations.chores()) if found.ended_at is not None}
                return ended >= set(chores.CHORES)

            await eventually(settled)
            event.listen(
                database.engine.sync_engine, "before_cursor_execute", lambda _connection, _cursor, statement, *_: sent.append(statement)
            )
            await asyncio.sleep(seconds)
            print(f"{len(sent)} statements in {seconds} s")
            assert len(sent) <= 2 * seconds, sent
            assert len(sent) >= seconds / 2  # it lives
            engine.stop()
            await running
    await redis.aclose()


# What they do


async def test_workers_that_went_silent_are_retired_and_rows_that_nothing_names_go_after_a_month(
    ground: chores.Ground, ada: Client
) -> None:
    ago = func.now() - timedelta(days=31)
    named: dict[str, Any] = {"queues": ["x"], "slots": 1}
    rows: list[dict[str, Any]] = [
        {"name": "silent", **named, "heartbeat_at": func.now() - timedelta(minutes=2)},
        {"name": "alive", **named},
        {"name": "old", **named, "stopped_at": ago},
        {"name": "old and named", **named, "stopped_at": ago},
    ]
    made: dict[str, UUID] = {}
    async with ground.database.work(SYSTEM) as work:
        for values in rows:
            made[values["name"]] = await work.scalar(insert(Worker).values(values).returning(Worker.id))
        job = await jobs.submit(work, jobs.NewJob(await owner_of(ada), JobKind.EXPORT, "x"))
        await jobs.claim(work, job.id, made["old and named"], "old and named", 60.0)
    await do(ground, "retire_workers")
    found = await ground.database.rows(select(Worker.name, Worker.stopped_at).where(Worker.id.in_(made.values())).order_by(Worker.name))
    assert [(worker.name, worker.stopped_at is not None) for worker in found] == [
        ("alive", False),
        ("old and named", True),
        ("silent", True),
    ]
    await change(ground, text("DELETE FROM jobs"))
    await change(ground, text("DELETE FROM workers WHERE name IN ('alive', 'silent', 'old and named')"))


async def test_keys_of_a_day_ago_and_points_that_nobody_took_over_are_forgotten(ground: chores.Ground, ada: Client) -> None:
    owner_id = await owner_of(ada)
    for key, hours in (("old", 25), ("new", 23)):
        made = func.now() - timedelta(hours=hours)
        await change(
            ground,
            insert(IdempotencyKey).values(owner_id=owner_id, key=key, operation="x", request_sha256="0" * 64, created_at=made),
        )
        await change(
            ground,
            insert(StagedPoint).values(batch_id=uuid4(), position=0, key=key, step=0, value=1.0, staged_at=made + timedelta(hours=23.5)),
        )
    assert (await do(ground, "forget_keys"), await do(ground, "forget_staged_points")) == (1, 1)
    assert [found.key for found in await ground.database.rows(select(IdempotencyKey.key))] == ["new"]
    assert [found.key for found in await ground.database.rows(select(StagedPoint.key))] == ["new"]


async def test_rows_in_a_default_partition_raise_the_alarm(ground: chores.Ground, ada: Client) -> None:
    await do(ground, "make_partitions")
    owner_id = await owner_of(ada)
    ancient = UUID(int=7)  # a uuidv7 of 1970
    async with ground.database.work(SYSTEM) as work:
        await work.run(insert(Job).values(id=ancient, owner_id=owner_id, kind=JobKind.EXPORT, queue="x"))
        await work.run(
            text("INSERT INTO job_events (job_id, sequence, attempt, type, status, progress) VALUES (:id, 1, 0, 'created', 'pending', 0)"),
            {"id": ancient},
        )
    ran = await eventually(lambda: chores.run_chore(ground, "make_partitions", "test"))
    assert ran.error.startswith("job_events_default holds rows, which should have had a partition of their own. In one transaction, move")
    assert (await row(ground, "make_partitions")).failures >= 1


async def test_an_upload_that_never_came_expires_with_its_version_and_what_was_sent(ground: chores.Ground, ada: Client) -> None:
    dataset = await ada.create_dataset("d")
    late, open_still = [(await ada.request_upload(dataset, name, CSV))["upload"] for name in ("late.csv", "open.csv")]
    for upload in (late, open_still):
        assert (await ada.put(upload, CSV)).status_code == 200
    late_id = UUID(late["id"].removeprefix("upload_"))
    await change(ground, text(f"UPDATE uploads SET expires_at = now() - interval '25 hours' WHERE id = '{late_id}'"))
    assert await do(ground, "expire_uploads") == 1
    found = await ada.one(VERSION, id=late["version"]["id"])
    message = "The file was not sent, or not completed, in time. Ask for a new upload and send it again."
    assert found == {"status": "FAILED", "issues": [{"code": "UPLOAD_EXPIRED", "message": message}]}
    assert (await ada.complete_upload(late["id"]))["__typename"] == "WrongState"
    assert [key.rpartition("/")[2] for key in await keys(ground)] == [str(UUID(open_still["id"].removeprefix("upload_")))]
    assert (await ada.one(VERSION, id=open_still["version"]["id"]))["status"] == "UPLOADING"


async def test_what_no_row_refers_to_is_collected_once_it_is_old_and_nothing_else(ground: chores.Ground, ada: Client) -> None:
    owner_id = await owner_of(ada)
    dataset = await ada.create_dataset("d")
    upload = (await ada.request_upload(dataset, "d.csv", CSV))["upload"]
    assert (await ada.put(upload, CSV)).status_code == 200
    awaited = (await keys(ground))[0]
    async with ground.database.work(SYSTEM) as work:
        worker_id = await work.scalar(insert(Worker).values(name="writer", queues=["x"], slots=1).returning(Worker.id))
        running = await jobs.submit(work, jobs.NewJob(owner_id, JobKind.TRAIN, "x"))
        await jobs.claim(work, running.id, worker_id, "writer", 60.0)
        waiting = await jobs.submit(work, jobs.NewJob(owner_id, JobKind.TRAIN, "x"))
        stored = f"datasets/{owner_id}/{uuid4()}/{uuid4()}/raw/{uuid4()}"
        await work.run(insert(StoredObject).values(owner_id=owner_id, object_key=stored, size_bytes=3, sha256="0" * 64))
        checkpoint = f"models/{owner_id}/{waiting.id}/{uuid4()}/checkpoints/1"
        saved = {"object_key": checkpoint, "size_bytes": 3, "sha256": "0" * 64}
        await work.run(insert(JobCheckpoint).values(job_id=waiting.id, name="rounds", attempt=1, position=1, **saved))
    written = [
        f"datasets/{owner_id}/{uuid4()}/{uuid4()}/raw/{attempt_key(running.id, 1)}",
        f"models/{owner_id}/{running.id}/{attempt_key(running.id, 1)}/artifacts/{uuid4()}",
    ]
    elsewhere = "backups/of-an-operator"
    needed = sorted([awaited, stored, checkpoint, elsewhere, *written])
    orphans = [
        f"datasets/{owner_id}/{uuid4()}/{uuid4()}/raw/{attempt_key(running.id, 2)}",
        f"models/{owner_id}/{uuid4()}/{uuid4()}/artifacts/{uuid4()}",
        f"uploads/{owner_id}/{uuid4()}",
        f"jobs/{owner_id}/{uuid4()}/{uuid4()}/logs/log",
        f"exports/{owner_id}/{uuid4()}/data.csv",
    ]
    for key in {*needed, *orphans} - {awaited}:
        await ground.objects.write(key, b"abc", "text/plain")
    young = chores.Ground(ground.database, ground.objects, ground.settings.model_copy(update={"orphan_age": 3600.0}))
    assert await do(young, "collect_orphans") == 0
    assert sorted(await keys(ground)) == sorted([*needed, *orphans])
    assert await do(ground, "collect_orphans") == len(orphans)
    assert sorted(await keys(ground)) == needed
    await change(ground, text("DELETE FROM jobs"))
    await change(ground, text("DELETE FROM workers WHERE name = 'writer'"))


def test_every_column_that_holds_an_objects_key_is_known_to_the_collector() -> None:
    """A new table that refers to objects must be looked at before they are collected."""
    holders = {table.name for table in Table.metadata.sorted_tables for column in table.columns if column.name.endswith("object_key")}
    assert holders == {"stored_objects", "uploads", "job_checkpoints"}


async def test_stored_objects_that_nothing_refers_to_go_with_their_bytes(ground: chores.Ground, ada: Client) -> None:
    owner_id = await owner_of(ada)
    for name, digest in (("kept", "1"), ("unused", "2"), ("miscounted", "3")):
        key = f"models/{owner_id}/{name}"
        await ground.objects.write(key, b"abc", "text/plain")
        async with ground.database.work(SYSTEM) as work:
            values = {"owner_id": owner_id, "object_key": key, "size_bytes": 3, "sha256": digest * 64}
            object_id = await work.scalar(insert(StoredObject).values(values).returning(StoredObject.id))
            if name != "unused":
                job = await jobs.submit(work, jobs.NewJob(owner_id, JobKind.EXPORT, "x"))
                file = {"role": "LOGS", "filename": "log.txt", "content_type": "text/plain"}
                await work.run(insert(Artifact).values(owner_id=owner_id, object_id=object_id, job_id=job.id, **file))
            if name == "miscounted":
                await work.run(update(StoredObject).where(StoredObject.id == object_id).values(reference_count=0))
    assert await do(ground, "remove_unreferenced") == 1
    assert await keys(ground) == [f"models/{owner_id}/kept", f"models/{owner_id}/miscounted"]
    assert [
        found.object_key for found in await ground.database.rows(select(StoredObject.object_key).order_by(StoredObject.object_key))
    ] == (await keys(ground))
    assert await storage(ground, owner_id) == 6


async def storage(ground: chores.Ground, owner_id: UUID) -> int:
    (found,) = await ground.database.rows(select(User.storage_bytes).where(User.id == owner_id))
    return found.storage_bytes


async def test_counters_that_drifted_are_told_and_set_right(ground: chores.Ground, ada: Client) -> None:
    owner_id = await owner_of(ada)
    await change(ground, insert(StoredObject).values(owner_id=owner_id, object_key="models/a", size_bytes=5, sha256="1" * 64))
    assert await do(ground, "reconcile_counters") == 0
    await change(ground, update(User).where(User.id == owner_id).values(storage_bytes=12))
    await change(ground, update(StoredObject).values(reference_count=4))
    assert await do(ground, "reconcile_counters") == 2
    assert await storage(ground, owner_id) == 5
    (found,) = await ground.database.rows(select(StoredObject.reference_count))
    assert found.reference_count == 0
