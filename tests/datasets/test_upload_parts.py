"""A file is sent in parts, gone on with after a break, given up, or forgotten."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import func, insert, select, text, update

from db.core.viewer import SYSTEM, AccountKind, UserRole
from db.core.work import Database
from db.services import maintenance
from db.settings import StateSettings
from db.stores.multipart import UnfinishedUpload
from db.stores.objects import ObjectStore
from db.tables import Job, Membership, Upload, User
from db.tables.jobs import JobKind
from tests.client import Client
from tests.workers.worker_harness import run_maintenance

CSV = b"a,b\n1,x\n2,y\n"
UPLOAD = """query($id: ID!, $first: Int! = 100, $after: Int) { upload(id: $id) { id state url headers { name } version { id status }
  parts(first: $first, after: $after) { number url sizeBytes } } }"""
ABORT = """mutation($id: ID!) { abortUpload(input: {uploadId: $id}) { __typename ... on Problem { code }
  ... on WrongState { state } ... on AbortUploadPayload { version { status issues { code } } } } }"""
COMPLETE = """mutation($input: CompleteUploadInput!) { completeUpload(input: $input) { __typename ... on Problem { message }
  ... on InvalidInput { issues { path } } ... on CompleteUploadPayload { job { id } version { id } } } }"""
REQUEST = """mutation($input: RequestUploadInput!) { requestUpload(input: $input) { ... on RequestUploadPayload { upload { id } duplicateOf { id } } } }"""


@pytest.fixture
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("db.services.upload_parts.MIN_PART_BYTES", 5)


@pytest.fixture
async def objects(settings: StateSettings, live_server: object) -> AsyncGenerator[ObjectStore]:
    async with ObjectStore.open(settings) as opened:
        yield opened


async def request_parts(client: Client, **fields: Any) -> str:
    dataset = await client.create_dataset("d")
    given = {"datasetId": dataset, "filename": "d.csv", "sizeBytes": len(CSV), "multipart": True, **fields}
    return (await client.one(REQUEST, input=given))["upload"]["id"]


async def send(part: dict[str, Any]) -> str:
    start = (part["number"] - 1) * 5
    async with httpx.AsyncClient(verify=False) as store:
        answer = await store.put(part["url"], content=CSV[start : start + 5])
    assert answer.status_code == 200, answer.text
    return answer.headers["etag"]


async def unfinished(objects: ObjectStore, client: Client) -> list[UnfinishedUpload]:
    """Those of one account: other tests leave theirs in the bucket."""
    owner = UUID((await client.one("{ viewer { id } }"))["id"].removeprefix("user_"))
    return await objects.multipart.unfinished(f"uploads/{owner}/")


@pytest.mark.usefixtures("_small_parts")
async def test_a_file_in_parts_is_gone_on_with_after_a_break_and_becomes_one_version(ada: Client, worker: object) -> None:
    upload_id = await request_parts(ada, sha256=hashlib.sha256(CSV).hexdigest())
    begun = await ada.one(UPLOAD, id=upload_id)
    assert (begun["state"], begun["url"], begun["headers"]) == ("OPEN", "", [])
    assert [(part["number"], part["sizeBytes"]) for part in begun["parts"]] == [(1, 5), (2, 5), (3, 2)]
    last_tag, first_tag = await send(begun["parts"][2]), await send(begun["parts"][0])
    async with httpx.AsyncClient(verify=False) as store:
        assert (await store.put(begun["parts"][1]["url"], content=CSV)).status_code == 403  # more than the part has
    refused = await ada.one(COMPLETE, input={"uploadId": upload_id})
    assert (refused["__typename"], refused["message"][:48]) == ("WrongState", "1 of 3 parts have not arrived, the first is numb")
    resumed = await ada.one(UPLOAD, id=upload_id)
    assert [part["number"] for part in resumed["parts"]] == [2]
    assert (await ada.one(UPLOAD, id=upload_id, after=2))["parts"] == (await ada.one(UPLOAD, id=upload_id, first=0))["parts"] == []
    tags = [first_tag, await send(resumed["parts"][0]), last_tag]
    named = [{"number": number, "etag": tag} for number, tag in enumerate(tags, 1)]
    wrong = await ada.one(COMPLETE, input={"uploadId": upload_id, "parts": [*named[:2], {"number": 3, "etag": first_tag}]})
    assert (wrong["__typename"], wrong["issues"]) == ("InvalidInput", [{"path": ["parts", "2", "etag"]}])
    assert (await ada.one(COMPLETE, input={"uploadId": upload_id, "parts": named[::-1]}))["issues"] == [{"path": ["parts"]}]
    done = await ada.one(COMPLETE, input={"uploadId": upload_id, "parts": named})
    assert (await ada.wait(done["job"]["id"]))["status"] == "COMPLETED"
    query = "query($id: ID!) { node(id: $id) { ... on DatasetVersion { sha256 rowCount rawFile { downloadUrl } } } }"
    version = await ada.one(query, id=done["version"]["id"])
    assert (version["sha256"], version["rowCount"]) == (hashlib.sha256(CSV).hexdigest(), 2)
    assert httpx.get(version["rawFile"]["downloadUrl"], verify=False).content == CSV
    ended = await ada.one(UPLOAD, id=upload_id)
    assert (ended["state"], ended["url"], ended["parts"]) == ("COMPLETED", "", [])


@pytest.mark.usefixtures("_small_parts")
async def test_a_call_that_lost_its_answer_after_the_parts_were_joined_is_repeated(ada: Client, objects: ObjectStore) -> None:
    upload_id = await request_parts(ada)
    for part in (await ada.one(UPLOAD, id=upload_id))["parts"]:
        await send(part)
    (upload,) = await unfinished(objects, ada)
    arrived = await objects.multipart.arrived(upload.key, upload.id)
    assert arrived is not None
    await objects.multipart.complete(upload.key, upload.id, [arrived[number] for number in (1, 2, 3)])
    assert (await ada.one(COMPLETE, input={"uploadId": upload_id}))["__typename"] == "CompleteUploadPayload"


@pytest.mark.usefixtures("_small_parts")
@pytest.mark.parametrize("multipart", [True, False])
async def test_an_upload_that_is_aborted_leaves_nothing(
    ada: Client, bob: Client, objects: ObjectStore, database: Database, multipart: bool
) -> None:
    upload_id = await request_parts(ada, multipart=multipart)
    upload = await ada.one(UPLOAD, id=upload_id)
    if multipart:
        await send(upload["parts"][0])
        assert len(await unfinished(objects, ada)) == 1
    key = (await database.rows(select(Upload.object_key)))[0].object_key
    assert (await bob.one(UPLOAD, id=upload_id)) is None
    assert (await bob.one(ABORT, id=upload_id))["code"] == "NOT_FOUND"
    assert (await ada.one(UPLOAD, id=upload_id))["state"] == "OPEN"
    aborted = {"version": {"status": "FAILED", "issues": [{"code": "UPLOAD_ABORTED"}]}}
    assert await ada.one(ABORT, id=upload_id) == {"__typename": "AbortUploadPayload", **aborted}
    assert (await ada.one(UPLOAD, id=upload_id))["state"] == "ABORTED"
    assert await ada.one(ABORT, id=upload_id) == {"__typename": "WrongState", "code": "WRONG_STATE", "state": "FAILED"}
    assert (await ada.complete_upload(upload_id))["__typename"] == "WrongState"
    assert (await unfinished(objects, ada), await objects.head(key)) == ([], None)
    assert (await ada.one("{ viewer { storage { pendingBytes } } }")) == {"storage": {"pendingBytes": 0}}


async def test_who_announces_bytes_that_are_there_already_is_told_so(ada: Client, bob: Client, worker: object) -> None:
    version = await ada.ingest("first", CSV)
    file = {"filename": "d.csv", "sizeBytes": len(CSV), "sha256": hashlib.sha256(CSV).hexdigest(), "idempotencyKey": "k"}
    mine, theirs = [{**file, "datasetId": await client.create_dataset("again")} for client in (ada, bob)]
    requested = await ada.one(REQUEST, input=mine)
    assert requested["duplicateOf"] == {"id": version}
    assert await ada.one(REQUEST, input=mine) == requested
    assert (await bob.one(REQUEST, input=theirs))["duplicateOf"] is None
    assert (await ada.one(REQUEST, input={**mine, "sizeBytes": 13, "idempotencyKey": None}))["duplicateOf"] is None


async def test_a_file_that_was_sent_and_forgotten_is_ingested_as_by_its_maker(
    ada: Client, bob: Client, database: Database, objects: ObjectStore, settings: StateSettings
) -> None:
    sent: list[dict[str, Any]] = []
    for client in (ada, bob):
        requested = await client.request_upload(await client.create_dataset("d"), "d.csv", CSV)
        assert (await client.put(requested["upload"], CSV)).status_code == 200
        sent.append(requested["upload"])
    never_sent = (await ada.request_upload(await ada.create_dataset("e"), "d.csv", CSV))["upload"]
    async with database.work(SYSTEM) as work:
        await work.run(text("UPDATE uploads SET expires_at = now() - interval '25 hours'"))
        await work.run(update(User).where(User.username == "bob").values(disabled_at=func.now()))
    context = maintenance.MaintenanceContext(database, objects, settings)
    await run_maintenance(context, "expire_uploads")
    user = UUID((await ada.one("{ viewer { id } }"))["id"].removeprefix("user_"))
    jobs = await database.rows(select(Job.kind, Job.owner_id, Job.created_by_id, Job.dataset_version_id))
    assert [tuple(job) for job in jobs] == [(JobKind.INGEST, user, user, UUID(sent[0]["version"]["id"].removeprefix("version_")))]
    assert (await ada.one(UPLOAD, id=sent[0]["id"]))["state"] == "COMPLETED"
    assert (await ada.one(UPLOAD, id=never_sent["id"]))["state"] == "EXPIRED"
    states = await database.rows(select(Upload.state).join(User, User.id == Upload.owner_id).where(User.username == "bob"))
    assert [row.state.value for row in states] == ["expired"]


async def test_parts_that_nobody_goes_on_with_are_removed(
    ada: Client, database: Database, objects: ObjectStore, settings: StateSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.services.maintenance.objects.CLOCK_SKEW", timedelta(0))
    await objects.multipart.abort("")
    await request_parts(ada)
    (kept,) = await unfinished(objects, ada)
    await objects.multipart.begin(f"{kept.key.rpartition('/')[0]}/{uuid4()}", "text/csv")
    context = maintenance.MaintenanceContext(database, objects, settings.model_copy(update={"orphan_age": 0.0}))
    await run_maintenance(context, "collect_orphans")
    assert await unfinished(objects, ada) == [kept]


async def test_who_may_only_see_what_a_team_owns_gets_no_url_to_write_to(ada: Client, bob: Client, database: Database) -> None:
    owner, viewer = [UUID((await client.one("{ viewer { id } }"))["id"].removeprefix("user_")) for client in (ada, bob)]
    team = uuid4()
    async with database.work(SYSTEM) as work:
        named = {"email": "team@example.org", "username": "team", "kind": AccountKind.TEAM, "created_by_id": owner}
        await work.run(insert(User).values(id=team, role=UserRole.MEMBER, **named))
        for user, role in ((owner, UserRole.ADMIN), (viewer, UserRole.VIEWER)):
            await work.run(insert(Membership).values(team_id=team, user_id=user, role=role))
            work.revalidate_sessions(user)
    dataset = await ada.create_dataset("shared", ownerId=f"user_{team.hex}")
    upload_id = (await ada.request_upload(dataset, "d.csv", CSV))["upload"]["id"]
    seen = "query($id: ID!) { upload(id: $id) { state } }"
    assert await bob.one(seen, id=upload_id) == {"state": "OPEN"}
    for field in ("url", "headers { name }", "parts { url }"):
        answer = await bob.post(seen.replace("state", field), id=upload_id)
        assert [error["extensions"]["code"] for error in answer["errors"]] == ["FORBIDDEN"]
