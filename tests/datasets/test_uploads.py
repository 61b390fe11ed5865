"""A file is uploaded by a presigned PUT, checked and ingested as a version."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy import func, select, text, update

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services import idempotency
from db.settings import StateSettings
from db.stores.objects import ObjectStore
from db.tables import IdempotencyKey, Job
from db.tables.jobs import JobKind
from tests.client import Client
from tests.exhaustive import few

CSV = b"a,b\n1,x\n2,y\n"
VERSION = """query($id: ID!) { node(id: $id) { ... on DatasetVersion { number status source originalFilename format sizeBytes sha256 rowCount columnCount
  columns { name type nullable } issues { code message row column } rawFile { role filename sizeBytes sha256 downloadUrl } processedFile { role filename downloadUrl }
  preview(first: 5) producedBy { id } dataset { currentVersion { id } } } } }"""


async def read_version(client: Client, id: str) -> dict[str, Any]:
    return await client.one(VERSION, id=id)


async def test_an_upload_becomes_a_ready_version(ada: Client, worker: object) -> None:
    dataset = await ada.create_dataset("d")
    version_id, job = await ada.upload(dataset, "a file.csv", CSV)
    assert (await ada.wait(job))["status"] == "COMPLETED"
    version_node = await read_version(ada, version_id)
    assert version_node["dataset"] == {"currentVersion": {"id": version_id}}
    raw, processed = version_node["rawFile"], version_node["processedFile"]
    assert (raw["filename"], raw["sizeBytes"], raw["sha256"]) == ("a file.csv", len(CSV), hashlib.sha256(CSV).hexdigest())
    answer = httpx.get(raw["downloadUrl"], verify=False)
    assert (answer.status_code, answer.content) == (200, CSV)
    assert "attachment" in answer.headers["content-disposition"]
    assert httpx.get(processed["downloadUrl"], verify=False).content[:4] == b"PAR1"
    expected = {
        "number": 1,
        "status": "READY",
        "source": "UPLOAD",
        "originalFilename": "a file.csv",
        "format": "CSV",
        "sizeBytes": len(CSV),
        "sha256": hashlib.sha256(CSV).hexdigest(),
        "rowCount": 2,
        "columnCount": 2,
        "issues": [],
        "preview": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}],
        "producedBy": {"id": job},
    }
    assert {key: version_node[key] for key in expected} == expected
    assert version_node["columns"][0] == {"name": "a", "type": "INTEGER", "nullable": False}


async def test_a_file_of_another_size_is_a_mismatch_and_is_removed(ada: Client, settings: StateSettings) -> None:
    dataset = await ada.create_dataset("d")
    upload = (await ada.request_upload(dataset, "d.csv", CSV, sha256=hashlib.sha256(b"something else").hexdigest()))["upload"]
    assert (await ada.put(upload, CSV)).status_code == 200
    refused = await ada.complete_upload(upload["id"])
    assert refused["__typename"] == "UploadMismatch"
    assert (refused["expected"], refused["actual"]) == (hashlib.sha256(b"something else").hexdigest(), hashlib.sha256(CSV).hexdigest())
    version_node = await read_version(ada, upload["version"]["id"])
    assert (version_node["status"], [issue["code"] for issue in version_node["issues"]]) == ("FAILED", ["UPLOAD_MISMATCH"])
    again = await ada.complete_upload(upload["id"])
    assert (again["__typename"], again["state"]) == ("WrongState", "FAILED")
    async with ObjectStore.open(settings) as objects:
        assert await objects.head(object_key_of(upload, settings)) is None


async def test_a_file_too_large_to_be_hashed_at_once_is_found_out_by_its_ingest_and_is_removed(
    ada: Client, worker: object, settings: StateSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.services.uploads.MAX_INLINE_HASH_BYTES", 1)
    dataset = await ada.create_dataset("d")
    upload = (await ada.request_upload(dataset, "d.csv", CSV, sha256=hashlib.sha256(b"something else").hexdigest()))["upload"]
    assert (await ada.put(upload, CSV)).status_code == 200
    job = (await ada.complete_upload(upload["id"]))["job"]["id"]
    assert (await ada.wait(job))["status"] == "FAILED"
    version_node = await read_version(ada, upload["version"]["id"])
    assert (version_node["status"], [issue["code"] for issue in version_node["issues"]]) == ("FAILED", ["UPLOAD_MISMATCH"])
    assert (version_node["rawFile"], version_node["processedFile"]) == (None, None)
    retry = "mutation($id: ID!) { retryJob(input: {id: $id}) { __typename ... on WrongState { state } } }"
    assert await ada.one(retry, id=job) == {"__typename": "WrongState", "state": "FAILED"}
    async with ObjectStore.open(settings) as objects, asyncio.timeout(60):
        while await objects.head(object_key_of(upload, settings)) is not None:  # deleted after the job has ended
            await asyncio.sleep(0.05)


def object_key_of(upload: dict[str, Any], settings: StateSettings) -> str:
    """The object key in an upload's presigned URL."""
    return urlsplit(upload["url"]).path.split(f"/{settings.s3_bucket}/", 1)[1]


async def test_an_upload_that_did_not_arrive_cannot_be_completed(ada: Client) -> None:
    dataset = await ada.create_dataset("d")
    upload = (await ada.request_upload(dataset, "d.csv", CSV))["upload"]
    refused = await ada.complete_upload(upload["id"])
    assert (refused["__typename"], refused["state"]) == ("WrongState", "UPLOADING")
    assert (await read_version(ada, upload["version"]["id"]))["status"] == "UPLOADING"


async def test_the_url_takes_only_what_was_announced(ada: Client) -> None:
    dataset = await ada.create_dataset("d")
    upload = (await ada.request_upload(dataset, "d.csv", CSV))["upload"]
    longer = {**upload, "headers": [header for header in upload["headers"] if header["name"].lower() != "content-length"]}
    assert (await ada.put(longer, CSV + b"3,z\n")).status_code == 403
    assert (await ada.put({**upload, "url": upload["url"].replace("uploads/", "datasets/")}, CSV)).status_code == 403


async def test_one_idempotency_key_makes_one_upload_and_one_job(ada: Client, worker: object) -> None:
    dataset = await ada.create_dataset("d")
    first = await ada.request_upload(dataset, "d.csv", CSV, idempotencyKey="k")
    second = await ada.request_upload(dataset, "d.csv", CSV, idempotencyKey="k")
    assert first["upload"]["id"] == second["upload"]["id"]
    assert first["upload"]["version"] == second["upload"]["version"]
    assert (await ada.request_upload(dataset, "other.csv", CSV, idempotencyKey="k"))["code"] == "CONFLICT"
    assert (await ada.put(first["upload"], CSV)).status_code == 200
    done = await ada.complete_upload(first["upload"]["id"], idempotencyKey="c")
    assert await ada.complete_upload(first["upload"]["id"], idempotencyKey="c") == done
    assert (await ada.wait(done["job"]["id"]))["status"] == "COMPLETED"
    assert await ada.complete_upload(first["upload"]["id"], idempotencyKey="c") == done
    assert (await ada.complete_upload(first["upload"]["id"]))["__typename"] == "WrongState"


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"sizeBytes": 0}, "sizeBytes"),
        ({"sizeBytes": 10**15}, "sizeBytes"),
        ({"sizeBytes": 5 * 1024**3 + 1}, "sizeBytes"),
        ({"filename": " "}, "filename"),
        ({"filename": "traces.SGY"}, "filename"),
        ({"filename": "images.zip.tar"}, "filename"),
        ({"filename": "rows.csv.GZ"}, "filename"),
        ({"filename": "plot.png"}, "filename"),
        ({"sha256": "xyz"}, "sha256"),
    ],
)
async def test_a_file_that_cannot_be_is_refused_before_it_is_sent(ada: Client, fields: dict[str, Any], path: str) -> None:
    dataset = await ada.create_dataset("d")
    query = """mutation($input: RequestUploadInput!) { requestUpload(input: $input) { ... on InvalidInput { issues { path } } ... on Problem { code } } }"""
    refused = await ada.one(query, input={"datasetId": dataset, "filename": "d.csv", "sizeBytes": 12, **fields})
    assert refused == {"code": "INVALID_INPUT", "issues": [{"path": [path]}]}
    assert (await ada.one("query($id: ID!) { dataset(id: $id) { versions { totalCount } } }", id=dataset))["versions"] == {"totalCount": 0}


async def test_a_stranger_cannot_complete_or_request(ada: Client, bob: Client) -> None:
    dataset = await ada.create_dataset("d")
    upload = (await ada.request_upload(dataset, "d.csv", CSV))["upload"]
    assert (await bob.complete_upload(upload["id"]))["code"] == "NOT_FOUND"
    assert (await bob.request_upload(dataset, "d.csv", CSV))["code"] == "NOT_FOUND"


async def test_a_dataset_with_a_job_that_has_not_ended_cannot_be_deleted(ada: Client, worker: object) -> None:
    rows = b"".join(b"%d,%d\n" % (i, i * i) for i in range(200_000))
    dataset = await ada.create_dataset("d")
    _, job = await ada.upload(dataset, "d.csv", b"a,b\n" + rows)
    delete = "mutation($id: ID!) { deleteDataset(input: {id: $id}) { __typename ... on WrongState { state } } }"
    refused = await ada.one(delete, id=dataset)
    assert refused["__typename"] == "WrongState"
    await ada.wait(job)
    assert (await ada.one(delete, id=dataset))["__typename"] == "DeleteDatasetPayload"


@pytest.mark.parametrize("moment", ["before it looks", "before it reads"])
@pytest.mark.parametrize("key", few(1, ["the same", None]))
async def test_who_completes_what_was_ingested_meanwhile_is_told_so(
    ada: Client, worker: object, monkeypatch: pytest.MonkeyPatch, moment: str, key: str | None
) -> None:
    """The first call is held while it reads the object store until the other call's job has removed the file."""
    dataset = await ada.create_dataset("d")
    upload = (await ada.request_upload(dataset, "d.csv", CSV, sha256=hashlib.sha256(CSV).hexdigest()))["upload"]
    assert (await ada.put(upload, CSV)).status_code == 200
    key_argument = {} if key is None else {"idempotencyKey": key}
    original_head, head_called, go_on = ObjectStore.head, asyncio.Event(), asyncio.Event()

    async def delayed_head(store: ObjectStore, object_key: str) -> Any:
        if head_called.is_set():
            return await original_head(store, object_key)
        head_called.set()
        result = await original_head(store, object_key) if moment == "before it reads" else None
        await go_on.wait()
        return result or await original_head(store, object_key)

    monkeypatch.setattr(ObjectStore, "head", delayed_head)
    slow = asyncio.create_task(ada.complete_upload(upload["id"], **key_argument))
    await head_called.wait()
    done = await ada.complete_upload(upload["id"], **key_argument)
    assert (await ada.wait(done["job"]["id"]))["status"] == "COMPLETED"
    go_on.set()
    slow_answer = await slow
    if key is None:
        assert (slow_answer["__typename"], slow_answer["state"]) == ("WrongState", "READY")
    else:
        assert slow_answer == done
    assert (await read_version(ada, upload["version"]["id"]))["producedBy"] == {"id": done["job"]["id"]}


async def test_who_completes_with_the_same_key_at_the_same_time_is_answered_the_same(
    ada: Client, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first call is held, after it has found the key unused, until the other call has ended."""
    dataset = await ada.create_dataset("d")
    upload = (await ada.request_upload(dataset, "d.csv", CSV))["upload"]
    assert (await ada.put(upload, CSV)).status_code == 200
    recall, recall_done, go_on = idempotency.recall, asyncio.Event(), asyncio.Event()

    async def delayed_recall(*args: Any, **kwargs: Any) -> Any:
        result, is_first = await recall(*args, **kwargs), not recall_done.is_set()
        recall_done.set()
        if is_first:
            await go_on.wait()
        return result

    monkeypatch.setattr(idempotency, "recall", delayed_recall)
    slow = asyncio.create_task(ada.complete_upload(upload["id"], idempotencyKey="k"))
    await recall_done.wait()
    done = await ada.complete_upload(upload["id"], idempotencyKey="k")
    go_on.set()
    assert await slow == done
    assert [row.kind for row in await database.rows(select(Job.kind))] == [JobKind.INGEST]


async def test_a_key_that_is_older_than_a_day_is_a_new_one(ada: Client, database: Database) -> None:
    dataset = await ada.create_dataset("d")
    first = (await ada.request_upload(dataset, "d.csv", CSV, idempotencyKey="k"))["upload"]["id"]
    async with database.work(SYSTEM) as work:
        await work.run(update(IdempotencyKey).values(created_at=func.now() - text("interval '24 hours 1 minute'")))
    second = (await ada.request_upload(dataset, "other.csv", CSV, idempotencyKey="k"))["upload"]["id"]
    assert second != first
    assert (await ada.request_upload(dataset, "other.csv", CSV, idempotencyKey="k"))["upload"]["id"] == second
    assert (await ada.request_upload(dataset, "d.csv", CSV, idempotencyKey="k"))["code"] == "CONFLICT"
