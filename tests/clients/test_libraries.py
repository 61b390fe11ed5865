"""Common client libraries work against the API: a query, a mutation, a live stream and errors with each."""

from __future__ import annotations

from typing import Any

import pytest
from gql import Client as GqlClient
from gql import gql
from gql.transport.exceptions import TransportQueryError
from gql.transport.httpx import HTTPXAsyncTransport
from gql.transport.websockets import WebsocketsTransport

from tests.client import Client
from tests.clients import node

CSV = b"x,label\n" + b"".join(b"%d,%d\n" % (i, i % 2) for i in range(50))
BAD_ARGUMENT = ["BAD_USER_INPUT"]
VALIDATION = ["GRAPHQL_VALIDATION_FAILED"]


@pytest.fixture
async def job(ada: Client, worker: object) -> str:
    """A job that is running when the libraries subscribe."""
    for name in ("first", "second", "third"):
        await ada.create_dataset(name)
    _, job = await ada.upload(await ada.create_dataset("watched"), "watched.csv", CSV)
    return job


async def run_client_script(ada: Client, path: str, job: str) -> dict[str, Any]:
    assert ada.token is not None
    return await node.run_script(
        path, TRELLIS_URL=f"{ada.url}/graphql", TRELLIS_TOKEN=ada.token, TRELLIS_JOB=job, TRELLIS_NAME=f"by {path}"
    )


async def all_events(ada: Client, job: str) -> list[int]:
    sequences = [event["sequence"] async for event in ada.events(job)]
    assert sequences == list(range(1, len(sequences) + 1))
    return sequences


async def names(ada: Client) -> list[str]:
    page = await ada.one("{ datasets(first: 50, orderBy: {field: NAME, direction: ASC}) { edges { node { name } } } }")
    return [edge["node"]["name"] for edge in page["edges"]]


async def test_apollo_client(ada: Client, job: str) -> None:
    report = await run_client_script(ada, "apollo.mjs", job)
    assert report == {
        "viewer": "ada",
        "cached": "ada",
        "created": "CreateDatasetPayload",
        "again": "NAME_TAKEN",
        "events": await all_events(ada, job),
        "unknown": VALIDATION,
        "badArgument": BAD_ARGUMENT,
    }
    assert "by apollo.mjs" in await names(ada)


@pytest.mark.exhaustive  # it speaks as Apollo's does
async def test_urql(ada: Client, job: str) -> None:
    report = await run_client_script(ada, "urql.mjs", job)
    assert report == {
        "viewer": "ada",
        "byGet": "ada",
        "created": "CreateDatasetPayload",
        "again": "NAME_TAKEN",
        "events": await all_events(ada, job),
        "unknown": VALIDATION,
        "badArgument": BAD_ARGUMENT,
    }
    assert "by urql.mjs" in await names(ada)


async def test_graphql_ws(ada: Client, job: str) -> None:
    report = await run_client_script(ada, "graphql_ws.mjs", job)
    events = await all_events(ada, job)
    assert report == {
        "viewer": "ada",
        "created": "CreateDatasetPayload",
        "again": "NAME_TAKEN",
        "events": events,
        "unknown": VALIDATION,
        "badArgument": BAD_ARGUMENT,
        "syntax": ["GRAPHQL_PARSE_FAILED"],
        "beside": events,
        "refused": "refused",
    }


async def test_graphql_sse(ada: Client, job: str) -> None:
    report = await run_client_script(ada, "graphql_sse.mjs", job)
    assert report == {
        "viewer": "ada",
        "created": "CreateDatasetPayload",
        "again": "NAME_TAKEN",
        "events": await all_events(ada, job),
        "unknown": [400, *VALIDATION],
        "badArgument": BAD_ARGUMENT,
    }


async def test_relay(ada: Client, job: str) -> None:
    """Documents compiled by relay-compiler against the schema: a connection, a refetchable fragment and a pagination fragment."""
    relay = node.FOLDER / "relay"
    (relay / "generated").mkdir(exist_ok=True)
    status, output = await node.run_command(node.BIN / "relay-compiler", "relay.config.json", cwd=relay)
    assert status == 0, output
    report = await run_client_script(ada, "relay/run.mjs", job)
    assert report == {
        "viewer": "ada",
        "created": "CreateDatasetPayload",
        "again": "NAME_TAKEN",
        "events": await all_events(ada, job),
        "pages": [2, 4],
        "badArgument": BAD_ARGUMENT,
    }


async def test_gql_of_python(ada: Client, job: str) -> None:
    assert ada.token is not None
    headers = {"Authorization": f"Bearer {ada.token}"}
    async with GqlClient(transport=HTTPXAsyncTransport(f"{ada.url}/graphql", headers=headers), fetch_schema_from_transport=True) as session:
        assert await session.execute(gql("{ viewer { username } }")) == {"viewer": {"username": "ada"}}
        create = gql("mutation($name: String!) { createDataset(input: {name: $name}) { __typename } }")
        create.variable_values = {"name": "by gql"}
        assert await session.execute(create) == {"createDataset": {"__typename": "CreateDatasetPayload"}}
        assert await session.execute(create) == {"createDataset": {"__typename": "NameTaken"}}
    async with GqlClient(transport=HTTPXAsyncTransport(f"{ada.url}/graphql", headers=headers)) as session:
        with pytest.raises(TransportQueryError) as refused:
            await session.execute(gql("{ viewer { nothing } }"))
        assert [error["extensions"]["code"] for error in refused.value.errors or ()] == VALIDATION
    socket = f"{ada.url.replace('http', 'ws', 1)}/graphql"
    for transport in (
        WebsocketsTransport(socket, init_payload=headers, subprotocols=[WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL]),
        WebsocketsTransport(socket, headers=headers, subprotocols=[WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL]),
    ):
        async with GqlClient(transport=transport) as session:
            watch = gql("subscription($id: ID!) { jobEvents(id: $id) { sequence } }")
            watch.variable_values = {"id": job}
            sequences = [answer["jobEvents"]["sequence"] async for answer in session.subscribe(watch)]
        assert sequences == await all_events(ada, job)
