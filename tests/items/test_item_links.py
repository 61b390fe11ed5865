"""Links to the bytes of items: what they cost the server, and what they are for an item that cannot be unpacked."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from db.stores.objects import ObjectStore
from server import items as item_route
from tests.archives import csv_of, vibration, wav_of, zip_of, zip_with_excess
from tests.client import Client

ITEMS = """query($id: ID!) { node(id: $id) { ... on DatasetVersion { items(first: 30) { edges { node { key sha256 downloadUrl } } } } } }"""
CONTENT = csv_of(vibration(5, 100, length=50))
EXCESS = 4 << 20
# Of the compressed bytes none is left when all but the last 100 are unpacked.
ZEROS = bytes(256 * 1024 + 100)


def archive() -> bytes:
    """Signals; the compressed bytes of the first are damaged, and those of the last but one go on after their end."""
    files = {f"a/{number:02}.csv": csv_of(vibration(5, number, length=50)) for number in range(20)}
    data = bytearray(zip_of(files))
    start = data.index(b"a/00.csv") + len(b"a/00.csv")
    data[start : start + 8] = b"\xff" * 8
    return zip_with_excess(zip_with_excess(bytes(data), "b/excess.csv", CONTENT, EXCESS), "b/zeros.csv", ZEROS, 0)


async def test_a_link_reads_no_more_than_the_item_and_a_damaged_one_is_not_there(
    ada: Client, anonymous: Client, worker: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = await ada.ingest("signals", archive(), "s.zip", modality="SIGNAL")
    items = [edge["node"] for edge in (await ada.one(ITEMS, id=version))["items"]["edges"]]
    damaged, *_, excess, zeros = items
    assert [item["key"] for item in items if not item["sha256"]] == [damaged["key"]] == ["a/00.csv"]
    read: list[int] = []
    stream = ObjectStore.stream

    async def counted(self: ObjectStore, key: str, offset: int, length: int) -> AsyncGenerator[bytes]:
        async with aclosing(stream(self, key, offset, length)) as chunks:
            async for chunk in chunks:
                read.append(len(chunk))
                yield chunk

    monkeypatch.setattr(ObjectStore, "stream", counted)
    refused = await anonymous.http.get(damaged["downloadUrl"])
    assert (refused.status_code, refused.json()["errors"][0]["extensions"]["code"]) == (404, "NOT_FOUND")
    head = await anonymous.http.head(excess["downloadUrl"])
    assert (head.status_code, head.content, int(head.headers["content-length"])) == (200, b"", len(CONTENT))
    assert read == []
    downloaded = await anonymous.http.get(excess["downloadUrl"])
    assert (downloaded.status_code, downloaded.content) == (200, CONTENT)
    assert downloaded.headers["content-disposition"].startswith('attachment; filename="excess.csv"')
    assert downloaded.headers["x-content-type-options"] == "nosniff"
    assert 0 < sum(read) < EXCESS
    assert (await anonymous.http.get(zeros["downloadUrl"])).content == ZEROS


MORE = """query($id: ID!) { node(id: $id) { ... on DatasetVersion { items(first: 30) {
    edges { node { key sha256 downloadUrl preview { downloadUrl sizeBytes } } }
} } } }"""


@pytest.mark.exhaustive
async def test_a_part_of_an_item_is_read_by_its_range(
    ada: Client, anonymous: Client, worker: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    deflated = csv_of(vibration(5, 7, length=50_000))
    stored = wav_of(vibration(5, 8, length=60_000) / 10)
    version = await ada.ingest("signals", zip_of({"a.csv": deflated, "b.wav": stored}, stored={"b.wav"}), "s.zip", modality="SIGNAL")
    items = {edge["node"]["key"]: edge["node"] for edge in (await ada.one(MORE, id=version))["items"]["edges"]}
    read: list[tuple[int, int]] = []
    stream = ObjectStore.stream

    async def recorded(self: ObjectStore, key: str, offset: int, length: int) -> AsyncGenerator[bytes]:
        read.append((offset, length))
        async with aclosing(stream(self, key, offset, length)) as chunks:
            async for chunk in chunks:
                yield chunk

    monkeypatch.setattr(ObjectStore, "stream", recorded)
    for name, content in (("a.csv", deflated), ("b.wav", stored)):
        url, size, etag = items[name]["downloadUrl"], len(content), f'"{items[name]["sha256"]}"'
        head = await anonymous.http.head(url, headers={"Range": "bytes=0-9"})
        assert (head.status_code, head.headers["content-length"], head.headers["accept-ranges"]) == (200, str(size), "bytes")
        assert head.headers["etag"] == etag
        for asked, start, end in (
            ("bytes=0-0", 0, 1),
            ("bytes=1000-1999", 1000, 2000),
            (f"bytes={size - 1}-", size - 1, size),
            ("bytes=70000-", 70_000, size),
            ("bytes=-5", size - 5, size),
            (f"bytes=-{10**30}", 0, size),
            (f"bytes=3-{10**30}", 3, size),
            ("BYTES= 5-6", 5, 7),
        ):
            for extra in ({}, {"If-Range": etag}):
                answer = await anonymous.http.get(url, headers={"Range": asked, **extra})
                assert (answer.status_code, answer.content) == (206, content[start:end]), asked
                assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
                assert answer.headers["content-length"] == str(end - start)
        whole = ("bytes=5-2", "bytes=0-1,4-5", "bytes=-", "bytes=a-b", "bytes=٣-", "items=0-1", "bytes", "bytes=0x1-", "bytes=--5")
        for headers in (*([("Range", asked)] for asked in whole), [("Range", "bytes=0-1"), ("If-Range", '"other"')]):
            answer = await anonymous.http.get(url, headers=[(name.encode(), value.encode()) for name, value in headers])
            assert (answer.status_code, answer.content, "content-range" in answer.headers) == (200, content, False), headers
        for asked in (f"bytes={size}-", f"bytes={10**30}-", "bytes=-0"):
            refused = await anonymous.http.get(url, headers={"Range": asked})
            assert (refused.status_code, refused.headers["content-range"]) == (416, f"bytes */{size}")
            assert refused.json()["errors"][0]["extensions"]["code"] == "RANGE_NOT_SATISFIABLE"
    # What lies unpacked is read from its place, and nothing else.
    read.clear()
    assert (await anonymous.http.get(items["b.wav"]["downloadUrl"], headers={"Range": "bytes=500-509"})).content == stored[500:510]
    assert [length for _, length in read] == [10]
    preview = items["b.wav"]["preview"]
    picture = (await anonymous.http.get(preview["downloadUrl"])).content
    part = await anonymous.http.get(preview["downloadUrl"], headers={"Range": "bytes=4-11"})
    assert (part.status_code, part.content, len(picture)) == (206, picture[4:12], preview["sizeBytes"])


async def test_a_compressed_item_beyond_the_bound_has_no_ranges(
    ada: Client, anonymous: Client, worker: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = csv_of(vibration(5, 7, length=500))
    version = await ada.ingest("signals", zip_of({"a.csv": content}), "s.zip", modality="SIGNAL")
    (edge,) = (await ada.one(ITEMS, id=version))["items"]["edges"]
    monkeypatch.setattr(item_route, "MAX_SKIPPED", len(content) - 1)
    answer = await anonymous.http.get(edge["node"]["downloadUrl"], headers={"Range": "bytes=0-9"})
    assert (answer.status_code, answer.content, answer.headers["accept-ranges"]) == (200, content, "none")
