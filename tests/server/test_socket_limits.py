"""Limits of a websocket: unauthenticated connections, buffered bytes, and mutations whose client disconnects."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from db.core.viewer import SYSTEM
from db.core.work import Database
from tests.client import Client
from tests.server.serving import RawConnection, raw_connection, serving
from tests.server.test_sockets import (
    HANDSHAKE,
    VIEWER_QUERY,
    bearer,
    closing_code,
    open_websocket,
    receive_message,
    send_message,
    send_subscribe,
    wait_closed,
)

UPDATES = "subscription($filter: JobFilter) { jobUpdates(filter: $filter) { id } }"


async def test_sockets_that_never_authenticate_keep_no_client_out(ada: Client) -> None:
    async with serving(max_connections=60) as url, AsyncExitStack() as stack:
        async with open_websocket(url, bearer(ada)) as ada_websocket:
            newcomers: list[RawConnection] = []
            for _ in range(60):
                newcomers.append(await stack.enter_async_context(raw_connection(url)))
                await newcomers[-1].send(HANDSHAKE)
                assert (await newcomers[-1].read_head())[0] == 101
            for _ in range(20):
                async with httpx.AsyncClient(base_url=url, verify=False) as stranger:
                    answer = await stranger.post("/graphql", json={"query": "{ __typename }"})
                    assert answer.json() == {"data": {"__typename": "Query"}}
            await send_subscribe(ada_websocket, "1", VIEWER_QUERY)
            assert (await receive_message(ada_websocket))["payload"] == {"data": {"viewer": {"username": "ada"}}}
            async with open_websocket(url, bearer(ada)) as second_websocket:
                await send_subscribe(second_websocket, "1", VIEWER_QUERY)
                assert (await receive_message(second_websocket))["payload"] == {"data": {"viewer": {"username": "ada"}}}
        async with asyncio.timeout(60):
            assert await closing_code(newcomers[0]) == 4408


@pytest.mark.parametrize("payload", ["[]", '""', "0", "false", '"x"'])
@pytest.mark.parametrize("type_", ["connection_init", "ping", "pong"])
async def test_a_payload_that_is_no_object_closes_the_socket(ada: Client, type_: str, payload: str) -> None:
    async with open_websocket(ada.url, None if type_ == "connection_init" else bearer(ada)) as websocket:
        await websocket.send(f'{{"type": "{type_}", "payload": {payload}}}')
        assert await wait_closed(websocket) == (4400, "The payload of a message must be an object.")


async def test_a_payload_may_be_null(ada: Client) -> None:
    async with open_websocket(ada.url) as websocket:
        await websocket.send('{"type": "connection_init", "payload": null}')
        assert await receive_message(websocket) == {"type": "connection_ack"}
        await websocket.send('{"type": "ping", "payload": null}')
        assert await receive_message(websocket) == {"type": "pong"}


async def test_an_id_has_at_most_255_characters(ada: Client) -> None:
    async with open_websocket(ada.url, bearer(ada)) as websocket:
        await send_subscribe(websocket, "x" * 255, VIEWER_QUERY)
        assert (await receive_message(websocket))["id"] == "x" * 255
        await receive_message(websocket)
        await send_subscribe(websocket, "x" * 256, VIEWER_QUERY)
        assert await wait_closed(websocket) == (4400, "An operation's id must be a string of at most 255 characters.")


async def test_the_operations_of_a_socket_came_in_so_many_bytes_and_no_more(ada: Client) -> None:
    async with open_websocket(ada.url, bearer(ada)) as websocket:
        filling = {"nothing": "x" * 250_000}
        for key in ("1", "2", "3", "4", "5"):
            await send_subscribe(websocket, key, UPDATES, variables=filling)
        refused = await receive_message(websocket)
        assert (refused["id"], refused["type"]) == ("5", "error")
        (error,) = refused["payload"]
        assert error["message"].startswith("The requests of this socket's running operations would exceed 1,048,576 bytes")
        assert error["extensions"].keys() == {"code", "requestId"}
        assert error["extensions"]["code"] == "RATE_LIMITED"
        await send_message(websocket, id="1", type="complete")
        await send_subscribe(websocket, "6", UPDATES, variables=filling)
        await send_subscribe(websocket, "7", VIEWER_QUERY)
        assert (await receive_message(websocket))["payload"] == {"data": {"viewer": {"username": "ada"}}}


async def test_each_error_names_the_request_that_it_is_of(ada: Client) -> None:
    async with serving(operations_per_socket=1, max_response_bytes=1024) as url, open_websocket(url, bearer(ada)) as websocket:
        ids: list[str] = []
        for key in ("1", "2"):
            await send_subscribe(websocket, key, "{ __schema { types { name description } } }")
            (error,) = (await receive_message(websocket))["payload"]["errors"]
            assert error["extensions"]["code"] == "RESPONSE_TOO_LARGE"
            ids.append(error["extensions"]["requestId"])
            assert (await receive_message(websocket))["type"] == "complete"
        await send_subscribe(websocket, "stream", UPDATES)
        for key in ("3", "4"):
            await send_subscribe(websocket, key, VIEWER_QUERY)
            (error,) = (await receive_message(websocket))["payload"]
            ids.append(error["extensions"]["requestId"])
    assert len(set(ids)) == 4


CREATE = "mutation($input: CreateDatasetInput!) { createDataset(input: $input) { __typename } }"


@pytest.mark.parametrize("leave", ["complete", "close", "vanish"])
async def test_a_mutation_whose_client_leaves_is_finished(ada: Client, database: Database, leave: str) -> None:
    """As over HTTP: it might be at its commit, and the client could not know."""
    async with database.work(SYSTEM) as work:
        await work.run(text("LOCK TABLE datasets IN SHARE MODE"))
        async with open_websocket(ada.url, bearer(ada)) as websocket:
            await send_subscribe(websocket, "1", CREATE, variables={"input": {"name": "finished"}})
            async with asyncio.timeout(60):
                while not await blocked_statements(database):
                    await asyncio.sleep(0.02)
            if leave == "complete":
                await send_message(websocket, id="1", type="complete")
                await send_subscribe(websocket, "2", VIEWER_QUERY)
                assert (await receive_message(websocket))["id"] == "2"
            elif leave == "close":
                await websocket.close()
            else:
                websocket.transport.abort()
            await asyncio.sleep(0.2)
            assert await blocked_statements(database)
    async with asyncio.timeout(60):
        while not await database.rows(text("SELECT 1 FROM datasets WHERE name = 'finished'")):
            await asyncio.sleep(0.02)


async def blocked_statements(database: Database) -> Any:
    """Statements that wait for a lock on datasets."""
    return await database.rows(text("SELECT 1 FROM pg_locks WHERE relation = 'datasets'::regclass AND NOT granted"))
