"""What a websocket may cost: places that nobody has asked for by name, bytes that are kept, and mutations whose client left."""

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
from tests.server.serving import Wire, serving, wired
from tests.server.test_sockets import HANDSHAKE, WHO, ask, bearer, closed, closing_code, heard, say, socket

UPDATES = "subscription($filter: JobFilter) { jobUpdates(filter: $filter) { id } }"


async def test_sockets_that_never_say_whose_they_are_keep_nobody_out(ada: Client) -> None:
    async with serving(max_connections=60) as url, AsyncExitStack() as stack:
        async with socket(url, bearer(ada)) as hers:
            newcomers: list[Wire] = []
            for _ in range(60):
                newcomers.append(await stack.enter_async_context(wired(url)))
                await newcomers[-1].send(HANDSHAKE)
                assert (await newcomers[-1].head())[0] == 101
            for _ in range(20):
                async with httpx.AsyncClient(base_url=url) as stranger:
                    answer = await stranger.post("/graphql", json={"query": "{ __typename }"})
                    assert answer.json() == {"data": {"__typename": "Query"}}
            await ask(hers, "1", WHO)
            assert (await heard(hers))["payload"] == {"data": {"viewer": {"username": "ada"}}}
            async with socket(url, bearer(ada)) as another:
                await ask(another, "1", WHO)
                assert (await heard(another))["payload"] == {"data": {"viewer": {"username": "ada"}}}
        async with asyncio.timeout(5):
            assert await closing_code(newcomers[0]) == 4408


@pytest.mark.parametrize("payload", ["[]", '""', "0", "false", '"x"'])
@pytest.mark.parametrize("type_", ["connection_init", "ping", "pong"])
async def test_a_payload_that_is_no_object_closes_the_socket(ada: Client, type_: str, payload: str) -> None:
    async with socket(ada.url, None if type_ == "connection_init" else bearer(ada)) as opened:
        await opened.send(f'{{"type": "{type_}", "payload": {payload}}}')
        assert await closed(opened) == (4400, "The payload of a message must be an object.")


async def test_a_payload_may_be_null(ada: Client) -> None:
    async with socket(ada.url) as opened:
        await opened.send('{"type": "connection_init", "payload": null}')
        assert await heard(opened) == {"type": "connection_ack"}
        await opened.send('{"type": "ping", "payload": null}')
        assert await heard(opened) == {"type": "pong"}


async def test_an_id_has_at_most_255_characters(ada: Client) -> None:
    async with socket(ada.url, bearer(ada)) as opened:
        await ask(opened, "x" * 255, WHO)
        assert (await heard(opened))["id"] == "x" * 255
        await heard(opened)
        await ask(opened, "x" * 256, WHO)
        assert await closed(opened) == (4400, "An operation's id must be a string of at most 255 characters.")


async def test_the_operations_of_a_socket_came_in_so_many_bytes_and_no_more(ada: Client) -> None:
    async with socket(ada.url, bearer(ada)) as opened:
        filling = {"nothing": "x" * 250_000}
        for key in ("1", "2", "3", "4", "5"):
            await ask(opened, key, UPDATES, variables=filling)
        refused = await heard(opened)
        assert (refused["id"], refused["type"]) == ("5", "error")
        (error,) = refused["payload"]
        assert error["message"].startswith("The operations that this socket runs came in 1,048,576 bytes")
        assert error["extensions"].keys() == {"code", "requestId"}
        assert error["extensions"]["code"] == "RATE_LIMITED"
        await say(opened, id="1", type="complete")
        await ask(opened, "6", UPDATES, variables=filling)
        await ask(opened, "7", WHO)
        assert (await heard(opened))["payload"] == {"data": {"viewer": {"username": "ada"}}}


async def test_each_error_names_the_request_that_it_is_of(ada: Client) -> None:
    async with serving(operations_per_socket=1, max_response_bytes=1024) as url, socket(url, bearer(ada)) as opened:
        ids: list[str] = []
        for key in ("1", "2"):
            await ask(opened, key, "{ __schema { types { name description } } }")
            (error,) = (await heard(opened))["payload"]["errors"]
            assert error["extensions"]["code"] == "RESPONSE_TOO_LARGE"
            ids.append(error["extensions"]["requestId"])
            assert (await heard(opened))["type"] == "complete"
        await ask(opened, "stream", UPDATES)
        for key in ("3", "4"):
            await ask(opened, key, WHO)
            (error,) = (await heard(opened))["payload"]
            ids.append(error["extensions"]["requestId"])
    assert len(set(ids)) == 4


CREATE = "mutation($input: CreateDatasetInput!) { createDataset(input: $input) { __typename } }"


@pytest.mark.parametrize("leave", ["complete", "close", "vanish"])
async def test_a_mutation_whose_client_leaves_is_finished(ada: Client, database: Database, leave: str) -> None:
    """As over HTTP: it might be at its commit, and nobody could tell."""
    async with database.work(SYSTEM) as work:
        await work.run(text("LOCK TABLE datasets IN SHARE MODE"))
        async with socket(ada.url, bearer(ada)) as opened:
            await ask(opened, "1", CREATE, variables={"input": {"name": "finished"}})
            async with asyncio.timeout(10):
                while not await waiting(database):
                    await asyncio.sleep(0.02)
            if leave == "complete":
                await say(opened, id="1", type="complete")
                await ask(opened, "2", WHO)
                assert (await heard(opened))["id"] == "2"
            elif leave == "close":
                await opened.close()
            else:
                opened.transport.abort()
            await asyncio.sleep(0.2)
            assert await waiting(database)
    async with asyncio.timeout(10):
        while not await database.rows(text("SELECT 1 FROM datasets WHERE name = 'finished'")):
            await asyncio.sleep(0.02)


async def waiting(database: Database) -> Any:
    """Statements that wait for a lock on datasets."""
    return await database.rows(text("SELECT 1 FROM pg_locks WHERE relation = 'datasets'::regclass AND NOT granted"))
