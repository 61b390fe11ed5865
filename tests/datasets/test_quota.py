"""The storage quota holds: whatever may lie in the store counts, and neither concurrent uploads nor jobs pass it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import delete, func, insert, select, text

from db.core.viewer import SYSTEM
from db.core.work import Database, Work
from db.services import maintenance
from db.settings import StateSettings, state_settings
from db.stores.objects import ObjectStore
from db.tables import Artifact, Dataset, Job, ModelVersion, Run, StoredObject, Upload, User
from tests.client import Client
from tests.exhaustive import exhaustive
from tests.workers.worker_harness import eventually, run_maintenance

CSV = b"a,b\n1,3\n2,1\n3,2\n4,1\n5,3\n6,2\n7,1\n8,3\n9,2\n10,1\n"
FILE = b"a,b\n" + b"1,2\n" * 14  # 60 bytes
RETRY = """mutation($input: RetryJobInput!) { retryJob(input: $input) { __typename ... on RetryJobPayload { job { id } }
  ... on QuotaExceeded { code resource limit used } } }"""
COMPLETE = """mutation($id: ID!, $key: String) { completeUpload(input: {uploadId: $id, idempotencyKey: $key}) { __typename
  ... on QuotaExceeded { limit used } } }"""

SetLimit = Callable[[int], None]


@pytest.fixture
def set_limit(settings: StateSettings, monkeypatch: pytest.MonkeyPatch) -> SetLimit:
    """Set the quota in this process, which the API shares; workers keep the default."""
    return lambda limit: monkeypatch.setattr(state_settings(), "storage_quota_bytes", limit)


async def request_upload(client: Client, dataset: str, size: int, **fields: Any) -> dict[str, Any]:
    return await client.one(
        "mutation($input: RequestUploadInput!) { requestUpload(input: $input) { __typename ... on RequestUploadPayload { upload { id } }"
        " ... on QuotaExceeded { code resource limit used } } }",
        input={"datasetId": dataset, "filename": "d.csv", "sizeBytes": size, **fields},
    )


async def used_bytes(client: Client, set_limit: SetLimit) -> int:
    """What the account uses, as QuotaExceeded reports it."""
    before = state_settings().storage_quota_bytes
    set_limit(1)
    dataset = await client.create_dataset("used")
    refused = await request_upload(client, dataset, 2)
    await client.one("mutation($id: ID!) { deleteDataset(input: {id: $id}) { __typename } }", id=dataset)
    set_limit(before)
    return refused["used"]


async def owner_of(client: Client) -> UUID:
    return UUID((await client.one("{ viewer { id } }"))["id"].removeprefix("user_"))


async def count(database: Database, table: Any) -> int:
    return (await database.rows(select(func.count()).select_from(table)))[0][0]


async def stored_bytes(database: Database) -> int:
    """Of all users who are there: a worker may still store something of a job of an earlier test."""
    statement = select(func.coalesce(func.sum(StoredObject.size_bytes), 0)).join(User, User.id == StoredObject.owner_id)
    return int((await database.rows(statement))[0][0])


async def test_requests_at_the_same_time_take_exactly_what_fits(
    ada: Client, database: Database, set_limit: SetLimit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first that has passed its check does not commit until many others are at theirs."""
    set_limit(100)
    datasets = [await ada.create_dataset(f"d{number}") for number in range(20)]  # requests for one dataset wait for each other
    check, began, passed, many_began = Work.run_before_commit, [0], [0], asyncio.Event()

    async def delayed_check(work: Work) -> None:
        began[0] += 1
        if began[0] == 12:  # the pool has 20 connections, some of which others may use
            many_began.set()
        await check(work)
        passed[0] += 1
        if passed[0] == 1:
            await many_began.wait()

    monkeypatch.setattr(Work, "run_before_commit", delayed_check)
    answers = await asyncio.gather(*(request_upload(ada, datasets[number], 30, idempotencyKey=f"{number}") for number in range(20)))
    monkeypatch.setattr(Work, "run_before_commit", check)
    assert sorted(answer["__typename"] for answer in answers) == ["QuotaExceeded"] * 17 + ["RequestUploadPayload"] * 3
    refused = {"__typename": "QuotaExceeded", "code": "QUOTA_EXCEEDED", "resource": "storage bytes", "limit": 100, "used": 90}
    assert [answer for answer in answers if answer["__typename"] == "QuotaExceeded"] == [refused] * 17
    assert await count(database, Upload) == 3
    set_limit(120)
    number = answers.index(refused)  # a refusal has not used up its key
    assert (await request_upload(ada, datasets[number], 30, idempotencyKey=f"{number}"))["__typename"] == "RequestUploadPayload"


async def test_the_sum_reads_no_upload_that_was_ingested(
    ada: Client, database: Database, capture_statements: Callable[[], AbstractContextManager[list[str]]]
) -> None:
    """Not with a generic plan either, which does not know the parameters."""
    with capture_statements() as sent:
        await request_upload(ada, await ada.create_dataset("d"), 30)
    (query,) = [statement for statement in sent if "sum(uploads.size_bytes)" in statement]
    unknown = re.sub(r"\$\d+::(\w+)", r"(SELECT NULL::\1)::\1", query)
    async with database.session() as connection:
        await connection.exec_driver_sql("SET enable_seqscan = off")
        plan = (await connection.exec_driver_sql(f"EXPLAIN {unknown}")).scalars().all()
        await connection.exec_driver_sql("RESET enable_seqscan")
    assert {index for line in plan for index in re.findall(r"ix_uploads_\w+", line)} == {"ix_uploads_holding"}


async def test_completed_uploads_count_before_and_after_they_are_ingested(
    ada: Client, database: Database, worker: object, set_limit: SetLimit
) -> None:
    """Each is completed before the next is requested, which was the way around the quota."""
    set_limit(100)
    dataset = await ada.create_dataset("d")

    async def upload() -> str | None:
        requested = await ada.request_upload(dataset, "d.csv", FILE)
        if requested["__typename"] == "QuotaExceeded":
            return None
        assert (await ada.put(requested["upload"], FILE)).status_code == 200
        return (await ada.complete_upload(requested["upload"]["id"]))["job"]["id"]

    jobs = [job for job in [*[await upload() for _ in range(10)], *await asyncio.gather(*(upload() for _ in range(10)))] if job is not None]
    assert len(jobs) == 1
    assert (await ada.wait(jobs[0]))["status"] == "COMPLETED"
    assert await used_bytes(ada, set_limit) == await stored_bytes(database) > 100  # the worker's limit is higher


async def test_an_upload_is_checked_again_when_it_is_completed(ada: Client, bob: Client, database: Database, set_limit: SetLimit) -> None:
    dataset = await ada.create_dataset("d")
    uploads = [(await ada.request_upload(dataset, "d.csv", FILE))["upload"] for _ in range(4)]
    for upload in uploads:
        assert (await ada.put(upload, FILE)).status_code == 200
    set_limit(239)
    refused = await asyncio.gather(*(ada.one(COMPLETE, id=upload["id"], key=upload["id"]) for upload in uploads))
    assert refused == [{"__typename": "QuotaExceeded", "limit": 239, "used": 240}] * 4
    assert await count(database, Job) == 0
    assert (await request_upload(bob, await bob.create_dataset("d"), 200))["__typename"] == "RequestUploadPayload"  # an account's own quota
    set_limit(240)
    completed = await asyncio.gather(*(ada.one(COMPLETE, id=upload["id"], key=upload["id"]) for upload in uploads))
    assert [answer["__typename"] for answer in completed] == ["CompleteUploadPayload"] * 4
    assert await count(database, Job) == 4


@pytest.mark.exhaustive
async def test_an_upload_gives_its_bytes_back_when_it_expires_or_mismatches_and_not_when_its_ingest_fails(
    ada: Client, database: Database, settings: StateSettings, worker: object, set_limit: SetLimit
) -> None:
    _, job = await ada.upload(await ada.create_dataset("broken"), "picture.csv", b"\x89PNG\r\n\x1a\n" + b"\x00" * 52)
    assert (await ada.wait(job))["status"] == "FAILED"
    kept = 60 + await stored_bytes(database)  # the uploaded file, for a retry, and the job's log
    assert await used_bytes(ada, set_limit) == kept
    dataset = await ada.create_dataset("d")
    mismatched = (await ada.request_upload(dataset, "d.csv", FILE, sha256="0" * 64))["upload"]
    await ada.put(mismatched, FILE)
    assert await used_bytes(ada, set_limit) == kept + 60
    assert (await ada.complete_upload(mismatched["id"]))["__typename"] == "UploadMismatch"
    assert await used_bytes(ada, set_limit) == kept
    await ada.request_upload(dataset, "d.csv", FILE)
    async with ObjectStore.open(settings) as objects:
        context = maintenance.MaintenanceContext(database, objects, settings)
        for age, used in (("1 hour", kept + 60), ("25 hours", kept)):  # until the grace has passed, it may be completed
            async with database.work(SYSTEM) as work:
                await work.run(text(f"UPDATE uploads SET expires_at = now() - interval '{age}' WHERE state = 'open'"))
            await run_maintenance(context, "expire_uploads")
            assert await used_bytes(ada, set_limit) == used
        await run_maintenance(context, "reconcile_counters")
        assert await used_bytes(ada, set_limit) == kept


async def fill(database: Database, client: Client, left: int) -> None:
    """Store so much that `left` bytes fit in the default quota; as a log, since maintenance removes what nothing refers to."""
    owner_id = await owner_of(client)
    async with database.work(SYSTEM) as work:
        await work.run(delete(Artifact).where(Artifact.filename == "ballast"))
        await work.run(delete(StoredObject).where(StoredObject.object_key == "models/ballast"))
        size = state_settings().storage_quota_bytes - await work.scalar(select(func.sum(StoredObject.size_bytes))) - left
        ballast = {"owner_id": owner_id, "object_key": "models/ballast", "sha256": "0" * 64, "size_bytes": size}
        object_id = await work.scalar(insert(StoredObject).values(ballast).returning(StoredObject.id))
        file = {"role": "LOG", "filename": "ballast", "content_type": "text/plain", "job_id": await work.scalar(select(Job.id).limit(1))}
        await work.run(insert(Artifact).values(owner_id=owner_id, object_id=object_id, **file))


@pytest.mark.exhaustive
async def test_an_account_at_its_quota_starts_no_job(ada: Client, database: Database, worker: object) -> None:
    version = await ada.ingest("d", CSV)
    pipeline = (await ada.create_pipeline("p", ("data", "dataset", {}), ("scale", "scale", {})))["pipeline"]["id"]
    ended = (await ada.run_pipeline(pipeline, version))["job"]["id"]
    assert (await ada.wait(ended))["status"] == "COMPLETED"
    await fill(database, ada, 0)
    tables = (Job, Dataset, Run)
    before = [await count(database, table) for table in tables]
    for _ in range(2):
        assert (await ada.run_pipeline(pipeline, version, idempotencyKey="run"))["__typename"] == "QuotaExceeded"
        limit = state_settings().storage_quota_bytes
        expected = {"__typename": "QuotaExceeded", "code": "QUOTA_EXCEEDED", "resource": "storage bytes", "limit": limit, "used": limit}
        assert await ada.one(RETRY, input={"id": ended, "idempotencyKey": "retry"}) == expected
    assert [await count(database, table) for table in tables] == before
    await fill(database, ada, 10**6)
    assert (await ada.wait((await ada.run_pipeline(pipeline, version, idempotencyKey="run"))["job"]["id"]))["status"] == "COMPLETED"
    assert (await ada.one(RETRY, input={"id": ended, "idempotencyKey": "retry"}))["__typename"] == "RetryJobPayload"


@pytest.mark.parametrize("kind", [exhaustive("INGEST"), "PROCESS", exhaustive("TRAIN")])
async def test_a_job_whose_outputs_do_not_fit_fails_and_keeps_none_of_them(
    ada: Client, database: Database, settings: StateSettings, worker: object, kind: str
) -> None:
    version = await ada.ingest("d", CSV)
    last = ("train", "train_linear_regression", {"target": "b"}) if kind == "TRAIN" else ("scale", "scale", {})
    pipeline = (await ada.create_pipeline("p", ("data", "dataset", {}), last))["pipeline"]["id"]
    await fill(database, ada, len(FILE))
    if kind == "INGEST":
        uploaded, job = await ada.upload(await ada.create_dataset("other"), "other.csv", FILE)
    else:
        uploaded, job = None, (await ada.run_pipeline(pipeline, version))["job"]["id"]
    failed = await ada.wait(job)
    assert (failed["kind"], failed["status"], failed["error"]["code"], failed["tries"]) == (kind, "FAILED", "QUOTA_EXCEEDED", 1)
    assert "higher limit" in failed["error"]["message"]
    assert (failed["error"]["retryable"], failed["outputs"]) == (False, [])
    if uploaded is not None:
        assert await ada.one(
            "query($id: ID!) { node(id: $id) { ... on DatasetVersion { status rawFile { id } processedFile { id } profile { id } issues { code } } } }",
            id=uploaded,
        ) == {"status": "FAILED", "rawFile": None, "processedFile": None, "profile": None, "issues": [{"code": "QUOTA_EXCEEDED"}]}
    assert await count(database, ModelVersion) == 0
    assert {row.status.name for row in await database.rows(select(Run.status))} <= {"FAILED"}
    async with ObjectStore.open(settings) as objects:
        rows = await database.rows(select(StoredObject.object_key).where(StoredObject.object_key != "models/ballast"))
        uploads = await database.rows(select(Upload.object_key).where(Upload.state == "completed"))
        needed = {row.object_key for row in (*rows, *uploads)}

        async def only_needed_objects() -> bool:
            """What an attempt has written is removed after the job has ended."""
            owner = str(await owner_of(ada))
            return needed == {listed.key async for listed in objects.list("") if owner in listed.key}

        await eventually(only_needed_objects)
    await fill(database, ada, 10**6)
    retried = (await ada.one(RETRY, input={"id": job}))["job"]["id"]
    assert (await ada.wait(retried))["status"] == "COMPLETED"
