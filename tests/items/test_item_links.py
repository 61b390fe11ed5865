"""Links to the bytes of items: what they cost the server, and what they are for an item that cannot be unpacked."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from db.stores.objects import ObjectStore
from tests.archives import csv_of, vibration, zip_of, zip_with_excess
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
