"""A websocket opens with a valid handshake only; an invalid one gets a response and is closed, and no connection leaks."""

from __future__ import annotations

import asyncio
import json

import pytest

from server.protocol.security_headers import SECURITY_HEADERS
from tests.exhaustive import few
from tests.server.serving import post_request, raw_connection, serving

KEY = b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="
VERSION = b"sec-websocket-version: 13"


def handshake(*headers: bytes, start: bytes = b"GET /graphql HTTP/1.1", key: bytes = KEY, version: bytes = VERSION) -> bytes:
    lines = [start, b"host: trellis", b"connection: upgrade", b"upgrade: websocket", version, key]
    return b"\r\n".join([*lines, b"sec-websocket-protocol: graphql-transport-ws", *headers]) + b"\r\n\r\n"


REFUSED = {
    "a length": (handshake(b"content-length: 5") + b"hello", 400, "BAD_REQUEST"),
    "chunks": (handshake(b"transfer-encoding: chunked") + b"0\r\n\r\n", 400, "BAD_REQUEST"),
    "POST": (handshake(start=b"POST /graphql HTTP/1.1"), 400, "BAD_REQUEST"),
    "POST with a body": (handshake(b"content-length: 5", start=b"POST /graphql HTTP/1.1") + b"hello", 400, "BAD_REQUEST"),
    "a line of 9 kB": (handshake(b"cookie: " + b"a" * 9_000), 431, "BAD_REQUEST"),
    "an address of 9 kB": (handshake(start=b"GET /graphql?" + b"a" * 9_000 + b" HTTP/1.1"), 431, "BAD_REQUEST"),
    "raw bytes in the address": (handshake(start=b"GET /graphql?\xff HTTP/1.1"), 400, "BAD_REQUEST"),
    "no key": (handshake(key=b"x-a: 1"), 400, "BAD_REQUEST"),
    "a short key": (handshake(key=b"sec-websocket-key: AAAA"), 400, "BAD_REQUEST"),
    "an old version": (handshake(version=b"sec-websocket-version: 8"), 400, "BAD_REQUEST"),
    "another address": (handshake(start=b"GET /other HTTP/1.1"), 403, "FORBIDDEN"),
    "another origin": (handshake(b"origin: https://elsewhere.example"), 403, "FORBIDDEN"),
}


@pytest.mark.parametrize("name", few(4, REFUSED))
async def test_what_is_no_handshake_is_answered_in_json_and_closed(name: str) -> None:
    request, expected, code = REFUSED[name]
    async with serving() as url, raw_connection(url) as connection, asyncio.timeout(60):
        await connection.send(request)
        status, headers, body = await connection.read_response()
        (error,) = json.loads(body)["errors"]
        assert (status, error["extensions"]["code"]) == (expected, code)
        assert error["extensions"]["requestId"] == headers["x-request-id"]
        assert headers["content-type"] == "application/json; charset=utf-8"
        assert {name.lower(): value for name, value in SECURITY_HEADERS.items()}.items() <= headers.items()
        assert "Failed" not in error["message"], "the library's words"
        assert await connection.read_to_end() == b""


async def test_lines_that_the_protocol_reads_open_a_websocket() -> None:
    async with serving() as url, raw_connection(url) as connection, asyncio.timeout(60):
        await connection.send(handshake(b"content-length: 0", *(b"x-%d: %s" % (number, b"a" * 7_000) for number in range(4))))
        assert (await connection.read_head())[0] == 101


async def test_no_websocket_is_opened_behind_a_request_that_is_not_answered_yet() -> None:
    async with serving() as url:
        for before in (post_request(), post_request() * 2, post_request(b"", length=100)):
            async with raw_connection(url) as connection, asyncio.timeout(60):
                await connection.send(before + handshake())
                output = await connection.read_to_end()
                assert b"101" not in output
                assert b"Traceback" not in output
        async with raw_connection(url) as connection, asyncio.timeout(60):
            await connection.send(post_request())
            assert (await connection.read_response())[0] == 200
            await connection.send(handshake())
            assert (await connection.read_head())[0] == 101


async def test_chunks_by_http_1_0_are_refused() -> None:
    async with serving() as url, raw_connection(url) as connection, asyncio.timeout(60):
        await connection.send(
            b"POST /graphql HTTP/1.0\r\nhost: t\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
        )
        status, headers, body = await connection.read_response()
        assert (status, json.loads(body)["errors"][0]["extensions"]["code"]) == (400, "BAD_REQUEST")
        assert headers["x-frame-options"] == "DENY"
        assert await connection.read_to_end() == b""
