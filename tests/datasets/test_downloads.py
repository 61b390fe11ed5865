"""A download takes ranges as RFC 9110 has them: resumed downloads, and readers that fetch only the part of a file that they need."""

from __future__ import annotations

import hashlib
import io
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import aioboto3
import httpx
import polars as pl
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import ClientError

from db.settings import StateSettings
from tests.client import Client

ROWS = 20_000
CSV = b"number,text\n" + b"".join(b"%d,%s\n" % (number, hashlib.sha256(b"%d" % number).hexdigest().encode()) for number in range(ROWS))
SIZE = len(CSV)
NAME = 'Mäße 100% + "q" it\'s 数据.csv'
FILES = "query($id: ID!) { node(id: $id) { ... on DatasetVersion { rawFile { downloadUrl } processedFile { downloadUrl } } } }"

# Range, then what it returns of the file, and where the same was got wrong.
RANGES: list[tuple[str, tuple[int, int] | str | None, str]] = [
    ("bytes=0-9", (0, 9), "johannesboyne/gofakes3#121"),
    ("bytes=-10", (SIZE - 10, SIZE - 1), "jamhall/s3rver#374"),
    ("bytes=5-", (5, SIZE - 1), "OpenListTeam/OpenList#3043"),
    (f"bytes=7-{SIZE * 2}", (7, SIZE - 1), "danvk/RangeHTTPServer#7"),
    (f"bytes=-{SIZE * 2}", (0, SIZE - 1), "Kludex/starlette#3307"),
    ("Bytes = 0-9", (0, 9), "RFC 9110, 14.1: units are case-insensitive"),
    (f"bytes={SIZE}-", None, "swisspol/GCDWebServer#369"),
    (f"bytes={'9' * 25}-", None, "koajs/koa-range#19"),
    ("bytes=-0", None, "swhitty/FlyingFox#204"),
    # A server may ignore a range (RFC 9110, 14.2) and must ignore an invalid one.
    ("bytes=0-0,5-9", "whole", "minio/minio#4251"),
    ("bytes=9-5", "whole", "static-web-server/static-web-server#669"),
    ("bytes=abc", "whole", "static-web-server/static-web-server#669"),
    ("items=0-5", "whole", "RFC 9110, 14.1.1: unknown units"),
]


async def uploaded(ada: Client, worker: object) -> dict[str, Any]:
    version, job = await ada.upload(await ada.create_dataset("d"), NAME, CSV)
    assert (await ada.wait(job))["status"] == "COMPLETED"
    files = await ada.one(FILES, id=version)
    return {role: files[role]["downloadUrl"] for role in files}


async def test_a_range_of_a_download_is_what_was_asked_for(ada: Client, worker: object, tmp_path: Path) -> None:
    url = (await uploaded(ada, worker))["rawFile"]
    async with httpx.AsyncClient(verify=False) as client:
        whole = await client.get(url)
        assert (whole.status_code, whole.content, whole.headers["accept-ranges"]) == (200, CSV, "bytes")
        *_, quoted = whole.headers["content-disposition"].partition("filename*=UTF-8''")
        assert unquote(quoted) == NAME
        assert len(whole.headers["etag"]) > len('""')
        for value, expected, source in RANGES:
            answer = await client.get(url, headers={"Range": value})
            got = (answer.status_code, answer.headers.get("content-range"), len(answer.content))
            if expected is None:
                assert got[:2] == (416, f"bytes */{SIZE}"), (value, source)
                assert b"InvalidRange" in answer.content
            elif isinstance(expected, str):
                assert got == (200, None, SIZE), (value, source)
            else:
                first, last = expected
                assert got == (206, f"bytes {first}-{last}/{SIZE}", last - first + 1), (value, source)
                assert answer.content == CSV[first : last + 1]
                # A checksum of the whole beside a part makes clients refuse the part.
                assert not any(name.startswith("x-amz-checksum") for name in answer.headers)
                assert answer.headers["etag"] == whole.headers["etag"]
        await _resumes_only_the_same_file(client, url, whole)
        # As S3 has it: the signature covers the method.
        assert (await client.head(url)).status_code == 403

    part = tmp_path / "part.csv"
    part.write_bytes(CSV[:1000])
    for _ in range(2):  # the second time there is nothing left to fetch
        subprocess.run(["curl", "--silent", "--show-error", "--continue-at", "-", "--output", str(part), url], check=True)
        assert part.read_bytes() == CSV


async def _resumes_only_the_same_file(client: httpx.AsyncClient, url: str, whole: httpx.Response) -> None:
    """If-Range, by which browsers resume: a part only of the same file, else the whole (BitMiracle-AI/Dormice#86)."""
    validators = {
        whole.headers["etag"]: True,
        whole.headers["last-modified"]: True,
        '"another"': False,
        'W/"another"': False,
        "W/" + whole.headers["etag"]: False,
        "Wed, 01 Jan 2020 00:00:00 GMT": False,
    }
    for validator, is_current in validators.items():
        answer = await client.get(url, headers={"Range": "bytes=1000-", "If-Range": validator})
        assert (answer.status_code, answer.content) == ((206, CSV[1000:]) if is_current else (200, CSV)), validator
        shorter = await client.get(url, headers={"Range": f"bytes={SIZE}-", "If-Range": validator})
        assert shorter.status_code == (416 if is_current else 200), validator


class RangeReader(io.RawIOBase):
    """A file of which each read fetches a range and insists on 206, as the readers of columnar files over HTTP do."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(verify=False)
        self._url, self._position, self.fetched = url, 0, 0
        self.size = int(self._get("bytes=0-0").headers["content-range"].rpartition("/")[2])

    def _get(self, value: str) -> httpx.Response:
        answer = self._client.get(self._url, headers={"Range": value})
        assert answer.status_code == 206
        return answer

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + (0, self._position, self.size)[whence]
        return self._position

    def read(self, size: int = -1) -> bytes:
        last = self.size if size < 0 else min(self.size, self._position + size)
        if last <= self._position:
            return b""
        content = self._get(f"bytes={self._position}-{last - 1}").content
        self._position += len(content)
        self.fetched += len(content)
        return content

    def close(self) -> None:
        self._client.close()
        super().close()


async def test_a_reader_fetches_only_the_columns_that_it_needs(ada: Client, worker: object, settings: StateSettings) -> None:
    files = await uploaded(ada, worker)
    with RangeReader(files["processedFile"]) as file:
        table = pq.ParquetFile(file).read(columns=["number"])
        assert table.column("number").to_pylist() == list(range(ROWS))
        assert file.fetched < file.size / 2
    part = httpx.get(files["processedFile"], headers={"Range": "bytes=-8"}, verify=False).content
    assert part.endswith(b"PAR1")
    assert pl.read_parquet(httpx.get(files["processedFile"], verify=False).content).height == ROWS

    # boto3 signs the range and verifies what it gets.
    bucket, _, key = urlsplit(files["rawFile"]).path.lstrip("/").partition("/")
    options = {"aws_access_key_id": settings.s3_access_key_id, "aws_secret_access_key": settings.s3_secret_access_key.get_secret_value()}
    session: Any = aioboto3.Session(region_name=settings.s3_region)
    async with session.client("s3", endpoint_url=settings.s3_public_url, **options) as client:
        answer = await client.get_object(Bucket=bucket, Key=key, Range="bytes=12-20")
        assert (answer["ResponseMetadata"]["HTTPStatusCode"], await answer["Body"].read()) == (206, CSV[12:21])
        with pytest.raises(ClientError, match="InvalidRange"):
            await client.get_object(Bucket=bucket, Key=key, Range=f"bytes={SIZE}-")
