"""graphql-transport-ws: limits, sessions that end, and operations that fail independently."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services import accounts
from db.settings import StateSettings
from db.stores.redis import connect as connect_redis
from db.streams.notices import RedisNoticePublisher
from tests.client import Client
from tests.server.serving import RawConnection, raw_connection, serving

VIEWER_QUERY = "{ viewer { username } }"
UPDATES = "subscription { jobUpdates { id } }"


@asynccontextmanager
async def open_websocket(url: str, payload: dict[str, Any] | None = None, **options: Any) -> AsyncGenerator[ClientConnection]:
    """Open a websocket, and initialise it unless `payload` is None."""
    address = url.replace("http", "ws", 1) + "/graphql"
    async with connect(address, subprotocols=["graphql-transport-ws"], **options) as websocket:  # pyright: ignore[reportArgumentType] - a NewType of str
        if payload is not None:
            await send_message(websocket, type="connection_init", payload=payload)
            assert await receive_message(websocket) == {"type": "connection_ack"}
        yield websocket


async def send_message(websocket: ClientConnection, **message: Any) -> None:
    await websocket.send(json.dumps(message))


async def receive_message(websocket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(60):
        return json.loads(await websocket.recv())


async def send_subscribe(websocket: ClientConnection, key: str, query: str, **more: Any) -> None:
    await send_message(websocket, id=key, type="subscribe", payload={"query": query, **more})


async def wait_closed(websocket: ClientConnection) -> tuple[int, str]:
    """Return the close code and reason, skipping earlier messages."""
    async with asyncio.timeout(60):
        try:
            while True:
                await websocket.recv()
        except ConnectionClosed as error:
            received = error.rcvd
    assert received is not None
    return received.code, received.reason


def bearer(client: Client) -> dict[str, str]:
    return {"Authorization": f"Bearer {client.token}"}


async def test_the_token_comes_with_the_message_or_the_header(ada: Client, bob: Client) -> None:
    expected = {"id": "1", "type": "next", "payload": {"data": {"viewer": {"username": "ada"}}}}
    for payload, headers in ((bearer(ada), {}), ({}, bearer(ada)), (bearer(ada), bearer(bob))):
        async with open_websocket(ada.url, payload, additional_headers=headers) as websocket:
            await send_subscribe(websocket, "1", VIEWER_QUERY)
            assert await receive_message(websocket) == expected
            assert await receive_message(websocket) == {"id": "1", "type": "complete"}


async def test_a_token_that_names_nobody_is_refused(ada: Client) -> None:
    for payload in ({"Authorization": "Bearer trk_nobody_0123456789"}, {"authorization": 7}, {"Authorization": "Basic YTpi"}):
        async with open_websocket(ada.url) as websocket:
            await send_message(websocket, type="connection_init", payload=payload)
            assert await wait_closed(websocket) == (4403, "Forbidden")


async def test_nothing_is_run_before_the_socket_is_initialised(ada: Client) -> None:
    async with open_websocket(ada.url) as websocket:
        await send_subscribe(websocket, "1", VIEWER_QUERY)
        assert (await wait_closed(websocket))[0] == 4401


async def test_a_second_initialisation_closes_the_socket(ada: Client) -> None:
    async with open_websocket(ada.url, bearer(ada)) as websocket:
        await send_message(websocket, type="connection_init", payload={})
        assert (await wait_closed(websocket))[0] == 4429


async def test_a_bad_document_fails_its_own_operation_only(ada: Client) -> None:
    async with open_websocket(ada.url, bearer(ada)) as websocket:
        await send_subscribe(websocket, "stream", UPDATES)
        for number, (query, more, code) in enumerate(
            [
                ("query {", {}, "GRAPHQL_PARSE_FAILED"),
                ("{ nothing }", {}, "GRAPHQL_VALIDATION_FAILED"),
                ("query A { viewer { id } } query B { viewer { id } }", {}, "BAD_REQUEST"),
                ("query A { viewer { id } }", {"operationName": "B"}, "BAD_REQUEST"),
                ("", {}, "BAD_REQUEST"),
                ("", {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}}}, "PERSISTED_QUERY_NOT_FOUND"),
                ("", {"documentId": "nobody-knows"}, "DOCUMENT_NOT_FOUND"),
            ]
        ):
            await send_subscribe(websocket, str(number), query, **more)
            answer = await receive_message(websocket)
            assert (answer["id"], answer["type"]) == (str(number), "error"), answer
            assert [error["extensions"]["code"] for error in answer["payload"]] == [code], answer
            assert all(error["extensions"]["requestId"] for error in answer["payload"])
        await ada.create_dataset("still there")
        await send_subscribe(websocket, "last", VIEWER_QUERY)
        assert (await receive_message(websocket))["payload"] == {"data": {"viewer": {"username": "ada"}}}


async def test_a_registered_document_runs_by_its_hash(ada: Client) -> None:
    document = {"persistedQuery": {"version": 1, "sha256Hash": hashlib.sha256(VIEWER_QUERY.encode()).hexdigest()}}
    async with open_websocket(ada.url, bearer(ada)) as websocket:
        await send_subscribe(websocket, "1", VIEWER_QUERY, extensions=document)
        assert (await receive_message(websocket))["type"] == "next"
        await receive_message(websocket)
        await send_message(websocket, id="2", type="subscribe", payload={"extensions": document})
        assert (await receive_message(websocket))["payload"] == {"data": {"viewer": {"username": "ada"}}}


@pytest.mark.parametrize(
    "message",
    [
        "not json",
        "[]",
        "null",
        "5",
        '"x"',
        "{}",
        '{"type": "nonsense"}',
        '{"type": "subscribe"}',
        '{"id": 5, "type": "subscribe", "payload": {"query": "{ viewer { id } }"}}',
        '{"id": "1", "type": "subscribe", "payload": []}',
        '{"id": "1", "type": "subscribe", "payload": {"query": 5}}',
        '{"id": "1", "type": "subscribe", "payload": {"query": "{ viewer { id } }", "variables": []}}',
        '{"id": "1", "type": "subscribe", "payload": {"query": "{ viewer { id } }", "variables": {"a": 18446744073709551616}}}',
        '{"id": "1", "type": "subscribe", "payload": {"query": "{ viewer { id } }", "variables": {"a": NaN}}}',
        '{"id": "1", "id": "2", "type": "complete"}',
        '{"type": "complete"}',
        '{"a":' * 70 + "1" + "}" * 70,
        "\ufeff{}",
    ],
)
async def test_an_odd_message_closes_the_socket_as_the_protocol_says(ada: Client, message: str) -> None:
    async with open_websocket(ada.url, bearer(ada)) as websocket:
        await websocket.send(message)
        code, reason = await wait_closed(websocket)
        assert code == 4400
        assert 0 < len(reason.encode()) <= 123


async def test_bytes_are_no_message(ada: Client) -> None:
    async with open_websocket(ada.url, bearer(ada)) as websocket:
        await websocket.send(b"\x00\xff")
        assert (await wait_closed(websocket))[0] == 4400


async def test_an_unknown_protocol_is_not_spoken(ada: Client) -> None:
    for protocols in (["graphql-ws"], ["nonsense"], None):
        address = ada.url.replace("http", "ws", 1) + "/graphql"
        async with connect(address, subprotocols=protocols) as websocket:  # pyright: ignore[reportArgumentType] - a NewType of str
            assert (await wait_closed(websocket))[0] == 4406


async def test_a_page_of_another_origin_is_not_let_in(ada: Client) -> None:
    with capture_logs() as logged, pytest.raises(InvalidStatus) as refused:
        async with open_websocket(ada.url, bearer(ada), origin="https://evil.example"):
            pass
    assert refused.value.response.status_code == 403
    (entry,) = [entry for entry in logged if entry["event"] == "request_rejected"]
    assert (repr(entry["status"]), entry["codes"]) == ("403", ["FORBIDDEN"])
    (warning,) = [entry for entry in logged if entry["log_level"] == "warning"]
    assert (warning["event"], warning["origin"]) == ("websocket_origin_refused", "https://evil.example")
    assert warning["setting"] == "TRELLIS_ALLOWED_ORIGINS"
    async with open_websocket(ada.url, bearer(ada), origin=ada.url) as websocket:
        await send_subscribe(websocket, "1", VIEWER_QUERY)
        assert (await receive_message(websocket))["type"] == "next"
    async with serving(allowed_origins=["https://app.example"]) as url, open_websocket(url, bearer(ada), origin="https://app.example"):
        pass


async def test_a_message_that_is_too_long_closes_the_socket(ada: Client) -> None:
    async with open_websocket(ada.url, bearer(ada)) as websocket:
        await send_subscribe(websocket, "1", VIEWER_QUERY + " " * 300_000)
        assert (await wait_closed(websocket))[0] == 1009


async def test_limits_are_kept(ada: Client, bob: Client) -> None:
    async with serving(sockets_per_viewer=2, operations_per_socket=2, messages_per_second=20.0, socket_init_timeout=0.3) as url:
        async with open_websocket(url, bearer(ada)) as first, open_websocket(url, bearer(ada)), open_websocket(url, bearer(bob)):
            for key in ("1", "2", "3"):
                await send_subscribe(first, key, UPDATES)
            refused = await receive_message(first)
            assert (refused["id"], refused["type"], refused["payload"][0]["extensions"]["code"]) == ("3", "error", "RATE_LIMITED")
            await send_message(first, id="1", type="complete")
            await send_subscribe(first, "4", VIEWER_QUERY)
            assert (await receive_message(first))["payload"] == {"data": {"viewer": {"username": "ada"}}}
            async with open_websocket(url) as third:
                await send_message(third, type="connection_init", payload=bearer(ada))
                assert (await wait_closed(third))[0] == 4429
        async with open_websocket(url, bearer(ada)) as again:
            for _ in range(40):
                await send_message(again, type="pong")
            assert (await wait_closed(again))[0] == 4429
        async with open_websocket(url) as silent:
            assert (await wait_closed(silent))[0] == 4408


@pytest.mark.exhaustive
async def test_a_client_that_does_not_answer_pings_is_given_up(ada: Client) -> None:
    async with serving(socket_ping_interval=0.2) as url:
        async with open_websocket(url, bearer(ada)) as answering:
            for _ in range(12):
                assert await receive_message(answering) == {"type": "ping"}
                await send_message(answering, type="pong")
        async with open_websocket(url, bearer(ada)) as silent:
            assert (await wait_closed(silent))[0] == 1001


@pytest.mark.parametrize("payload", [{}, None], ids=["token in the handshake", "token in the message too"])
async def test_a_handshake_with_two_tokens_is_refused_as_over_http(ada: Client, payload: dict[str, Any] | None) -> None:
    valid, other = ("Authorization", f"Bearer {ada.token}"), ("authorization", "Bearer another")
    for headers in ([valid, other], [other, valid], [valid, valid]):
        async with open_websocket(ada.url, additional_headers=headers) as websocket:
            await send_message(websocket, type="connection_init", payload=bearer(ada) if payload is None else payload)
            assert await wait_closed(websocket) == (4403, "Forbidden")
    async with open_websocket(ada.url, payload={}, additional_headers=[valid]) as websocket:
        await send_subscribe(websocket, "1", VIEWER_QUERY)
        assert (await receive_message(websocket))["payload"] == {"data": {"viewer": {"username": "ada"}}}


async def test_a_revoked_token_closes_its_sockets_and_no_others(ada: Client, bob: Client, settings: StateSettings) -> None:
    async with open_websocket(ada.url, bearer(ada)) as ada_websocket, open_websocket(ada.url, bearer(bob)) as bob_websocket:
        await send_subscribe(ada_websocket, "1", UPDATES)
        await send_subscribe(bob_websocket, "1", UPDATES)
        async with (
            connect_redis(settings.redis_url) as redis,
            Database.open(settings, RedisNoticePublisher(redis)) as database,
            database.work(SYSTEM) as work,
        ):
            assert await accounts.revoke_tokens(work, "ada@example.org") == 1
        async with asyncio.timeout(60):
            assert (await wait_closed(ada_websocket))[0] == 4403
        await send_subscribe(bob_websocket, "2", VIEWER_QUERY)
        assert (await receive_message(bob_websocket))["payload"] == {"data": {"viewer": {"username": "bob"}}}
    async with open_websocket(ada.url) as again:
        await send_message(again, type="connection_init", payload=bearer(ada))
        assert await wait_closed(again) == (4403, "Forbidden")


async def test_nothing_stays_of_sockets_that_are_gone(ada: Client, settings: StateSettings) -> None:
    """Sockets closed by every means, by the client, by a lost connection, in the middle of operations, leak nothing."""
    dataset = await ada.create_dataset("watched")
    upload = (await ada.request_upload(dataset, "a.csv", b"x"))["upload"]
    assert upload["id"]
    async with connect_redis(settings.redis_url) as redis:
        before = await _resources(redis)
        async with AsyncExitStack() as stack:
            for number in range(20):
                websocket = await stack.enter_async_context(open_websocket(ada.url, bearer(ada)))
                for key in range(5):
                    await send_subscribe(websocket, str(key), UPDATES)
                await send_subscribe(websocket, "query", "{ jobs(first: 50) { totalCount } }")
                if number % 2:
                    websocket.transport.abort()
            assert (await _resources(redis))[0] > before[0]
        async with asyncio.timeout(60):
            while (after := await _resources(redis)) != before:
                await asyncio.sleep(0.1)
        assert after == before


async def _resources(redis: Redis) -> tuple[int, int]:
    """Return the server's tasks, which run in this process, and the subscribers of Redis."""
    gc.collect()
    tasks = [task for task in asyncio.all_tasks() if "socket" in task.get_name() or "WebSocket" in repr(task.get_coro())]
    readers: Any = await redis.execute_command("CLIENT", "LIST", "TYPE", "pubsub")  # pyright: ignore[reportUnknownMemberType] - redis leaves it untyped
    return len(tasks), len(readers.splitlines())


HANDSHAKE = (
    b"GET /graphql HTTP/1.1\r\nhost: t\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: graphql-transport-ws\r\n\r\n"
)
NO_MASK = b"\0\0\0\0"
FLOODS = {
    "pings": b"\x89\x80" + NO_MASK,
    "pongs": b"\x8a\x80" + NO_MASK,
    "pieces of a message": b"\x00\x80" + NO_MASK,
    "messages": b"\x81\x82" + NO_MASK + b"{}",
}


async def closing_code(connection: RawConnection) -> int:
    """Return the close code of the socket, skipping earlier messages."""
    received = await connection.read_to_end()
    at = received.rfind(b"\x88")
    return int.from_bytes(received[at + 2 : at + 4])


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_of_frames_closes_its_socket(ada: Client, name: str) -> None:
    async with raw_connection(ada.url) as connection, asyncio.timeout(60):
        await connection.send(HANDSHAKE)
        assert (await connection.read_head())[0] == 101
        opening_frame = b"\x01\x80" + NO_MASK if name == "pieces of a message" else b""
        with suppress(OSError):
            await connection.send(opening_frame, FLOODS[name] * 3000)
        assert await closing_code(connection) in {1008, 4400}


async def test_a_message_that_is_no_utf_8_closes_its_socket_and_is_no_error_of_ours(ada: Client, caplog: pytest.LogCaptureFixture) -> None:
    async with raw_connection(ada.url) as connection, asyncio.timeout(60):
        await connection.send(HANDSHAKE)
        assert (await connection.read_head())[0] == 101
        await connection.send(b"\x81\x82" + NO_MASK + b"\xff\xfe")
        assert await closing_code(connection) == 1007
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
