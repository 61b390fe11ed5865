"""Inputs at the edges of our protocols, each taken from a public report about another system in which it went wrong."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.client import Client
from tests.server.serving import QUERY, post_request, raw_connection
from tests.server.test_sockets import bearer, receive_message, send_message, send_subscribe

OK = (200, {"data": {"__typename": "Query"}})
BOM = b"\xef\xbb\xbf"

# Where it went wrong; the request's headers and body; and the status and the body of the response, or the code of its error.
REQUESTS: list[tuple[str, dict[str, str], bytes, tuple[int, Any]]] = [
    ("n8n-io/n8n#35933", {}, BOM + QUERY, OK),
    ("OCA/rest-framework#194", {"content-type": "application/json; charset=utf-8"}, BOM + QUERY, OK),
    ("microsoft/cppgraphqlgen#304", {}, '{"query": "{\N{ZERO WIDTH NO-BREAK SPACE}__typename }"}'.encode(), OK),
    ("smithy-lang/smithy-rs#3471", {"content-type": "application/json; charset=utf8"}, QUERY, OK),
    ("aws/chalice#306", {"content-type": "application/json;charset=UTF-8"}, QUERY, OK),
    ("javaee/metro-jax-ws#581", {"content-type": "application/json; charset=usacii"}, QUERY, (415, "UNSUPPORTED_MEDIA_TYPE")),
    ("graphql-java-kickstart/graphql-java-servlet#34", {}, b'{"query": "{ __typename }", "operationName": "", "variables": null}', OK),
    ("apollographql/router#4837", {}, b'{"query": "query A { __typename }", "operationName": ""}', OK),
    ("apollographql/apollo-server#4855", {}, b'{"query": "query A { __typename }", "operationName": "B"}', (400, "BAD_REQUEST")),
    ("apollographql/router#9977", {"accept": "application/json, application/graphql-response+json;q=0.9"}, QUERY, OK),
    ("graphql/graphiql#4189", {"accept": "application/graphql-response+json, application/json;q=0.9"}, QUERY, OK),
    ("graphql-dotnet/server#932", {"accept": "application/xml"}, QUERY, (406, "NOT_ACCEPTABLE")),
    # The same key, once written with an escape: parsers that check the text alone see two keys.
    ("fastify/secure-json-parse#5", {}, b'{"query": "{ __typename }", "quer\\u0079": "{ viewer { id } }"}', (400, "BAD_REQUEST")),
]


@pytest.mark.parametrize(("source", "headers", "body", "expected"), REQUESTS, ids=[source for source, *_ in REQUESTS])
async def test_a_request(anonymous: Client, source: str, headers: dict[str, str], body: bytes, expected: tuple[int, Any]) -> None:
    answer = await anonymous.http.post("/graphql", content=body, headers={"content-type": "application/json", **headers})
    content: dict[str, Any] = answer.json()
    got = content["errors"][0]["extensions"]["code"] if "errors" in content else content
    assert (answer.status_code, got) == expected, source


async def test_requests_on_one_connection_are_answered_in_their_order(anonymous: Client) -> None:
    """Kludex/uvicorn#19, sanic-org/sanic#337, benoitc/gunicorn#3727: pipelined, with chunks, after Expect, and one byte at a time."""
    bodies = [json.dumps({"query": f"{{ a{number}: __typename }}"}).encode() for number in range(5)]
    async with raw_connection(anonymous.url) as connection:
        await connection.send(*map(post_request, bodies[:3]))
        for number in range(3):
            assert json.loads((await connection.read_response())[2]) == {"data": {f"a{number}": "Query"}}
        head = b"POST /graphql HTTP/1.1\r\nhost: trellis\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n"
        await connection.send(head, b"expect: 100-continue\r\n\r\n")
        assert (await connection.read_head())[0] == 100
        for byte in bodies[3]:
            await connection.send(b"1\r\n%c\r\n" % byte)
        await connection.send(b"0\r\n\r\n")
        assert json.loads((await connection.read_response())[2]) == {"data": {"a3": "Query"}}
        await connection.send(post_request(bodies[4], b"connection: close"), b"nonsense\r\n\r\n")  # Kludex/uvicorn#2238
        assert json.loads((await connection.read_response())[2]) == {"data": {"a4": "Query"}}
        assert await connection.read_to_end() == b""


async def test_a_space_may_be_a_plus_in_the_query_string(anonymous: Client) -> None:
    for query in ("{+__typename+}", "%7B%20__typename%20%7D"):
        answer = await anonymous.http.get(f"/graphql?query={query}", headers={"graphql-preflight": "1"})
        assert (answer.status_code, answer.json()) == OK
    answer = await anonymous.http.get("/GraphQL")
    assert (answer.status_code, "/graphql" in answer.text) == (404, True)


@pytest.mark.parametrize(
    ("source", "offered"),
    [
        ("ghostdogpr/caliban#3045", ["graphql-transport-ws", "graphql-ws"]),
        ("enisdenjo/graphql-ws#240", ["graphql-ws", "graphql-transport-ws"]),
        ("websockets/ws#193", ["nonsense", "graphql-transport-ws"]),
    ],
)
async def test_of_several_subprotocols_one_is_chosen(ada: Client, source: str, offered: list[Any]) -> None:
    async with connect(ada.url.replace("http", "ws", 1) + "/graphql", subprotocols=offered) as websocket:
        assert websocket.subprotocol == "graphql-transport-ws", source
        await send_message(websocket, type="connection_init", payload=bearer(ada))
        assert await receive_message(websocket) == {"type": "connection_ack"}


async def test_a_message_may_be_cut_anywhere(ada: Client) -> None:
    """ballerina-platform/ballerina-lang#12695, denoland/fastwebsockets#123: a character in two frames, with a ping between them."""
    name = "\N{SPARKLES}\N{LATIN SMALL LETTER E WITH ACUTE}数"
    document = "mutation($name: String!) { createDataset(input: {name: $name}) { ... on CreateDatasetPayload { dataset { name } } } }"
    payload = {"query": document, "variables": {"name": name}, "operationName": "", "extensions": None}
    message = json.dumps({"id": "1", "type": "subscribe", "payload": payload}, ensure_ascii=False).encode()

    async def bytewise() -> AsyncGenerator[bytes]:
        for byte in message:
            yield bytes([byte])
            await asyncio.sleep(0)

    async with connect(ada.url.replace("http", "ws", 1) + "/graphql", subprotocols=["graphql-transport-ws"]) as websocket:  # pyright: ignore[reportArgumentType] - a NewType of str
        await send_message(websocket, type="connection_init", payload=bearer(ada))
        assert await receive_message(websocket) == {"type": "connection_ack"}
        sending = asyncio.create_task(websocket.send(bytewise(), text=True))
        await (await websocket.ping())
        await sending
        assert (await receive_message(websocket))["payload"] == {"data": {"createDataset": {"dataset": {"name": name}}}}
        assert (await receive_message(websocket))["type"] == "complete"
        await send_message(websocket, type="ping", payload={"since": 1})
        assert (await receive_message(websocket))["type"] == "pong"
        await send_subscribe(websocket, "1", "{ __typename }")  # the id of a finished operation
        assert (await receive_message(websocket))["payload"] == OK[1]


CONTENT = b"a,b\n1,2\n"


@pytest.mark.parametrize(
    ("source", "changed", "status"),
    [
        ("gaul/s3proxy#680: a bearer token, sent to all hosts", {"Authorization": "Bearer another"}, 400),
        ("a client's own default", {"Content-Type": "text/csv"}, 403),
        ("a client without a default", {"Content-Type": None}, 403),
        ("request/request#860: credentials of another service", {"Authorization": "Basic YTpi"}, 400),
        ("a cookie of the same host", {"Cookie": "a=b"}, 200),
    ],
    ids=lambda value: value.partition(":")[0] if isinstance(value, str) else "",
)
async def test_an_upload_is_taken_as_it_was_signed(ada: Client, source: str, changed: dict[str, str | None], status: int) -> None:
    upload = (await ada.request_upload(await ada.create_dataset("d"), "d.csv", CONTENT, sha256=hashlib.sha256(CONTENT).hexdigest()))[
        "upload"
    ]
    headers = {**{header["name"]: header["value"] for header in upload["headers"]}, **changed}
    async with httpx.AsyncClient(verify=False) as client:
        sent = {name: value for name, value in headers.items() if value is not None}
        answer = await client.put(upload["url"], content=CONTENT, headers=sent)
        assert answer.status_code == status, (source, answer.text)
        if status == 400:
            assert "without it" in answer.text
        if status == 200:
            assert (await ada.complete_upload(upload["id"]))["__typename"] == "CompleteUploadPayload"
