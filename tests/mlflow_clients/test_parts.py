"""Large files of MLflow's clients are sent in parts: whole or not at all, and counted while they arrive."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import func, select, update

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.queries import accounts
from db.services.tracking import artifact_parts, artifacts
from db.settings import StateSettings, state_settings
from db.stores.objects import ObjectStore
from db.tables import ArtifactUpload, User
from tests.client import Client
from tests.endings import key_of
from tests.mlflow_clients.conftest import Call, run_script
from tests.mlflow_clients.test_files import MIB, Files
from tests.mlflow_clients.test_protocol import make_run, refusal
from tests.tracking.test_artifacts import STORAGE, paths

PART = b"p" * 5 * MIB


class Parts:
    """One file of a run in parts, by the protocol."""

    def __init__(self, client: Client, run: str, file: str, folder: str = "") -> None:
        self.client, self.file, self.address = client, file, f"{run}/artifacts{folder and '/' + folder}"
        self.id, self.urls = "", list[str]()

    async def call(self, verb: str, **fields: Any) -> httpx.Response:
        return await self.client.http.post(
            f"/api/2.0/mlflow-artifacts/mpu/{verb}/{self.address}", json={"path": self.file, "upload_id": self.id, **fields}
        )

    async def create(self, count: int) -> httpx.Response:
        answer = await self.call("create", num_parts=count)
        if answer.status_code == 200:
            told = answer.json()
            self.id, self.urls = told["upload_id"], [each["url"] for each in told["credentials"]]
            assert [(each["part_number"], each["headers"]) for each in told["credentials"]] == [(n, {}) for n in range(1, count + 1)]
        return answer

    async def send(self, number: int, content: bytes) -> dict[str, Any]:
        answer = await self.client.store.put(self.urls[number - 1], content=content)
        assert answer.status_code == 200, answer.text
        return {"part_number": number, "etag": answer.headers["etag"], "url": self.urls[number - 1]}


@pytest.fixture
async def objects(settings: StateSettings, live_server: object) -> AsyncGenerator[ObjectStore]:
    async with ObjectStore.open(settings) as opened:
        yield opened


async def left(objects: ObjectStore, client: Client) -> tuple[int, int]:
    """How many uploads in parts of an account are unfinished, and how many objects it has."""
    owner = key_of((await client.one("{ viewer { id } }"))["id"])
    keys = [listed.key for prefix in ("uploads", "runs") async for listed in objects.list(f"{prefix}/{owner}/")]
    return len(await objects.multipart.unfinished(f"uploads/{owner}/")), len(keys)


async def look_again(database: Database, objects: ObjectStore, upload: str, age: float = 0.0) -> None:
    """Let the maintenance task look at the upload, as if it were so many seconds old; at others of this database too."""
    values = {"due_at": func.now() - timedelta(days=900), "created_at": func.now() - timedelta(seconds=age)}
    async with database.work(SYSTEM) as work:
        await work.run(update(ArtifactUpload).where(ArtifactUpload.id == UUID(upload)).values(values))
    await artifacts.complete_or_expire(database, objects)


async def state_of(database: Database, upload: str) -> tuple[str, int]:
    (row,) = await database.rows(select(ArtifactUpload.state, ArtifactUpload.size_bytes).where(ArtifactUpload.id == UUID(upload)))
    return row.state.value, row.size_bytes


async def test_a_file_in_parts_is_there_once_all_have_arrived(
    ada: Client, bob: Client, of_ada: Call, database: Database, objects: ObjectStore
) -> None:
    files = Files(ada, await make_run(of_ada))
    parts = Parts(ada, files.run, "C:\\home\\w.bin", "deep/model")
    assert (await parts.create(2)).status_code == 200
    last = await parts.send(2, b"the end")
    theirs = Parts(bob, files.run, "w.bin", "deep/model")
    theirs.id = parts.id
    for verb in ("create", "complete", "abort"):
        assert refusal(await theirs.call(verb, num_parts=1)) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert refusal(await parts.call("complete", parts=[last])) == (400, "INVALID_PARAMETER_VALUE"), "one has not arrived"
    first = await parts.send(1, PART)
    assert refusal(await parts.call("complete", parts=[last, first])) == (400, "INVALID_PARAMETER_VALUE"), "the order"
    assert refusal(await parts.call("complete", parts=[{**first, "etag": last["etag"]}, last])) == (400, "INVALID_PARAMETER_VALUE")
    assert (await files.list(), await paths(ada, files.run)) == ([], [])
    await look_again(database, objects, parts.id)
    assert (await ada.one(STORAGE))["storage"] == {"usedBytes": 0, "pendingBytes": len(PART) + 7}
    for _ in range(2):  # the answer to the first may be lost
        assert (await parts.call("complete", parts=[first, last])).json() == {}
    assert await paths(ada, files.run) == [("deep/model/w.bin", len(PART) + 7)]
    assert (await files.get("deep/model/w.bin")).content == PART + b"the end"
    assert (await ada.one(STORAGE))["storage"] == {"usedBytes": len(PART) + 7, "pendingBytes": 0}
    assert await left(objects, ada) == (0, 1)
    assert refusal(await parts.call("abort")) == (400, "INVALID_PARAMETER_VALUE"), "it is complete"
    assert await files.list("deep/model") == [{"path": "w.bin", "is_dir": False, "file_size": len(PART) + 7}]

    told = (await ada.http.get(f"/api/2.0/mlflow-artifacts/presigned/{files.run}/artifacts/deep/model/w.bin")).json()
    assert (told["file_size"], told["headers"]) == (len(PART) + 7, {})
    ranged = await ada.store.get(told["url"], headers={"Range": f"bytes={len(PART) - 2}-{len(PART) + 2}"})
    assert (ranged.status_code, ranged.content) == (206, b"ppthe")
    address = f"/api/2.0/mlflow-artifacts/presigned/{files.run}/artifacts/"
    assert refusal(await ada.http.get(address + "absent")) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert refusal(await bob.http.get(address + "deep/model/w.bin")) == (404, "RESOURCE_DOES_NOT_EXIST")


async def test_what_was_joined_before_its_request_was_killed_is_completed(
    ada: Client, of_ada: Call, database: Database, objects: ObjectStore
) -> None:
    files = Files(ada, await make_run(of_ada))
    parts = Parts(ada, files.run, "w.bin")
    await parts.create(1)
    await parts.send(1, b"all of it")
    (row,) = await database.rows(select(ArtifactUpload.object_key, ArtifactUpload.multipart_id).where(ArtifactUpload.id == UUID(parts.id)))
    arrived = await objects.multipart.arrived(row.object_key, row.multipart_id)
    assert arrived is not None
    await objects.multipart.complete(row.object_key, row.multipart_id, list(arrived.values()))
    assert await files.list() == [{"path": "w.bin", "is_dir": False, "file_size": 9}]
    assert await left(objects, ada) == (0, 1)


async def test_one_that_is_aborted_or_abandoned_leaves_nothing(ada: Client, of_ada: Call, database: Database, objects: ObjectStore) -> None:
    files = Files(ada, await make_run(of_ada))
    aborted, abandoned, never_begun = (Parts(ada, files.run, name) for name in ("a.bin", "b.bin", "c.bin"))
    for parts in (aborted, abandoned):
        await parts.create(2)
        await parts.send(1, PART)
    assert await left(objects, ada) == (2, 0)
    for _ in range(2):
        assert (await aborted.call("abort")).json() == {}
    assert await left(objects, ada) == (1, 0)
    assert refusal(await aborted.call("complete", parts=[])) == (400, "INVALID_PARAMETER_VALUE")
    # Killed after the announcement, before or after the store knew of it.
    viewer = await _viewer(database, ada)
    async with database.work(viewer) as work:
        row = await artifacts.request(work, artifacts.NewArtifact(key_of(files.run), "c.bin", parts=2))
    never_begun.id = str(row.id)
    await objects.multipart.begin(row.object_key, row.content_type)
    assert refusal(await never_begun.call("complete", parts=[])) == (400, "INVALID_PARAMETER_VALUE")
    old = artifact_parts.URLS_EXPIRE + state_settings().upload_grace
    for parts in (abandoned, never_begun):
        await look_again(database, objects, parts.id, old - 600)
        assert (await state_of(database, parts.id))[0] == "open"
        await look_again(database, objects, parts.id, old + 600)
        assert (await state_of(database, parts.id))[0] == "expired"
    assert await left(objects, ada) == (0, 0)
    assert await paths(ada, files.run) == []
    assert (await ada.one(STORAGE))["storage"] == {"usedBytes": 0, "pendingBytes": 0}


async def test_parts_that_the_quota_has_no_space_for_are_given_up(
    ada: Client, of_ada: Call, database: Database, objects: ObjectStore
) -> None:
    files = Files(ada, await make_run(of_ada))
    parts, other = Parts(ada, files.run, "w.bin"), Parts(ada, files.run, "x.bin")
    for each in (parts, other):
        await each.create(1)
    sent = await parts.send(1, PART)
    async with database.work(SYSTEM) as work:
        await work.run(update(User).where(User.id == key_of((await ada.one("{ viewer { id } }"))["id"])).values(storage_quota_bytes=1_000))
    answer = await parts.call("complete", parts=[sent])
    assert refusal(answer) == (403, "PERMISSION_DENIED")
    assert await state_of(database, parts.id) == ("open", 0)
    await look_again(database, objects, parts.id)
    assert (await state_of(database, parts.id))[0] == "aborted"
    assert await left(objects, ada) == (1, 0)
    await look_again(database, objects, other.id)
    assert (await state_of(database, other.id))[0] == "open", "nothing of it has arrived, and there is space for that"


async def test_what_is_no_file_in_parts_is_refused(ada: Client, of_ada: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    run = await make_run(of_ada)
    for count in (0, -1, artifact_parts.MAX_PARTS + 1):
        assert refusal(await Parts(ada, run, "w.bin").create(count)) == (400, "INVALID_PARAMETER_VALUE")
    for file, folder in (("..", ""), ("a/", ""), ("a\nb", ""), ("a", "b/..%2F..")):
        assert refusal(await Parts(ada, run, file, folder).create(1)) == (400, "INVALID_PARAMETER_VALUE")
    parts = Parts(ada, run, "w.bin")
    for unknown in ("x", str(UUID(int=0))):
        assert refusal(await parts.call("complete", upload_id=unknown, parts=[])) == (404, "RESOURCE_DOES_NOT_EXIST")
    await parts.create(2)
    sent = [await parts.send(1, b"small"), await parts.send(2, b"end")]
    answer = await parts.call("complete", parts=sent)
    assert "each but the last has at least 5,242,880" in answer.json()["message"]
    monkeypatch.setattr(state_settings(), "upload_max_bytes", 7)
    answer = await parts.call("complete", parts=sent)
    assert "a file has at most 7 here" in answer.json()["message"]
    assert await paths(ada, run) == []


async def _viewer(database: Database, client: Client) -> Any:
    return await accounts.viewer_of(database, key_of((await client.one("{ viewer { id } }"))["id"]))


@pytest.mark.exhaustive
@pytest.mark.parametrize("major", [3, 2])
async def test_a_client_sends_a_large_file_in_parts_and_reads_it_again(ada: Client, objects: ObjectStore, major: int) -> None:
    environment = {"MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": str(6 * MIB), "MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE": str(5 * MIB)}
    environment |= {"MLFLOW_MULTIPART_DOWNLOAD_CHUNK_SIZE": str(4 * MIB)}
    if major == 2:  # version 3 asks the server whether it can
        environment["MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD"] = "true"
    told = await run_script(ada, "large_file.py", str(12 * MIB + 5), major=major, **environment)
    assert told["parts"] == 3
    assert told["read"] == told["sent"]
    assert await paths(ada, told["run"]) == [("weights/large.bin", 12 * MIB + 5)]
    query = "query($id: ID!) { run(id: $id) { artifacts { edges { node { sha256 } } } } }"
    seen: Any = await ada.one(query, id=told["run"])
    assert [edge["node"]["sha256"] for edge in seen["artifacts"]["edges"]] == [told["sent"]]
    assert "was refused" in told["failed"]
    assert await left(objects, ada) == (0, 1), "the client aborts what fails"
