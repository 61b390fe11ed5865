"""Connections that stall, that never end, or that exceed the limit are closed; all others are unaffected."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from typing import Any

from server.protocol import sse
from server.protocol.http_protocol import LimitedHttpProtocol
from tests.client import Client
from tests.server.serving import QUERY, RawConnection, post_request, raw_connection, serving

ANSWER = {"data": {"__typename": "Query"}}


async def send_slowly(connection: RawConnection, data: bytes, pause: float = 0.05) -> tuple[int, float]:
    """Send a byte now and then until the other side closes; return how many were sent, and how long that took."""
    began = time.monotonic()
    response = asyncio.create_task(connection.read_to_end())
    at = 0
    for at in range(len(data)):
        if response.done():
            break
        try:
            await connection.send(data[at : at + 1])
        except OSError:
            break
        await asyncio.sleep(pause)
    async with asyncio.timeout(60):
        await response
    return at, time.monotonic() - began


async def test_a_head_or_a_body_that_trickles_is_closed_when_its_time_is_over() -> None:
    async with serving(request_timeout=0.5) as url:
        head, body = post_request(b"x" * 200).split(b"\r\n\r\n")
        async with raw_connection(url) as one, raw_connection(url) as two, raw_connection(url) as three, raw_connection(url) as four:
            await two.send(head, b"\r\n\r\n")
            await three.send(b"POST /graphql HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
            sent = await asyncio.gather(
                send_slowly(one, head), send_slowly(two, body), send_slowly(three, b"1\r\n{\r\n" * 50), send_slowly(four, b"\r\n" * 100)
            )
    assert all(count < 60 and seconds > 0.3 for count, seconds in sent), sent  # half a second is time for ten bytes


CHUNKED = b"POST /graphql HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNK = b"%x\r\n%s\r\n0\r\n" % (len(QUERY), QUERY)


async def test_what_follows_a_body_is_no_header() -> None:
    async with serving() as url, raw_connection(url) as connection:
        for _ in range(2):
            await connection.send(CHUNKED, CHUNK, b"authorization: Bearer nobodys\r\nx-a: 1\r\n\r\n")
            status, _, body = await connection.read_response()
            assert (status, json.loads(body)) == (200, ANSWER)


async def test_what_follows_a_body_is_read_to_a_limit() -> None:
    async with serving(max_header_bytes=4096) as url:
        for endless in (CHUNK + b"x-a: ", CHUNK + b"x-a: 1\r\n" * 200, b"1;a="):
            async with raw_connection(url) as connection:
                await connection.send(CHUNKED, endless)
                for _ in range(20):
                    await connection.send(b"a" * 1000)
                    await asyncio.sleep(0.005)
                status, headers, body = await connection.read_response()
                (error,) = json.loads(body)["errors"]
                assert (status, headers["connection"], error["extensions"]["code"]) == (431, "close", "BAD_REQUEST")


async def test_a_connection_that_says_nothing_is_closed() -> None:
    async with serving(request_timeout=0.3, keep_alive_timeout=1) as url, raw_connection(url) as silent, raw_connection(url) as idle:
        await idle.send(post_request())
        assert json.loads((await idle.read_response())[2]) == ANSWER
        async with asyncio.timeout(60):
            assert await silent.read_to_end() == b""
            assert await idle.read_to_end() == b""


async def test_a_connection_is_kept_between_requests_and_timed_anew_for_each() -> None:
    async with serving(request_timeout=0.4) as url, raw_connection(url) as connection:
        for _ in range(3):
            head, body = post_request().split(b"\r\n\r\n")
            await connection.send(head, b"\r\n\r\n")
            await asyncio.sleep(0.2)
            await connection.send(body)
            assert json.loads((await connection.read_response())[2]) == ANSWER
            await asyncio.sleep(0.5)  # longer than the request timeout; an idle connection is not a slow one


async def test_a_body_that_is_too_long_is_refused_before_it_is_sent_and_while_it_comes(anonymous: Client) -> None:
    async with serving(max_body_bytes=10_000) as url:
        async with raw_connection(url) as connection:  # Content-Length exceeds the limit
            await connection.send(post_request(b"", length=20_000_000))
            status, headers, body = await connection.read_response()
            assert (status, headers["connection"]) == (413, "close")
            assert json.loads(body)["errors"][0]["extensions"]["code"] == "PAYLOAD_TOO_LARGE"
            assert await connection.read_to_end() == b""
        async with raw_connection(url) as connection:  # Expect: 100-continue
            await connection.send(post_request(b"", b"expect: 100-continue", length=20_000_000))
            assert (await connection.read_head())[0] == 413
        async with raw_connection(url) as connection:  # chunked, without a length
            await connection.send(
                b"POST /graphql HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
            )
            for _ in range(30):
                await connection.send(b"400\r\n" + b" " * 1024 + b"\r\n")
            assert (await connection.read_head())[0] == 413
        exact = QUERY + b" " * (10_000 - len(QUERY))
        assert (await anonymous.http.post(f"{url}/graphql", content=exact, headers={"content-type": "application/json"})).json() == ANSWER


async def test_a_head_that_is_too_long_is_refused() -> None:
    async with serving(max_header_bytes=4096) as url:
        for long in (b"x-long: " + b"a" * 5000, b"\r\n".join(b"x-%d: a" % number for number in range(150))):
            async with raw_connection(url) as connection:
                await connection.send(post_request(QUERY, long))
                status, _, body = await connection.read_response()
                assert (status, json.loads(body)["errors"][0]["extensions"]["code"]) == (431, "BAD_REQUEST")
                assert await connection.read_to_end() == b""
        async with raw_connection(url) as connection:
            await connection.send(b"GET /graphql?query=" + b"a" * 300_000)
            assert (await connection.read_head())[0] == 431


async def test_with_too_many_connections_the_silent_ones_leave_first(ada: Client) -> None:
    async with serving(max_connections=20) as url, AsyncExitStack() as stack:
        client = Client(url, ada.token)
        stack.push_async_callback(client.close)
        async with client.socket() as (send, receive):
            await send({"type": "ping"})
            assert (await receive())["type"] == "pong"
            silent = [await stack.enter_async_context(raw_connection(url)) for _ in range(60)]
            for connection in silent[-5:]:
                await connection.send(b"POST /graphql HTTP/1.1\r\nhost: t\r\n")
            assert await client.one("{ __typename }") == "Query"
            await send({"type": "ping"})
            assert (await receive())["type"] == "pong"
            async with asyncio.timeout(60):
                assert [await connection.read_to_end() for connection in silent[:40]] == [b""] * 40


async def test_streams_and_sockets_outlive_every_timeout(ada: Client, monkeypatch: Any) -> None:
    monkeypatch.setattr(sse, "KEEP_ALIVE_INTERVAL", 0.1)
    async with serving(request_timeout=0.3, keep_alive_timeout=1, operation_timeout=0.3) as url:
        client = Client(url, ada.token)
        body = {"query": "subscription { jobUpdates { id } }"}
        async with (
            client.socket() as (send, receive),
            client.http.stream("POST", "/graphql", json=body, headers={"accept": "text/event-stream"}) as stream,
        ):
            comments = stream.aiter_text()
            for _ in range(20):
                assert ":" in await anext(comments)
            await send({"type": "ping"})
            assert (await receive())["type"] == "pong"
        await client.close()


async def test_requests_that_follow_each_other_are_answered_in_turn() -> None:
    async with serving() as url, raw_connection(url) as connection:
        bodies = [b'{"query": "{ a%d: __typename }"}' % number for number in range(10)]
        await connection.send(*map(post_request, bodies))
        assert [json.loads((await connection.read_response())[2]) for _ in bodies] == [
            {"data": {f"a{number}": "Query"}} for number in range(10)
        ]
    async with serving() as url, raw_connection(url) as connection:
        await connection.send(post_request() * 500)
        output = await connection.read_to_end()
        assert b"HTTP/1.1 5" not in output


async def test_a_client_behind_a_stream_that_goes_takes_the_stream_with_it(ada: Client) -> None:
    stream = b'{"query": "subscription { jobUpdates { id } }"}'
    async with serving() as url:
        async with raw_connection(url) as connection:
            assert ada.token is not None
            await connection.send(
                post_request(stream, b"accept: text/event-stream", b"authorization: Bearer " + ada.token.encode()), post_request()
            )
            assert (await connection.read_head())[0] == 200
        async with asyncio.timeout(60):
            while any("EventStream" in getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()):
                await asyncio.sleep(0.02)


async def test_an_answer_that_nobody_reads_is_given_up(ada: Client, monkeypatch: Any) -> None:
    monkeypatch.setattr("server.protocol.http_protocol.SEND_TIMEOUT", 0.3)
    for number in range(50):
        await ada.create_dataset(f"dataset {number}", description="d" * 2000)
    dropped = asyncio.Event()
    original_drop = LimitedHttpProtocol.drop

    def record_drop(self: LimitedHttpProtocol) -> None:
        dropped.set()
        original_drop(self)

    monkeypatch.setattr(LimitedHttpProtocol, "drop", record_drop)
    document = "{" + "".join(f"a{number}: datasets(first: 50) {{ edges {{ node {{ description }} }} }}" for number in range(15)) + "}"
    async with serving() as url, raw_connection(url) as connection:
        assert ada.token is not None
        request = post_request(json.dumps({"query": document}).encode(), b"authorization: Bearer " + ada.token.encode())
        connection.writer.transport.pause_reading()  # pyright: ignore[reportAttributeAccessIssue] - a readable transport
        for _ in range(8):
            await connection.send(request)
        async with asyncio.timeout(60):
            await dropped.wait()


async def test_a_stopping_process_does_not_wait_for_its_streams(ada: Client) -> None:
    async with serving(shutdown_grace=60) as url:
        client = Client(url, ada.token)
        body = {"query": "subscription { jobUpdates { id } }"}
        streams = [
            await AsyncExitStack().enter_async_context(
                client.http.stream("POST", "/graphql", json=body, headers={"accept": "text/event-stream"})
            )
            for _ in range(3)
        ]
        began = time.monotonic()
    assert time.monotonic() - began < 30  # half of the grace period
    for stream in streams:
        await stream.aclose()
    await client.close()
