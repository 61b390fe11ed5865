"""The object store against a real S3 endpoint: signed URLs bind their conditions, and streams transfer whole files."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from pydantic import SecretStr

from db.errors import StoreRefused, Unavailable
from db.settings import StateSettings
from db.stores.content_disposition import content_disposition
from db.stores.objects import MIB, PART_SIZE, ObjectMissing, ObjectStore
from db.stores.s3 import S3Client
from server.embedded import embedded_servers

CSV = b"name,mass\nAda,36\nGrace,37\n"
SHA256 = hashlib.sha256(CSV).hexdigest()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Generator[StateSettings]:
    with embedded_servers(tmp_path_factory.mktemp("objects"), postgres=False, valkey=False, durable=False) as env:
        yield StateSettings.model_validate({name.removeprefix("TRELLIS_").lower(): value for name, value in env.items()})


@pytest.fixture(scope="module")
async def shared_store(settings: StateSettings) -> AsyncGenerator[ObjectStore]:
    async with ObjectStore.open(settings) as store:
        await store.ensure_bucket()
        yield store


@pytest.fixture
async def store(shared_store: ObjectStore) -> ObjectStore:
    """An empty store."""
    await shared_store.delete([item.key async for item in shared_store.list("")])
    return shared_store


@pytest.fixture
async def client() -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(verify=False) as client:
        yield client


async def test_a_signed_upload_takes_the_file_it_was_signed_for(store: ObjectStore, client: httpx.AsyncClient) -> None:
    url, headers = await store.presign_put("uploads/a/b", len(CSV), "text/csv", SHA256, 60)
    assert set(headers) == {"Content-Type", "Content-Length", "x-amz-checksum-sha256"}
    assert (await client.put(url, content=CSV, headers=headers)).status_code == 200
    head = await store.head("uploads/a/b")
    assert head is not None
    assert (head.size, head.content_type) == (len(CSV), "text/csv")
    assert await store.read("uploads/a/b", MIB) == CSV


@pytest.mark.parametrize(
    ("part", "signed", "sent"),
    [
        ("body", "", "one more line"),
        ("Content-Type", "text/csv", "text/html"),
        ("x-amz-checksum-sha256", "", "0" * 43 + "="),
        ("url", "uploads/a/b", "uploads/a/c"),
        ("url", "X-Amz-Expires=60", "X-Amz-Expires=600"),
        ("url", "X-Amz-Signature=", "X-Amz-Signature=0"),
        ("method", "PUT", "GET"),
    ],
    ids=["length", "type", "checksum", "key", "expiry", "signature", "method"],
)
async def test_a_signed_upload_refuses_another(store: ObjectStore, client: httpx.AsyncClient, part: str, signed: str, sent: str) -> None:
    url, headers = await store.presign_put("uploads/a/b", len(CSV), "text/csv", SHA256, 60)
    method, body = "PUT", CSV
    if part == "url":
        assert signed in url
        url = url.replace(signed, sent)
    elif part == "body":
        body += sent.encode()
        headers["Content-Length"] = str(len(body))
    elif part == "method":
        method = sent
    else:
        headers[part] = sent
    assert (await client.request(method, url, content=body, headers=headers)).status_code == 403
    assert [item.key async for item in store.list("")] == []


async def test_a_signed_url_expires(store: ObjectStore, client: httpx.AsyncClient) -> None:
    await store.write("datasets/x", CSV, "text/csv")
    url = await store.presign_get("datasets/x", "x.csv", "text/csv", 1)
    assert (await client.get(url)).status_code == 200
    await asyncio.sleep(2)
    assert (await client.get(url)).status_code in (400, 403)


async def test_a_download_is_an_attachment_under_its_human_name(store: ObjectStore, client: httpx.AsyncClient) -> None:
    await store.write("datasets/x", CSV, "application/octet-stream")
    answer = await client.get(await store.presign_get("datasets/x", 'Mäße "2024".csv', "text/csv", 60))
    assert answer.content == CSV
    assert answer.headers["content-type"] == "text/csv"
    assert answer.headers["content-disposition"] == (
        "attachment; filename=\"Mae _2024_.csv\"; filename*=UTF-8''M%C3%A4%C3%9Fe%20%222024%22.csv"
    )


async def test_nothing_can_be_had_without_a_signature(store: ObjectStore, client: httpx.AsyncClient) -> None:
    await store.write("datasets/x", CSV, "text/csv")
    url = urlsplit(await store.presign_get("datasets/x", "x.csv", "text/csv", 60))
    for path in ("/", f"/{store.bucket}", url.path):
        assert (await client.get(f"{url.scheme}://{url.netloc}{path}")).status_code in (400, 403)


async def test_a_page_in_a_browser_may_upload_with_a_checksum(store: ObjectStore, client: httpx.AsyncClient) -> None:
    url, headers = await store.presign_put("uploads/a/b", len(CSV), "text/csv", SHA256, 60)
    origin = {"Origin": "http://localhost:8000"}
    asked = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "content-type,x-amz-checksum-sha256"}
    preflight = await client.options(url, headers=origin | asked)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert "PUT" in preflight.headers["access-control-allow-methods"]
    assert preflight.headers["access-control-allow-headers"] == asked["Access-Control-Request-Headers"]
    answer = await client.put(url, content=CSV, headers=headers | origin)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*")
    url = await store.presign_get("uploads/a/b", "x.csv", "text/csv", 60)
    part = await client.get(url, headers=origin | {"Range": "bytes=0-3"})
    assert part.status_code == 206
    assert "Content-Range" in part.headers["access-control-expose-headers"]


@pytest.mark.exhaustive
async def test_a_large_file_goes_up_in_parts_and_comes_down_whole_in_little_memory(store: ObjectStore, tmp_path: Path) -> None:
    size = 12 * PART_SIZE + 12_345
    block = os.urandom(PART_SIZE)
    source = tmp_path / "large"
    with source.open("wb") as file:
        for _ in range(size // PART_SIZE):
            file.write(block)
        file.write(block[: size % PART_SIZE])
    expected = hashlib.sha256(source.read_bytes()).hexdigest()
    before = psutil.Process().memory_info().rss
    assert await store.upload(source.open("rb"), "models/large", "application/octet-stream") == (size, expected)
    copy = tmp_path / "copy"
    assert (await store.download("models/large", copy))[0] == size
    assert psutil.Process().memory_info().rss - before < 6 * PART_SIZE
    assert hashlib.sha256(copy.read_bytes()).hexdigest() == expected
    assert await store.sha256("models/large", size) == expected
    assert await store.sha256("models/large", size - 1) is None


@pytest.mark.parametrize("content", [b"", b"x", b"x" * PART_SIZE, b"x" * (PART_SIZE + 1)], ids=["empty", "byte", "part", "part-and-byte"])
async def test_a_file_of_any_size_comes_back_as_it_went(store: ObjectStore, tmp_path: Path, content: bytes) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(content)
    assert await store.upload(source.open("rb"), "a", "text/plain") == (len(content), hashlib.sha256(content).hexdigest())
    assert await store.download("a", copy) == (len(content), hashlib.sha256(content).hexdigest())
    assert copy.read_bytes() == content
    assert await store.read("a", 3) == content[:3]
    head = await store.head("a")
    assert head is not None
    assert (head.size, head.content_type) == (len(content), "text/plain")


async def test_a_copy_outlives_its_source(store: ObjectStore) -> None:
    await store.write("uploads/a/b", CSV, "text/csv")
    await store.copy("uploads/a/b", "datasets/a/raw")
    await store.delete(["uploads/a/b"])
    assert await store.head("uploads/a/b") is None
    assert await store.read("datasets/a/raw", MIB) == CSV


async def test_a_copy_above_the_limit_of_one_request_is_whole(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("db.stores.objects.MAX_PLAIN_COPY", 10)
    await store.write("a", CSV, "text/csv")
    await store.copy("a", "b")
    assert await store.read("b", MIB) == CSV
    assert [item.key async for item in store.list("")] == ["a", "b"]


async def test_what_is_listed_and_removed_is_what_the_prefix_says(store: ObjectStore) -> None:
    for key in ("jobs/a/1/logs/x", "jobs/a/2/logs/x", "jobs/b/1/logs/x"):
        await store.write(key, CSV, "text/plain")
    listed = [item async for item in store.list("jobs/a/")]
    assert [(item.key, item.size) for item in listed] == [("jobs/a/1/logs/x", len(CSV)), ("jobs/a/2/logs/x", len(CSV))]
    await store.delete([*(item.key for item in listed), "jobs/never/was"])
    assert [item.key async for item in store.list("")] == ["jobs/b/1/logs/x"]


async def test_an_object_that_is_not_there_is_named(store: ObjectStore, tmp_path: Path) -> None:
    assert await store.head("none") is None
    for attempt in (store.read("none", 1), store.download("none", tmp_path / "x"), store.copy("none", "b"), store.sha256("none", 1)):
        with pytest.raises(ObjectMissing, match="'none'"):
            await attempt


async def test_a_store_that_is_away_is_unavailable(settings: StateSettings) -> None:
    async with ObjectStore.open(settings.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:1"})) as store:
        for attempt in (store.check(), store.read("a", 1)):
            with pytest.raises(Unavailable, match="object storage") as error:
                await attempt
            assert not isinstance(error.value, StoreRefused)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"s3_access_key_id": "somebodyelse"}, "InvalidAccessKeyId"),
        ({"s3_secret_access_key": SecretStr("another secret")}, "SignatureDoesNotMatch"),
    ],
)
async def test_a_store_that_refuses_the_credentials_says_so(settings: StateSettings, changes: dict[str, Any], code: str) -> None:
    async with ObjectStore.open(settings.model_copy(update=changes)) as store:
        for attempt in (store.check(), store.ensure_bucket(), store.read("a", 1), store.copy("a", "b")):
            with pytest.raises(StoreRefused, match="refused the credentials of Trellis") as error:
                await attempt
            assert error.value.reason in ("status 403", f"{code}, status 403")
        for attempt in (store.check(), store.ensure_bucket(), store.read("a", 1)):
            with pytest.raises(StoreRefused, match=f"{code}, status 403"):
                await attempt


@pytest.mark.parametrize(
    ("filename", "plain"),
    [
        ("a.csv", "a.csv"),
        ("../../etc/passwd", ".._.._etc_passwd"),
        ('x"\r\nSet-Cookie: a=b', "x_Set-Cookie: a=b"),
        ("数据.csv", ".csv"),
        ("", "download"),
        ("\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe", "gpj.exe"),
    ],
)
def test_no_file_name_breaks_out_of_its_header(filename: str, plain: str) -> None:
    header = content_disposition(filename)
    assert header.startswith(f"attachment; filename=\"{plain}\"; filename*=UTF-8''")
    assert header.isascii()
    assert header.isprintable()


class CorruptingClient:
    """The store's client over a network that corrupts one byte of every upload; `is_noticed` keeps the sender's checksum."""

    def __init__(self, client: S3Client, *, is_noticed: bool) -> None:
        self._client = client
        self._is_noticed = is_noticed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def _corrupted(self, parameters: dict[str, Any]) -> dict[str, Any]:
        if not self._is_noticed:
            parameters.pop("ContentMD5")
        return {**parameters, "Body": b"?" + parameters["Body"][1:]}

    async def put_object(self, **parameters: Any) -> dict[str, Any]:
        return await self._client.put_object(**self._corrupted(parameters))

    async def upload_part(self, **parameters: Any) -> dict[str, Any]:
        return await self._client.upload_part(**self._corrupted(parameters))


@pytest.mark.parametrize("size", [1_000, PART_SIZE + 1_000])
@pytest.mark.parametrize("is_noticed", [True, False])
async def test_a_file_that_is_not_stored_as_it_was_sent_is_not_stored(
    store: ObjectStore, tmp_path: Path, size: int, is_noticed: bool
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    client: Any = CorruptingClient(store._client, is_noticed=is_noticed)
    corrupting_store = ObjectStore(store.bucket, store.region, client, store._signer, store._copier)
    with pytest.raises(Unavailable):
        await corrupting_store.upload(path.open("rb"), "spoilt", "text/plain")
    assert await store.upload(path.open("rb"), "whole", "text/plain") == (size, hashlib.sha256(b"x" * size).hexdigest())


class RecordingClient:
    """The store's client, which records what is called; `etag` replaces that of the store, as an encrypting store's is no checksum."""

    def __init__(self, client: S3Client, etag: str | None = None) -> None:
        self._client = client
        self._etag = etag
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.calls.append(name)
        return getattr(self._client, name)

    async def put_object(self, **parameters: Any) -> dict[str, Any]:
        self.calls.append("put_object")
        response = await self._client.put_object(**parameters)
        return response if self._etag is None else {**response, "ETag": self._etag}


@pytest.mark.parametrize(
    ("etag", "calls"),
    [
        (None, ["put_object"]),
        ('"00000000000000000000000000000000"', ["put_object", "head_object", "head_object", "get_object"]),
        ("", ["put_object", "head_object", "head_object", "get_object"]),
    ],
)
async def test_a_small_file_takes_one_request_if_the_store_confirms_its_bytes(
    store: ObjectStore, tmp_path: Path, etag: str | None, calls: list[str]
) -> None:
    (tmp_path / "file").write_bytes(CSV)
    client: Any = RecordingClient(store._client, etag)
    recording_store = ObjectStore(store.bucket, store.region, client, store._signer, store._copier)
    assert await recording_store.upload((tmp_path / "file").open("rb"), "file", "text/csv") == (len(CSV), SHA256)
    assert client.calls == calls
    assert await store.read("file", MIB) == CSV


async def test_a_bucket_that_never_had_an_upload_in_parts_has_none_that_is_unfinished(settings: StateSettings) -> None:
    async with ObjectStore.open(settings) as objects:
        fresh = objects.of_bucket("fresh")
        await fresh.ensure_bucket()
        assert await fresh.multipart.unfinished("uploads/") == []
        await fresh.multipart.abort("uploads/")
