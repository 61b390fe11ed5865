"""Files that MLflow's clients log are those of the run, and are read back as they were."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from db.settings import StateSettings
from db.stores.objects import ObjectStore
from tests.client import Client
from tests.endings import key_of
from tests.mlflow_clients.conftest import Call, run_script
from tests.mlflow_clients.test_protocol import make_run, refusal
from tests.tracking.test_artifacts import STORAGE, paths

MIB = 1024 * 1024


class Files:
    """The files of a run by the protocol."""

    def __init__(self, client: Client, run: str) -> None:
        self.client, self.address, self.run = client, f"/api/2.0/mlflow-artifacts/artifacts/{run}/artifacts", run

    async def put(self, path: str, content: bytes, **headers: str) -> httpx.Response:
        return await self.client.http.put(f"{self.address}/{path}", content=content, headers=headers)

    async def get(self, path: str) -> httpx.Response:
        """Follow the redirect to the store."""
        answer = await self.client.http.get(f"{self.address}/{path}", follow_redirects=False)
        return await self.client.store.get(answer.headers["location"]) if answer.status_code == 307 else answer

    async def list(self, path: str = "") -> Any:
        answer = await self.client.http.get(
            "/api/2.0/mlflow-artifacts/artifacts", params={"path": f"{self.run}/artifacts{path and '/' + path}"}
        )
        return answer.json()["files"] if answer.status_code == 200 else refusal(answer)

    async def delete(self, path: str) -> httpx.Response:
        return await self.client.http.delete(f"{self.address}/{path}")


@pytest.mark.exhaustive
@pytest.mark.parametrize("major", [3, 2])
async def test_what_a_client_logs_it_downloads_again(ada: Client, bob: Client, major: int) -> None:
    told = await run_script(ada, "files.py", major=major)
    assert told["same"]
    assert told["root"] == [entry for entry in told["before"] if entry[0] != "gone.txt"]
    assert [entry[:2] for entry in told["root"]] == [["all", True], ["black.png", False], ["notes", True], ["weights.bin", False]]
    assert told["all"] == [["all/empty", False, 0], ["all/sub", True, None], ["all/weights.bin", False, 3 * MIB + 7]]
    assert told["sub"] == [["all/sub/a b ü.txt", False, 3], ["all/sub/deep", True, None]]
    assert (told["file"], told["text"], told["dict"]) == ([], "another text", {"a": 1})
    assert "absent.txt" in told["missing"]
    assert [path for path, _ in await paths(ada, told["run"])] == [
        "all/empty",
        "all/sub/a b ü.txt",
        "all/sub/deep/c.csv",
        "all/weights.bin",
        "black.png",
        "notes/a.txt",
        "notes/d.json",
        "weights.bin",
    ]
    assert await Files(bob, told["run"]).list() == (404, "RESOURCE_DOES_NOT_EXIST")


async def test_a_small_file_is_there_at_once_and_a_large_one_once_it_has_arrived(ada: Client, of_ada: Call) -> None:
    files = Files(ada, await make_run(of_ada))
    assert (await files.put("a/small.txt", b"small", **{"content-type": "text/plain"})).json() == {}
    assert await paths(ada, files.run) == [("a/small.txt", 5)]
    large = b"x" * (MIB + 1)
    told = await files.put("a/large.bin", large, **{"content-type": "application/x-weights"})
    assert told.status_code == 307
    assert (await files.get("a/large.bin")).status_code == 404, "nothing has arrived yet"
    headers = {"content-type": "application/x-weights"}
    assert (await ada.store.put(told.headers["location"], content=large + b"x", headers=headers)).status_code >= 400
    assert (await ada.store.put(told.headers["location"], content=large, headers=headers)).status_code == 200
    assert await paths(ada, files.run) == [("a/small.txt", 5)]
    assert await files.list() == [{"path": "a", "is_dir": True}]
    assert await files.list("a") == [
        {"path": "large.bin", "is_dir": False, "file_size": MIB + 1},
        {"path": "small.txt", "is_dir": False, "file_size": 5},
    ]
    assert await paths(ada, files.run) == [("a/large.bin", MIB + 1), ("a/small.txt", 5)]
    got = await files.get("a/large.bin")
    assert (got.content, got.headers["content-type"]) == (large, "application/x-weights")
    in_address = await ada.http.get("/api/2.0/mlflow/artifacts/list", params={"run_id": files.run, "path": "a"})
    assert [file["path"] for file in in_address.json()["files"]] == ["a/large.bin", "a/small.txt"]


async def test_ending_a_run_adds_what_has_arrived(ada: Client, of_ada: Call) -> None:
    files = Files(ada, await make_run(of_ada))
    content = b"y" * (2 * MIB)
    told = await files.put("late.bin", content)
    sent = await ada.store.put(told.headers["location"], content=content, headers={"content-type": "application/octet-stream"})
    assert sent.status_code == 200
    await of_ada("runs/update", run_id=files.run, status="FINISHED")
    assert await paths(ada, files.run) == [("late.bin", 2 * MIB)]
    assert (await ada.one(STORAGE))["storage"] == {"usedBytes": 2 * MIB, "pendingBytes": 0}


@pytest.mark.parametrize(
    "path", ["..%2Fa", "a/..%2F..%2Fb", "a%5Cb", "a%00b", "a%0Ab", "%2Fetc%2Fpasswd", "a//b", "./%2E/a", "x" * 1001, "a%E2%80%AEb"]
)
async def test_a_path_is_a_name_that_leads_nowhere_else(ada: Client, of_ada: Call, path: str) -> None:
    files = Files(ada, await make_run(of_ada))
    address = f"{ada.url}{files.address}/{path}"
    for method in ("PUT", "GET", "DELETE"):
        # As it stands: clients normalize addresses.
        answer = await ada.http.send(ada.http.build_request(method, httpx.URL(address), content=b"x" if method == "PUT" else None))
        assert refusal(answer) == (400, "INVALID_PARAMETER_VALUE"), method
    assert await files.list() == []


async def test_a_stranger_reads_and_writes_no_file(ada: Client, bob: Client, of_ada: Call) -> None:
    files = Files(ada, await make_run(of_ada))
    await files.put("a.txt", b"mine")
    theirs = Files(bob, files.run)
    for answer in (
        await theirs.get("a.txt"),
        await theirs.put("a.txt", b"theirs"),
        await theirs.put("b", b"x" * (MIB + 1)),
        await theirs.delete("a.txt"),
    ):
        assert refusal(answer) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert (await files.get("a.txt")).content == b"mine"
    assert await files.list() == [{"path": "a.txt", "is_dir": False, "file_size": 4}]
    for address in ("x/artifacts/a", f"{files.run}/other/a", files.run, "run_0/artifacts/a"):
        assert refusal(await ada.http.get(f"/api/2.0/mlflow-artifacts/artifacts/{address}")) == (404, "RESOURCE_DOES_NOT_EXIST")


async def test_a_deleted_folder_is_gone_with_its_bytes_and_nothing_else_is(ada: Client, of_ada: Call) -> None:
    files = Files(ada, await make_run(of_ada))
    for path in ("a/b.txt", "a/c/d.txt", "ab.txt", "a_b"):
        await files.put(path, path.encode())
    assert (await files.delete("a")).json() == {}
    assert await paths(ada, files.run) == [("a_b", 3), ("ab.txt", 6)]
    assert (await files.delete("nothing")).json() == {}
    assert (await files.delete("")).json() == {}
    assert await paths(ada, files.run) == []


async def test_equal_files_are_stored_once_and_none_is_left_over(ada: Client, of_ada: Call, settings: StateSettings) -> None:
    files = Files(ada, await make_run(of_ada))
    for path in ("a", "b", "a", "c/d"):
        assert (await files.put(path, b"the same bytes of these four")).status_code == 200
    assert (await ada.one(STORAGE))["storage"] == {"usedBytes": 28, "pendingBytes": 0}
    owner = key_of((await ada.one("{ viewer { id } }"))["id"])
    async with ObjectStore.open(settings) as objects:
        left = [listed.key for prefix in ("uploads", "runs") async for listed in objects.list(f"{prefix}/{owner}/")]
    assert len(left) == 1
