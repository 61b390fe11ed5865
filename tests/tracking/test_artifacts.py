"""Files of external runs are sent to the store, verified, and shown under their paths."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services.tracking import artifacts
from db.settings import StateSettings
from db.stores.objects import ObjectStore
from db.tables import ArtifactUpload, StoredObject
from tests.client import Client
from tests.endings import key_of
from tests.tracking.conftest import COMPLETE_FILE, REQUEST_FILE, create_run, send_file

FILES = "query($id: ID!, $path: String) { run(id: $id) { artifacts(path: $path) { edges { node { path sizeBytes } } } } }"
STORAGE = "{ viewer { storage { usedBytes pendingBytes } } }"


async def paths(client: Client, run: str, path: str | None = None) -> list[tuple[str, int]]:
    edges = (await client.one(FILES, id=run, path=path))["artifacts"]["edges"]
    return [(edge["node"]["path"], edge["node"]["sizeBytes"]) for edge in edges]


async def test_a_file_is_shown_where_its_code_put_it(ada: Client, bob: Client) -> None:
    run = await create_run(ada)
    content = b"\x89PNG of a loss curve"
    upload = await send_file(ada, run, "plots/loss.png", content, contentType="image/png", sha256=hashlib.sha256(content).hexdigest())
    assert await paths(ada, run) == []
    assert (await ada.one(STORAGE))["storage"] == {"usedBytes": 0, "pendingBytes": len(content)}
    assert (await bob.one(COMPLETE_FILE, id=upload))["__typename"] == "NotFound"
    file = (await ada.one(COMPLETE_FILE, id=upload))["artifact"]
    assert {key: file[key] for key in ("path", "role", "filename", "sizeBytes", "sha256", "contentType")} == {
        "path": "plots/loss.png",
        "role": "ARTIFACT",
        "filename": "loss.png",
        "sizeBytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "contentType": "image/png",
    }
    assert (await ada.store.get(file["downloadUrl"])).content == content
    assert (await ada.one(COMPLETE_FILE, id=upload))["artifact"]["id"] == file["id"]
    await ada.one(COMPLETE_FILE, id=await send_file(ada, run, "model/MLmodel", b"flavors"))
    assert await paths(ada, run) == [("model/MLmodel", 7), ("plots/loss.png", len(content))]
    assert await paths(ada, run, "model") == [("model/MLmodel", 7)]
    assert (await ada.one(STORAGE))["storage"] == {"usedBytes": len(content) + 7, "pendingBytes": 0}


async def test_a_file_at_the_same_path_is_replaced_and_equal_bytes_are_stored_once(
    ada: Client, database: Database, settings: StateSettings
) -> None:
    run = await create_run(ada)
    for path, content in (("a.txt", b"one"), ("b.txt", b"one"), ("a.txt", b"other"), ("empty", b"")):
        assert (await ada.one(COMPLETE_FILE, id=await send_file(ada, run, path, content)))["__typename"] == "CompleteArtifactUploadPayload"
    assert await paths(ada, run) == [("a.txt", 5), ("b.txt", 3), ("empty", 0)]
    rows = await database.rows(select(StoredObject.object_key, StoredObject.size_bytes).order_by(StoredObject.size_bytes))
    assert [row.size_bytes for row in rows] == [0, 3, 5]
    assert all(row.object_key.split("/")[0] == "runs" and "txt" not in row.object_key for row in rows)
    owner = rows[0].object_key.split("/")[1]
    async with ObjectStore.open(settings) as objects:
        left = [listed.key for prefix in ("uploads", "runs") async for listed in objects.list(f"{prefix}/{owner}/")]
    assert sorted(left) == sorted(row.object_key for row in rows)


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "a/../b", "..", "a//b", "a/", ".", "a\\b", "a\u0000b", "a\nb", "a\u202eb", "x" * 1001],
)
async def test_a_path_that_leads_elsewhere_is_refused(ada: Client, path: str) -> None:
    run = await create_run(ada)
    refused = await ada.one(REQUEST_FILE, input={"runId": run, "path": path, "sizeBytes": 1})
    assert (refused["__typename"], [issue["path"] for issue in refused["issues"]]) == ("InvalidInput", [["path"]])


async def _age(database: Database, upload: str, seconds: float) -> None:
    ago = func.now() - timedelta(seconds=seconds)
    async with database.work(SYSTEM) as work:
        await work.run(update(ArtifactUpload).where(ArtifactUpload.id == key_of(upload)).values(created_at=ago, due_at=func.now()))


async def test_a_forgotten_file_is_completed_and_one_that_never_came_is_forgotten(
    ada: Client, database: Database, settings: StateSettings
) -> None:
    run = await create_run(ada)
    arrived = await send_file(ada, run, "arrived.txt", b"here")
    missing: dict[str, Any] = await ada.one(REQUEST_FILE, input={"runId": run, "path": "missing.txt", "sizeBytes": 4})
    for upload in (arrived, missing["uploadId"]):
        await _age(database, upload, 1)
    async with ObjectStore.open(settings) as objects:
        assert await artifacts.complete_or_expire(database, objects) == 1
        await _age(database, missing["uploadId"], settings.upload_expires + settings.upload_grace + 60)
        assert await artifacts.complete_or_expire(database, objects) == 1
    assert await paths(ada, run) == [("arrived.txt", 4)]
    assert (await ada.one(COMPLETE_FILE, id=missing["uploadId"]))["__typename"] == "WrongState"
    assert (await ada.one(STORAGE))["storage"] == {"usedBytes": 4, "pendingBytes": 0}
