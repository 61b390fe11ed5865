"""A query that comes again is answered without the application, and no client can tell."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from db.streams import viewers
from server import plain_queries
from server.protocol.disconnect import cancel_on_disconnect
from tests.client import Client
from tests.exhaustive import few
from tests.server.serving import raw_connection, serving

RESPONSE = "application/graphql-response+json"
JSON = "application/json"
OWN = {"date", "x-request-id", "content-length", "server-timing"}  # of each response


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the requests that are answered without the application, by a server of this process that looks no token up twice."""
    monkeypatch.setattr(viewers, "LIFETIME", 3600.0)
    request_ids: list[str] = []

    async def noting(state: dict[str, Any], awaitable: Any) -> Any:
        request_ids.append(state["request_id"])
        return await cancel_on_disconnect(state, awaitable)

    monkeypatch.setattr(plain_queries, "cancel_on_disconnect", noting)
    return request_ids


def comparable(answer: httpx.Response) -> tuple[int, dict[str, str], Any]:
    headers = {name: value for name, value in answer.headers.items() if name not in OWN}
    return answer.status_code, headers, json.loads(answer.text.replace(answer.headers["x-request-id"], "its id"))


@pytest.mark.parametrize("accept", few(1, [JSON, RESPONSE]))
@pytest.mark.parametrize(
    "body",
    [
        {"query": "query Again { viewer { id username } }"},
        {"query": "query Named($id: ID!) { dataset(id: $id) { id } } query Other { __typename }", "operationName": "Other"},
        {"query": "query One($id: ID!) { dataset(id: $id) { id } }", "variables": {"id": "dataset_00000000000000000000000000000000"}},
        {"query": "query Wrong($id: ID!) { dataset(id: $id) { id } }", "variables": {"id": None}},
        {"query": "query Paged { datasets(first: 101) { edges { node { id } } } }"},
        {"query": "query Dry { rateLimit(dryRun: true) { cost } viewer { id } }"},
        {"query": "{ noSuchField }"},
        {"query": "{ __schema { queryType { name } } }"},
    ],
)
async def test_it_has_the_same_answer(ada: Client, taken: list[str], body: dict[str, Any], accept: str) -> None:
    async with serving(server_timing=True) as url, httpx.AsyncClient(base_url=url, headers={"accept": accept}) as http:
        for headers in ({"authorization": f"Bearer {ada.token}"}, {}):
            first = again = await http.post("/graphql", json=body, headers=headers)
            async with asyncio.timeout(60):  # a server that has just started may forget a token once more
                while again.headers["x-request-id"] not in taken or again is first:
                    again = await http.post("/graphql", json=body, headers=headers)
            assert first.headers["x-request-id"] not in taken or not headers
            assert comparable(again) == comparable(first)
            assert ("server-timing" in again.headers) == ("server-timing" in first.headers)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"origin": "https://elsewhere.example"}, {"query": "{ __typename }"}),
        ({"cookie": "trellis=x"}, {"query": "{ __typename }"}),
        ({"x-trellis-cost": "1"}, {"query": "{ __typename }"}),
        ({"content-encoding": "gzip"}, {"query": "{ __typename }"}),
        ({"accept": "image/png"}, {"query": "{ __typename }"}),
        ({}, {"query": ""}),
        ({"authorization": "Bearer nobody's"}, {"query": "{ __typename }"}),
        ({"authorization": "Basic eDp5"}, {"query": "{ __typename }"}),
        ({}, {"query": 'mutation { deleteDataset(input: {id: "x"}) { __typename } }'}),
        ({}, {"query": "subscription { jobUpdates { id } }"}),
        ({}, {"query": "{ __typename }", "variables": []}),
        ({}, {"query": "{ __typename }", "extensions": {}}),
        ({}, {"query": "query A { __typename } query B { __typename }"}),
    ],
)
async def test_everything_else_goes_to_the_application(taken: list[str], headers: dict[str, str], body: dict[str, Any]) -> None:
    async with serving() as url, httpx.AsyncClient(base_url=url) as http:
        for _ in range(3):
            await http.post("/graphql", json=body, headers=headers)
    assert taken == []


async def test_a_token_that_is_revoked_before_the_body_comes_is_refused(
    ada: Client, sign_in: Callable[[str], Awaitable[Client]], taken: list[str]
) -> None:
    body = b'{"query":"{ viewer { username } }"}'
    async with serving() as url, httpx.AsyncClient(base_url=url, timeout=30) as http:
        authorization = f"Bearer {(await sign_in('ada')).token}"
        headers = {"authorization": authorization, "content-type": JSON}
        head = f"POST /graphql HTTP/1.1\r\nHost: x\r\nContent-Type: {JSON}\r\nAuthorization: {authorization}\r\nContent-Length: {len(body)}\r\n\r\n"
        async with raw_connection(url) as held:
            while not taken:
                assert (await http.post("/graphql", content=body, headers=headers)).json() == {"data": {"viewer": {"username": "ada"}}}
            await held.send(head.encode())
            await http.post("/graphql", json={"query": "mutation { logout { __typename } }"}, headers=headers)
            await held.send(body)
            status, _, answer = await held.read_response()
    assert (status, json.loads(answer)["errors"][0]["extensions"]["code"]) == (401, "UNAUTHENTICATED")
    assert len(taken) == 1
