"""The reverse proxy in front of the embedded S3 server passes on everything but ranges as it comes, and ends what cannot be completed."""

from __future__ import annotations

import asyncio
import gzip
import signal
import socket
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aioboto3
import httpx
import psutil
import pytest
from botocore.config import Config

from server.embedded import EmbeddedServers
from server.embedded.service import Service

MIB = 2**20
LARGE = 48 * MIB


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Generator[EmbeddedServers]:
    with EmbeddedServers(tmp_path_factory.mktemp("proxy"), postgres=False, valkey=False) as servers:
        path = servers.data_dir / "objects" / "trellis" / "large"
        path.write_bytes(bytes(range(256)) * (LARGE // 256))
        yield servers


@asynccontextmanager
async def s3_client(servers: EmbeddedServers) -> AsyncGenerator[Any]:
    environment = servers.environment
    session: Any = aioboto3.Session(
        aws_access_key_id=environment["TRELLIS_S3_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["TRELLIS_S3_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
    )
    async with session.client("s3", endpoint_url=environment["TRELLIS_S3_PUBLIC_URL"], config=Config(signature_version="s3v4")) as client:
        yield client


async def presigned(servers: EmbeddedServers, operation: str, key: str, **parameters: Any) -> str:
    async with s3_client(servers) as client:
        return await client.generate_presigned_url(operation, Params={"Bucket": "trellis", "Key": key, **parameters})


def service(servers: EmbeddedServers, name: str) -> Service:
    return next(service for service in servers.services if service.name == name)


def process_of(servers: EmbeddedServers, name: str) -> psutil.Process:
    child = service(servers, name).child
    assert child is not None
    return psutil.Process(child.pid)


def path_of(servers: EmbeddedServers, key: str) -> Path:
    return servers.data_dir / "objects" / "trellis" / key


def open_request(url: str, head: str) -> socket.socket:
    """Send the head of a request as it is given, followed by an empty line."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = socket.create_connection((parts.hostname, parts.port or 0), timeout=20)
    method, _, headers = head.partition("\n")
    lines = [f"{method} {parts.path}?{parts.query} HTTP/1.1", f"Host: {parts.netloc}", *headers.splitlines()]
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    return connection


def read_head(connection: socket.socket) -> str:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        assert byte, f"the connection was closed after {head!r}"
        head += byte
    return head.decode()


async def test_a_body_is_asked_for_only_when_its_signature_is_good(servers: EmbeddedServers) -> None:
    """Expect: 100-continue, as curl sends it with an upload of more than a MiB."""
    url = await presigned(servers, "put_object", "expected")
    head = "PUT\nContent-Length: 5\nExpect: 100-continue"
    with open_request(url, head) as connection:
        assert read_head(connection).startswith("HTTP/1.1 100 ")
        connection.sendall(b"hello")
        assert read_head(connection).startswith("HTTP/1.1 200 ")
    assert path_of(servers, "expected").read_bytes() == b"hello"
    with open_request(url.replace("Signature=", "Signature=0"), head) as connection:
        assert read_head(connection).startswith("HTTP/1.1 403 ")


async def test_bodies_pass_through_as_they_come(servers: EmbeddedServers) -> None:
    url = await presigned(servers, "put_object", "packed")
    packed = gzip.compress(b"x,y\n1,2\n")
    async with httpx.AsyncClient(verify=False) as client:
        assert (await client.put(url, content=packed, headers={"Content-Encoding": "gzip"})).status_code == 200
        assert path_of(servers, "packed").read_bytes() == packed

        async def chunks() -> AsyncGenerator[bytes]:
            yield packed

        refused = await client.put(url, content=chunks())
        assert (refused.status_code, b"MissingContentLength" in refused.content) == (411, True)
        # Refused long before all of it is sent, and the reason still arrives, unless rclone closed its connection before the proxy read it.
        for _ in range(20):
            refused = await client.put(url.replace("Signature=", "Signature=0"), content=b"x" * LARGE)
            if refused.status_code != 503:
                break
        assert (refused.status_code, b"SignatureDoesNotMatch" in refused.content) == (403, True)


@pytest.mark.parametrize("name", ["a+b c.csv", "a%2Bb.csv", "it's (1)*~!.csv", "\N{LATIN SMALL LETTER E WITH ACUTE}&=#?;,@:$.csv"])
async def test_no_character_of_a_signed_address_is_changed(servers: EmbeddedServers, name: str) -> None:
    """viur-framework/viur-core#1697, minio/minio-js#1040, minio/minio#8897."""
    disposition = f"attachment; filename*=UTF-8''{name}" if name.isascii() else 'attachment; filename="a + b;*!\'.csv"'
    async with httpx.AsyncClient(verify=False) as client:
        assert (await client.put(await presigned(servers, "put_object", name), content=b"x")).status_code == 200
        answer = await client.get(await presigned(servers, "get_object", name, ResponseContentDisposition=disposition))
    assert (answer.status_code, answer.content, answer.headers["content-disposition"]) == (200, b"x", disposition)


async def test_a_client_that_does_not_read_costs_no_memory(servers: EmbeddedServers) -> None:
    url = await presigned(servers, "get_object", "large")
    async with httpx.AsyncClient(verify=False) as client:
        await client.get(url)  # buffers that the proxy keeps
        before = process_of(servers, "objects-proxy").memory_info().rss
        async with client.stream("GET", url) as answer:
            chunks = answer.aiter_raw(MIB)
            received = len(await anext(chunks))
            sent = process_of(servers, "objects").io_counters().read_chars
            while (now := process_of(servers, "objects").io_counters().read_chars) != sent:  # until the store waits as well
                sent = now
                await asyncio.sleep(0.2)
            assert process_of(servers, "objects-proxy").memory_info().rss - before < LARGE / 4
            async for chunk in chunks:
                received += len(chunk)
            assert received == LARGE


async def test_an_upload_that_is_cut_is_not_stored(servers: EmbeddedServers) -> None:
    url = await presigned(servers, "put_object", "cut")
    with open_request(url, f"PUT\nContent-Length: {LARGE}") as connection:
        connection.sendall(b"x" * MIB)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1024).startswith((b"HTTP/1.1 4", b""))
    async with s3_client(servers) as client:
        deadline = time.monotonic() + 60
        while "cut" in [item["Key"] for item in (await client.list_objects_v2(Bucket="trellis"))["Contents"]]:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def test_pipelined_requests_are_answered_in_their_order(servers: EmbeddedServers) -> None:
    url = await presigned(servers, "get_object", "large")
    parts = urlsplit(url)
    head = f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nRange: bytes="
    with socket.create_connection((str(parts.hostname), parts.port or 0), timeout=20) as connection:
        connection.sendall("".join(f"{head}{start}-{start + 3}\r\n\r\n" for start in (65, 97)).encode())
        for expected in (b"ABCD", b"abcd"):
            assert read_head(connection).startswith("HTTP/1.1 206 ")
            assert connection.recv(4) == expected


async def test_a_download_that_the_store_does_not_finish_is_cut_and_not_ended(servers: EmbeddedServers) -> None:
    url = await presigned(servers, "get_object", "large")
    store = service(servers, "objects")
    async with httpx.AsyncClient(verify=False) as client:
        async with client.stream("GET", url) as answer:
            assert answer.status_code == 200
            process_of(servers, "objects").send_signal(signal.SIGKILL)
            store.stop()
            with pytest.raises(httpx.TransportError):
                await answer.aread()
        away = await client.get(url)
        assert (away.status_code, away.headers["retry-after"]) == (503, "1")
        assert b"ServiceUnavailable" in away.content
        store.launch()
        store.wait()
        assert (await client.get(url, headers={"Range": "bytes=0-9"})).content == bytes(range(10))


@pytest.mark.exhaustive
async def test_a_head_that_is_never_completed_does_not_keep_its_connection(servers: EmbeddedServers) -> None:
    url = urlsplit(servers.environment["TRELLIS_S3_PUBLIC_URL"])
    with socket.create_connection((str(url.hostname), url.port or 0), timeout=30) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        assert connection.recv(1) == b""
