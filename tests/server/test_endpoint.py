"""Requests to the endpoint that are no GraphQL requests get a code and a reason, never an internal error."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from tests.client import Client


async def post_body(client: Client, body: bytes) -> httpx.Response:
    return await client.http.post("/graphql", content=body, headers={"content-type": "application/json"})


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"5",
        b'"{ viewer { id } }"',
        b"[]",
        b"{}",
        b"",
        b"\xff\xfe",
        b'{"query": 5}',
        b'{"query": "{ viewer { id } }", "variables": []}',
        b'{"query": "{ viewer { id } }", "variables": {"a": NaN}}',
        b'{"query": "{ viewer { id } }", "variables": {"a": "\\ud800"}}',
        b'{"query": "{ viewer { id } }", "variables": {"a": ' + b"9" * 5_000 + b"}}",
        b'{"query": "{ viewer { id } }", "variables": {"a": ' + b"[" * 5_000 + b"]" * 5_000 + b"}}",
        b'{"query": "{ viewer { id } }", "operationName": 5}',
    ],
)
async def test_a_body_that_is_no_request_is_a_bad_request(ada: Client, body: bytes) -> None:
    answer = await post_body(ada, body)
    assert answer.status_code == 400
    assert [error["extensions"]["code"] for error in answer.json()["errors"]] == ["BAD_REQUEST"]


SUBSCRIBE: dict[str, Any] = {"id": "1", "type": "subscribe"}


@pytest.mark.parametrize(
    "message",
    [
        [],
        None,
        5,
        "ping",
        {},
        {"type": 5},
        {"type": "complete", "id": []},
        {**SUBSCRIBE, "payload": []},
        {**SUBSCRIBE, "payload": None},
        {**SUBSCRIBE, "payload": {"query": 5}},
        {**SUBSCRIBE, "payload": {"query": "{ viewer { id } }", "variables": []}},
        {**SUBSCRIBE, "payload": {"query": "{ viewer { id } }", "operationName": 5}},
        {**SUBSCRIBE, "id": {}, "payload": {"query": "{ viewer { id } }"}},
    ],
)
async def test_a_socket_that_sends_a_message_of_a_wrong_shape_is_closed_with_a_reason(ada: Client, message: object) -> None:
    async with ada.socket() as (send, receive):
        await send(message)  # pyright: ignore[reportArgumentType] - invalid on purpose
        with pytest.raises(ConnectionClosedError) as closed:
            await receive()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4400
    assert closed.value.rcvd.reason


async def test_the_acknowledgement_of_a_socket_has_no_payload(ada: Client) -> None:
    async with connect(ada.url.replace("http", "ws", 1) + "/graphql", subprotocols=["graphql-transport-ws"]) as socket:  # pyright: ignore[reportArgumentType] - a NewType of str
        await socket.send(json.dumps({"type": "connection_init", "payload": {"Authorization": f"Bearer {ada.token}"}}))
        assert json.loads(await socket.recv()) == {"type": "connection_ack"}
