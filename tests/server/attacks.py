"""What strangers may send, as bytes, and how each may end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress

from tests.server.serving import QUERY, Wire, post, wired

PATIENCE = 2.0


def once(data: bytes) -> Callable[[str], Awaitable[list[int]]]:
    """Send that on one connection: the statuses of what is answered before it is closed, or nothing more comes."""

    async def attack(url: str) -> list[int]:
        async with wired(url) as wire:
            return await sent(wire, data)

    return attack


async def sent(wire: Wire, data: bytes) -> list[int]:
    statuses: list[int] = []
    with suppress(OSError):
        await wire.send(data)
    try:
        async with asyncio.timeout(PATIENCE + 3):
            while True:
                status, headers = await wire.head()
                if status == 0:
                    return statuses
                statuses.append(status)
                await wire.reader.readexactly(int(headers.get("content-length", "0")))
                if headers.get("connection") != "close":
                    wire.writer.write_eof()
    except (OSError, asyncio.IncompleteReadError):  # a timeout is an OSError
        return statuses


def many(count: int, data: bytes) -> Callable[[str], Awaitable[list[int]]]:
    """Open so many connections, say that on each, and keep them."""

    async def attack(url: str) -> list[int]:
        async with AsyncExitStack() as stack:
            wires: list[Wire] = []
            for _ in range(count):
                try:
                    wires.append(await stack.enter_async_context(wired(url)))
                    if data:
                        await wires[-1].send(data)
                except OSError:
                    pass
            async with asyncio.timeout(PATIENCE + 10):
                told = await asyncio.gather(*(wire.rest() for wire in wires))
            return [int(text.split()[1]) for text in told if text]

    return attack


def trickling(start: bytes, rest: bytes) -> Callable[[str], Awaitable[list[int]]]:
    """Send the rest byte by byte."""

    async def attack(url: str) -> list[int]:
        async with wired(url) as wire:
            await wire.send(start)
            told = asyncio.create_task(wire.rest())
            for at in range(len(rest)):
                if told.done():
                    break
                try:
                    await wire.send(rest[at : at + 1])
                except OSError:
                    break
                await asyncio.sleep(0.2)
            text = await told
            return [int(text.split()[1])] if text else []

    return attack


def variables(value: bytes) -> bytes:
    return b'{"query": "{ __typename }", "variables": {"a": ' + value + b"}}"


def head(*lines: bytes) -> bytes:
    return b"\r\n".join([b"POST /graphql HTTP/1.1", b"host: t", b"content-type: application/json", *lines]) + b"\r\n\r\n"


MULTIPART = post(b'--x\r\ncontent-disposition: form-data; name="operations"\r\n\r\n' + QUERY + b"\r\n--x--\r\n").replace(
    b"application/json", b"multipart/form-data; boundary=x"
)
CHUNKED = head(b"transfer-encoding: chunked")
HANDSHAKE = (
    b"GET /graphql HTTP/1.1\r\nhost: t\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: graphql-transport-ws\r\n\r\n"
)
MEGABYTE = 1024 * 1024


def message(text: bytes) -> bytes:
    """One frame of a client, its mask all zeros."""
    return b"\x81\xff" + len(text).to_bytes(8) + b"\0\0\0\0" + text


# How each may end: the status, or None where the connection is closed without a word.
ATTACKS: dict[str, tuple[Callable[[str], Awaitable[list[int]]], set[int | None]]] = {
    # JSON
    "null": (once(post(b"null")), {400}),
    "a string": (once(post(b'"{ __typename }"')), {400}),
    "a number of 5,000 digits": (once(post(variables(b"9" * 5000))), {400}),
    "an integer of 65 bits": (once(post(variables(b"18446744073709551616"))), {400}),
    "NaN": (once(post(variables(b"NaN"))), {400}),
    "80,000 digits and an exponent": (once(post(variables(b"1" * 80_000 + b"e-80000"))), {200}),
    "a megabyte of digits and an exponent": (once(post(variables(b"1" * 1_000_000 + b"e-999999"))), {200}),
    "20 zeros in an exponent": (once(post(variables(b"1e-00000000000000000001"))), {200}),
    "1e999": (once(post(variables(b"1e999"))), {400}),
    "a thousand operations at once": (once(post(b"[" + b",".join([QUERY] * 1000) + b"]")), {400}),
    "a key twice": (once(post(variables(b'{"a": 1, "a": 2}'))), {400}),
    "65 levels": (once(post(variables(b"[" * 63 + b"]" * 63))), {400}),
    "500,000 brackets": (once(post(variables(b"[" * 500_000))), {400}),
    "300,000 empty lists": (once(post(b'{"query": "{ __typename }", "variables": {"a": [' + b"[]," * 300_000 + b"1]}}")), {200}),
    "200,000 keys": (once(post(variables(b"{" + b",".join(b'"%d":1' % n for n in range(75_000)) + b"}"))), {200}),
    "a megabyte of backslashes": (once(post(variables(b'"' + b"\\\\" * 500_000 + b'"'))), {200}),
    "a body that is cut off": (once(post(QUERY[:10])), {400}),
    "an empty body": (once(post(b"")), {400}),
    # UTF-8
    "bytes that are no UTF-8": (once(post(variables(b'"\xff\xfe"'))), {400}),
    "a lone surrogate": (once(post(variables(b'"\\ud800"'))), {400}),
    "a lone surrogate in bytes": (once(post(variables(b'"\xed\xa0\x80"'))), {400}),
    "an overlong slash": (once(post(variables(b'"\xc0\xaf"'))), {400}),
    "a byte order mark": (once(post(b"\xef\xbb\xbf" + QUERY)), {400}),
    "UTF-16": (once(post(QUERY.decode().encode("utf-16"))), {400}),
    "NUL in the document": (once(post(b'{"query": "{ \\u0000 }"}')), {200}),
    "an address that is no UTF-8": (once(b"GET /graphql?query=%ff HTTP/1.1\r\nhost: t\r\ngraphql-preflight: 1\r\n\r\n"), {400}),
    "raw bytes in the address": (once(b"GET /graphql?query=\xff\xfe HTTP/1.1\r\nhost: t\r\n\r\n"), {400}),
    # other bodies
    "multipart": (once(MULTIPART), {415}),
    "text/plain": (once(post().replace(b"application/json", b"text/plain")), {415}),
    "a form": (once(post(b"query={__typename}").replace(b"application/json", b"application/x-www-form-urlencoded")), {415}),
    "gzip": (once(post(QUERY, b"content-encoding: gzip")), {415}),
    "two content types": (once(post(QUERY, b"content-type: text/plain")), {415}),
    "no type that we have": (once(post(QUERY, b"accept: image/png")), {406}),
    "an Accept of 30 kB": (once(post(QUERY, b"accept: " + b'"\\",' * 7_000)), {200, 406}),
    "DELETE": (once(post().replace(b"POST", b"DELETE")), {405}),
    # HTTP
    "two lengths": (once(post(QUERY, b"content-length: 5")), {400}),
    "a length and chunks": (once(post(QUERY, b"transfer-encoding: chunked")), {400}),
    "an unknown coding": (once(head(b"transfer-encoding: gzip")), {400}),
    "a negative length": (once(head(b"content-length: -1")), {400}),
    "a length of 30 digits": (once(head(b"content-length: " + b"9" * 30)), {400, 413}),
    "a length with a plus": (once(head(b"content-length: +5")), {400}),
    "a header folded over two lines": (once(head(b"x-a: 1\r\n  transfer-encoding: chunked", b"content-length: 0")), {400}),
    "a space before the colon": (once(head(b"content-length : 5")), {400}),
    "a bare line feed": (once(b"POST /graphql HTTP/1.1\nhost: t\n\n"), {400, 415}),
    "NUL in a header": (once(head(b"x-a: \x00")), {400}),
    "no host": (once(b"GET / HTTP/1.1\r\n\r\n"), {400}),
    "two hosts": (once(post(QUERY, b"host: other")), {400}),
    "chunks of a wrong size": (once(CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n"), {400}),
    "a chunk of a terabyte": (once(CHUNKED + b"ffffffffff\r\n{}"), {None, 413}),
    "a chunk extension of 100 kB": (once(CHUNKED + b"1;" + b"a" * 100_000 + b"\r\n"), {400, 431, None}),
    "HTTP/2": (once(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), {400}),
    "TLS": (once(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 500), {400}),
    "an upgrade to h2c": (once(post(QUERY, b"connection: upgrade", b"upgrade: h2c")), {400, 415}),
    "an upgrade to a websocket without a key": (once(head(b"connection: upgrade", b"upgrade: websocket")), {400, 405, 426}),
    "a head of 40 kB": (once(head(b"x-a: " + b"a" * 40_000)), {431}),
    "a head of a megabyte": (once(head(b"x-a: " + b"a" * MEGABYTE)), {431}),
    "a thousand headers": (once(head(*(b"x-%d: a" % number for number in range(1000)))), {431}),
    "an address of 100 kB": (once(b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: t\r\n\r\n"), {431}),
    "a body of 20 MB": (once(post(b" " * 20_000_000)), {413}),
    "chunks of 20 MB": (once(CHUNKED + b"".join(b"10000\r\n" + b" " * 0x10000 + b"\r\n" for _ in range(320)) + b"0\r\n\r\n"), {413}),
    "twenty thousand requests in one go": (once(post() * 20_000), {200, 400, None}),
    "rubbish after a request": (once(post() + b"\x00\x01\x02 rubbish\r\n\r\n"), {200, 400, None}),
    "a field of a megabyte behind the body": (
        once(CHUNKED + b"%x\r\n" % len(QUERY) + QUERY + b"\r\n0\r\nx-a: " + b"a" * MEGABYTE),
        {431, None},
    ),
    # websockets
    "80,000 digits before connection_init": (once(HANDSHAKE + message(variables(b"1" * 80_000 + b"e-80000"))), {101}),
    "an upgrade with a body": (once(HANDSHAKE.replace(b"host: t", b"host: t\r\ncontent-length: 5") + b"hello"), {400}),
    "an upgrade in chunks": (once(HANDSHAKE.replace(b"host: t", b"host: t\r\ntransfer-encoding: chunked") + b"0\r\n\r\n"), {400}),
    "an upgrade by POST": (once(HANDSHAKE.replace(b"GET", b"POST")), {400}),
    "an upgrade with a header of 9 kB": (once(HANDSHAKE.replace(b"host: t", b"host: t\r\nx-a: " + b"a" * 9_000)), {431}),
    "an upgrade behind a request": (once(post() + HANDSHAKE), {200, 400, None}),
    "2,000 upgrades with a body": (many(2000, HANDSHAKE.replace(b"host: t", b"host: t\r\ncontent-length: 5")), {400, None}),
    "200,000 pings": (once(HANDSHAKE + b"\x89\x80\0\0\0\0" * 200_000), {101}),
    "200,000 pieces of a message": (once(HANDSHAKE + b"\x01\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * 200_000), {101}),
    # time and number
    "a head byte by byte": (trickling(b"POST /graphql HTTP/1.1\r\nhost: t\r\nx-a: ", b"a" * 200), {None}),
    "a body byte by byte": (trickling(post(b"", length=200), b" " * 200), {None}),
    "chunks byte by byte": (trickling(CHUNKED, b"1\r\n \r\n" * 40), {None}),
    "a body that never comes": (once(post(b"", length=100)), {None}),
    "2,000 silent connections": (many(2000, b""), {None}),
    "2,000 half heads": (many(2000, b"POST /graphql HTTP/1.1\r\nhost: t\r\n"), {None}),
    "1,000 half bodies": (many(1000, post(b"", length=100)), {None}),
}
