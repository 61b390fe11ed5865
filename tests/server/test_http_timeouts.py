"""An operation that takes too long, or whose result is too large, is cancelled with a reason, and so is all work it started."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import text as sql_text

from db.core.work import Database
from tests.client import Client
from tests.exhaustive import exhaustive
from tests.server.serving import serving

JSON = "application/json"
RESPONSE = "application/graphql-response+json"
# Without the recount of what users own, for which a worker of another test may wait. Only the first kilobyte of a statement can be seen.
WAITING = sql_text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    " AND query LIKE '%' || :text || '%' AND query NOT LIKE 'WITH drift AS%'"
)


@asynccontextmanager
async def locked_table(database: Database, table: str) -> AsyncGenerator[None]:
    """Lock the table against reads and writes."""
    async with database.engine.begin() as connection:
        await connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        await connection.exec_driver_sql(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield


async def blocked_statements(database: Database, text: str = "") -> int:
    """Count the statements that wait for a lock and have `text` in them."""
    async with database.read() as connection:
        return (await connection.execute(WAITING, {"text": text})).scalar_one()


async def wait_until_unblocked(database: Database, text: str = "") -> None:
    async with asyncio.timeout(60):
        while await blocked_statements(database, text):
            await asyncio.sleep(0.02)


QUERIES = [
    "{ datasets { totalCount edges { node { name } } } }",
    "{ viewer { id } datasets { totalCount } }",
    'mutation { createDataset(input: {name: "late"}) { __typename } }',
]


@pytest.mark.parametrize("query", [*map(exhaustive, QUERIES[:-1]), QUERIES[-1]])
async def test_an_operation_that_takes_too_long_is_given_up_with_its_statements(ada: Client, database: Database, query: str) -> None:
    async with serving(operation_timeout=0.4) as hasty:
        async with locked_table(database, "datasets"):
            for accept in (JSON, RESPONSE):
                answer = await ada.http.post(f"{hasty}/graphql", json={"query": query}, headers={"accept": accept})
                assert answer.status_code == 200  # execution had begun, so the response is a result
                assert answer.json()["data"] is None
                (error,) = answer.json()["errors"]
                assert error["extensions"] == {"code": "TIMEOUT", "requestId": answer.headers["x-request-id"]}
                await wait_until_unblocked(database)
        after = await ada.http.post(f"{hasty}/graphql", json={"query": "{ datasets { totalCount } }"})
        assert after.json() == {"data": {"datasets": {"totalCount": 0}}}


async def test_the_answer_to_an_event_is_timed_and_the_wait_for_it_is_not(ada: Client, database: Database, worker: object) -> None:
    _, job = await ada.upload(await ada.create_dataset("timed"), "timed.csv", b"x\n1\n")
    await ada.wait(job)
    document = "subscription($id: ID!) { jobEvents(id: $id) { sequence job { owner { username } } } }"
    async with serving(operation_timeout=0.4) as hasty:
        client = Client(hasty, ada.token)
        async with client.socket() as (send, receive), locked_table(database, "users"):
            await send({"id": "1", "type": "subscribe", "payload": {"query": document, "variables": {"id": job}}})
            message: dict[str, Any] = await receive()
        await client.close()
    assert message["type"] in {"next", "error"}, message
    payload = message["payload"]
    errors = payload["errors"] if message["type"] == "next" else payload
    assert [error["extensions"]["code"] for error in errors] == ["TIMEOUT"]


async def test_a_source_that_does_not_open_is_given_up(ada: Client, database: Database, worker: object) -> None:
    _, job = await ada.upload(await ada.create_dataset("closed"), "closed.csv", b"x\n1\n")
    await ada.wait(job)
    body = {"query": "subscription($id: ID!) { jobEvents(id: $id) { sequence } }", "variables": {"id": job}}
    async with serving(operation_timeout=0.4) as hasty:
        client = Client(hasty, ada.token)
        async with client.socket() as (send, receive), locked_table(database, "jobs"):
            await send({"id": "1", "type": "subscribe", "payload": body})
            streamed = client.http.post("/graphql", json=body, headers={"accept": "text/event-stream"})
            message, answer = await asyncio.gather(receive(), streamed)
        await client.close()
    assert message["type"] == "error"
    assert [error["extensions"]["code"] for error in message["payload"]] == ["TIMEOUT"]
    assert '"code":"TIMEOUT"' in answer.text
    assert answer.text.endswith("event: complete\ndata:\n\n")


async def test_authentication_has_a_timeout(ada: Client, database: Database) -> None:
    async with serving(operation_timeout=0.4) as hasty:
        async with locked_table(database, "api_keys"):
            answer = await ada.http.post(f"{hasty}/graphql", json={"query": "{ __typename }"})
            # The shared server may be writing when a token was last used, and waits as long as the table is locked.
            await wait_until_unblocked(database, "token_sha256 = $")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["errors"][0]["extensions"] == {"code": "UNAVAILABLE", "requestId": answer.headers["x-request-id"]}


async def send_and_disconnect(client: Client, url: str, query: str, database: Database) -> None:
    """Send the operation, and disconnect while it waits for a lock."""
    asking = asyncio.create_task(client.http.post(f"{url}/graphql", json={"query": query}))
    async with asyncio.timeout(60):
        while not await blocked_statements(database):
            await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


async def test_a_query_ends_with_its_client_and_frees_what_it_held(
    ada: Client, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(operation_timeout=60) as patient:
        async with locked_table(database, "datasets"):
            for query in QUERIES[:2]:
                await send_and_disconnect(ada, patient, query, database)
                await wait_until_unblocked(database)
        assert (await ada.http.post(f"{patient}/graphql", json={"query": "{ datasets { totalCount } }"})).status_code == 200
    log_text = capsys.readouterr().out
    assert "'status': 499" in log_text
    assert {line.partition(" ")[0] for line in log_text.splitlines()} == {"info"}


async def test_a_mutation_outlives_its_client(ada: Client, database: Database) -> None:
    async with serving(operation_timeout=60) as patient:
        async with locked_table(database, "datasets"):
            await send_and_disconnect(ada, patient, 'mutation { createDataset(input: {name: "left"}) { __typename } }', database)
            await asyncio.sleep(0.2)
            assert await blocked_statements(database) == 1
        async with asyncio.timeout(60):
            while (await ada.one("{ datasets { totalCount } }"))["totalCount"] != 1:
                await asyncio.sleep(0.02)


async def test_an_answer_that_is_too_long_is_not_sent(ada: Client) -> None:
    for number in range(20):
        await ada.create_dataset(f"dataset {number}", description="d" * 200)
    async with serving(max_response_bytes=2_000) as terse:
        for accept in (JSON, RESPONSE):
            body = {"query": "{ datasets { edges { node { name description } } } }"}
            answer = await ada.http.post(f"{terse}/graphql", json=body, headers={"accept": accept})
            (error,) = answer.json()["errors"]
            assert (answer.status_code, answer.json()["data"]) == (200, None)
            assert error["extensions"]["code"] == "RESPONSE_TOO_LARGE"
            assert len(answer.content) < 2_000
        body["query"] = "{ datasets(first: 2) { edges { node { name } } } }"
        assert len((await ada.http.post(f"{terse}/graphql", json=body)).json()["data"]["datasets"]["edges"]) == 2
