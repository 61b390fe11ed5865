"""Malicious requests as bytes, and the permitted responses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress

from tests.server.serving import QUERY, RawConnection, post_request, raw_connection

REQUEST_TIMEOUT = 2.0


def send_once(data: bytes) -> Callable[[str], Awaitable[list[int]]]:
    """Send `data` on one connection; return the statuses of the responses until it is closed."""

    async def attack(url: str) -> list[int]:
        async with raw_connection(url) as connection:
            return await response_statuses(connection, data)

    return attack


async def response_statuses(connection: RawConnection, data: bytes) -> list[int]:
    statuses: list[int] = []
    with suppress(OSError):
        await connection.send(data)
    try:
        async with asyncio.timeout(REQUEST_TIMEOUT + 3):
            while True:
                status, headers = await connection.read_head()
                if status == 0:
                    return statuses
                statuses.append(status)
                await connection.reader.readexactly(int(headers.get("content-length", "0")))
                if headers.get("connection") != "close":
                    connection.writer.write_eof()
    except (OSError, asyncio.IncompleteReadError):  # a timeout is an OSError
        return statuses


def open_many(count: int, data: bytes) -> Callable[[str], Awaitable[list[int]]]:
    """Open `count` connections, send `data` on each, and keep them open."""

    async def attack(url: str) -> list[int]:
        async with AsyncExitStack() as stack:
            connections: list[RawConnection] = []
            for _ in range(count):
                try:
                    connections.append(await stack.enter_async_context(raw_connection(url)))
                    if data:
                        await connections[-1].send(data)
                except OSError:
                    pass
            async with asyncio.timeout(REQUEST_TIMEOUT + 10):
                responses = await asyncio.gather(*(connection.read_to_end() for connection in connections))
            return [int(text.split()[1]) for text in responses if text]

    return attack


def send_slowly(start: bytes, rest: bytes) -> Callable[[str], Awaitable[list[int]]]:
    """Send the rest byte by byte."""

    async def attack(url: str) -> list[int]:
        async with raw_connection(url) as connection:
            await connection.send(start)
            response = asyncio.create_task(connection.read_to_end())
            for at in range(len(rest)):
                if response.done():
                    break
                try:
                    await connection.send(rest[at : at + 1])
                except OSError:
                    break
                await asyncio.sleep(0.2)
            text = await response
            return [int(text.split()[1])] if text else []

    return attack


def variables_body(value: bytes) -> bytes:
    return b'{"query": "{ __typename }", "variables": {"a": ' + value + b"}}"


def request_head(*lines: bytes) -> bytes:
    return b"\r\n".join([b"POST /graphql HTTP/1.1", b"host: t", b"content-type: application/json", *lines]) + b"\r\n\r\n"


MULTIPART = post_request(b'--x\r\ncontent-disposition: form-data; name="operations"\r\n\r\n' + QUERY + b"\r\n--x--\r\n").replace(
    b"application/json", b"multipart/form-data; boundary=x"
)
CHUNKED = request_head(b"transfer-encoding: chunked")
HANDSHAKE = (
    b"GET /graphql HTTP/1.1\r\nhost: t\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: graphql-transport-ws\r\n\r\n"
)
MEGABYTE = 1024 * 1024


def text_frame(text: bytes) -> bytes:
    """Return a text frame of a client, with a mask of zeros."""
    return b"\x81\xff" + len(text).to_bytes(8) + b"\0\0\0\0" + text


# The permitted responses: a status, or None if the connection is closed without one.
ATTACKS: dict[str, tuple[Callable[[str], Awaitable[list[int]]], set[int | None]]] = {
    # JSON
    "null": (send_once(post_request(b"null")), {400}),
    "a string": (send_once(post_request(b'"{ __typename }"')), {400}),
    "a number of 5,000 digits": (send_once(post_request(variables_body(b"9" * 5000))), {400}),
    "an integer of 65 bits": (send_once(post_request(variables_body(b"18446744073709551616"))), {400}),
    "NaN": (send_once(post_request(variables_body(b"NaN"))), {400}),
    "80,000 digits and an exponent": (send_once(post_request(variables_body(b"1" * 80_000 + b"e-80000"))), {200}),
    "a megabyte of digits and an exponent": (send_once(post_request(variables_body(b"1" * 1_000_000 + b"e-999999"))), {200}),
    "20 zeros in an exponent": (send_once(post_request(variables_body(b"1e-00000000000000000001"))), {200}),
    "1e999": (send_once(post_request(variables_body(b"1e999"))), {400}),
    "a thousand operations at once": (send_once(post_request(b"[" + b",".join([QUERY] * 1000) + b"]")), {400}),
    "a key twice": (send_once(post_request(variables_body(b'{"a": 1, "a": 2}'))), {400}),
    "65 levels": (send_once(post_request(variables_body(b"[" * 63 + b"]" * 63))), {400}),
    "500,000 brackets": (send_once(post_request(variables_body(b"[" * 500_000))), {400}),
    "300,000 empty lists": (
        send_once(post_request(b'{"query": "{ __typename }", "variables": {"a": [' + b"[]," * 300_000 + b"1]}}")),
        {200},
    ),
    "200,000 keys": (send_once(post_request(variables_body(b"{" + b",".join(b'"%d":1' % n for n in range(75_000)) + b"}"))), {200}),
    "a megabyte of backslashes": (send_once(post_request(variables_body(b'"' + b"\\\\" * 500_000 + b'"'))), {200}),
    "a body that is cut off": (send_once(post_request(QUERY[:10])), {400}),
    "an empty body": (send_once(post_request(b"")), {400}),
    # UTF-8
    "bytes that are no UTF-8": (send_once(post_request(variables_body(b'"\xff\xfe"'))), {400}),
    "a lone surrogate": (send_once(post_request(variables_body(b'"\\ud800"'))), {400}),
    "a lone surrogate in bytes": (send_once(post_request(variables_body(b'"\xed\xa0\x80"'))), {400}),
    "an overlong slash": (send_once(post_request(variables_body(b'"\xc0\xaf"'))), {400}),
    "a byte order mark": (send_once(post_request(b"\xef\xbb\xbf" + QUERY)), {200}),
    "UTF-16": (send_once(post_request(QUERY.decode().encode("utf-16"))), {400}),
    "NUL in the document": (send_once(post_request(b'{"query": "{ \\u0000 }"}')), {200}),
    "an address that is no UTF-8": (send_once(b"GET /graphql?query=%ff HTTP/1.1\r\nhost: t\r\ngraphql-preflight: 1\r\n\r\n"), {400}),
    "raw bytes in the address": (send_once(b"GET /graphql?query=\xff\xfe HTTP/1.1\r\nhost: t\r\n\r\n"), {400}),
    # Other bodies
    "multipart": (send_once(MULTIPART), {415}),
    "text/plain": (send_once(post_request().replace(b"application/json", b"text/plain")), {415}),
    "a form": (send_once(post_request(b"query={__typename}").replace(b"application/json", b"application/x-www-form-urlencoded")), {415}),
    "gzip": (send_once(post_request(QUERY, b"content-encoding: gzip")), {415}),
    "two content types": (send_once(post_request(QUERY, b"content-type: text/plain")), {415}),
    "no type that we have": (send_once(post_request(QUERY, b"accept: image/png")), {406}),
    "an Accept of 30 kB": (send_once(post_request(QUERY, b"accept: " + b'"\\",' * 7_000)), {200, 406}),
    "DELETE": (send_once(post_request().replace(b"POST", b"DELETE")), {405}),
    # HTTP
    "two lengths": (send_once(post_request(QUERY, b"content-length: 5")), {400}),
    "a length and chunks": (send_once(post_request(QUERY, b"transfer-encoding: chunked")), {400}),
    "an unknown coding": (send_once(request_head(b"transfer-encoding: gzip")), {400}),
    "a negative length": (send_once(request_head(b"content-length: -1")), {400}),
    "a length of 30 digits": (send_once(request_head(b"content-length: " + b"9" * 30)), {400, 413}),
    "a length with a plus": (send_once(request_head(b"content-length: +5")), {400}),
    "a header folded over two lines": (send_once(request_head(b"x-a: 1\r\n  transfer-encoding: chunked", b"content-length: 0")), {400}),
    "a space before the colon": (send_once(request_head(b"content-length : 5")), {400}),
    "a bare line feed": (send_once(b"POST /graphql HTTP/1.1\nhost: t\n\n"), {400, 415}),
    "NUL in a header": (send_once(request_head(b"x-a: \x00")), {400}),
    "no host": (send_once(b"GET / HTTP/1.1\r\n\r\n"), {400}),
    "two hosts": (send_once(post_request(QUERY, b"host: other")), {400}),
    "chunks of a wrong size": (send_once(CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n"), {400}),
    "a chunk of a terabyte": (send_once(CHUNKED + b"ffffffffff\r\n{}"), {None, 413}),
    "a chunk extension of 100 kB": (send_once(CHUNKED + b"1;" + b"a" * 100_000 + b"\r\n"), {400, 431, None}),
    "HTTP/2": (send_once(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), {400}),
    "TLS": (send_once(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 500), {400}),
    "an upgrade to h2c": (send_once(post_request(QUERY, b"connection: upgrade", b"upgrade: h2c")), {400, 415}),
    "an upgrade to a websocket without a key": (send_once(request_head(b"connection: upgrade", b"upgrade: websocket")), {400, 405, 426}),
    "a head of 40 kB": (send_once(request_head(b"x-a: " + b"a" * 40_000)), {431}),
    "a head of a megabyte": (send_once(request_head(b"x-a: " + b"a" * MEGABYTE)), {431}),
    "a thousand headers": (send_once(request_head(*(b"x-%d: a" % number for number in range(1000)))), {431}),
    "an address of 100 kB": (send_once(b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: t\r\n\r\n"), {431}),
    "a body of 20 MB": (send_once(post_request(b" " * 20_000_000)), {413}),
    "chunks of 20 MB": (send_once(CHUNKED + b"".join(b"10000\r\n" + b" " * 0x10000 + b"\r\n" for _ in range(320)) + b"0\r\n\r\n"), {413}),
    "twenty thousand requests in one go": (send_once(post_request() * 20_000), {200, 400, None}),
    "rubbish after a request": (send_once(post_request() + b"\x00\x01\x02 rubbish\r\n\r\n"), {200, 400, None}),
    "a field of a megabyte behind the body": (
        send_once(CHUNKED + b"%x\r\n" % len(QUERY) + QUERY + b"\r\n0\r\nx-a: " + b"a" * MEGABYTE),
        {431, None},
    ),
    # WebSockets
    "80,000 digits before connection_init": (send_once(HANDSHAKE + text_frame(variables_body(b"1" * 80_000 + b"e-80000"))), {101}),
    "an upgrade with a body": (send_once(HANDSHAKE.replace(b"host: t", b"host: t\r\ncontent-length: 5") + b"hello"), {400}),
    "an upgrade in chunks": (send_once(HANDSHAKE.replace(b"host: t", b"host: t\r\ntransfer-encoding: chunked") + b"0\r\n\r\n"), {400}),
    "an upgrade by POST": (send_once(HANDSHAKE.replace(b"GET", b"POST")), {400}),
    "an upgrade with a header of 9 kB": (send_once(HANDSHAKE.replace(b"host: t", b"host: t\r\nx-a: " + b"a" * 9_000)), {431}),
    "an upgrade behind a request": (send_once(post_request() + HANDSHAKE), {200, 400, None}),
    "2,000 upgrades with a body": (open_many(2000, HANDSHAKE.replace(b"host: t", b"host: t\r\ncontent-length: 5")), {400, None}),
    "200,000 pings": (send_once(HANDSHAKE + b"\x89\x80\0\0\0\0" * 200_000), {101}),
    "200,000 pieces of a message": (send_once(HANDSHAKE + b"\x01\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * 200_000), {101}),
    # Slow and numerous connections
    "a head byte by byte": (send_slowly(b"POST /graphql HTTP/1.1\r\nhost: t\r\nx-a: ", b"a" * 200), {None}),
    "a body byte by byte": (send_slowly(post_request(b"", length=200), b" " * 200), {None}),
    "chunks byte by byte": (send_slowly(CHUNKED, b"1\r\n \r\n" * 40), {None}),
    "a body that never comes": (send_once(post_request(b"", length=100)), {None}),
    "2,000 silent connections": (open_many(2000, b""), {None}),
    "2,000 half heads": (open_many(2000, b"POST /graphql HTTP/1.1\r\nhost: t\r\n"), {None}),
    "1,000 half bodies": (open_many(1000, post_request(b"", length=100)), {None}),
}
