"""Every operation is logged in one line: who ran it, what it did and how it ended, without secrets."""

from __future__ import annotations

import asyncio
import hashlib
import traceback
from collections.abc import AsyncGenerator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson
import pytest
from structlog.testing import capture_logs

from db.core.work import Database
from server.app import create_app
from server.settings import ServerSettings
from tests.client import Client, GraphQLErrors

LogEntry = MutableMapping[str, Any]


def document_hash(document: str) -> str:
    return hashlib.sha256(document.encode()).hexdigest()[:16]


def entries(logged: list[LogEntry], *events: str) -> list[LogEntry]:
    return [entry for entry in logged if entry["event"] in (events or ("operation", "request_rejected"))]


async def wait_for_entries(logged: list[LogEntry], event: str, count: int = 1) -> list[LogEntry]:
    """Wait for this many log entries of the event: one may be written just after its response was read."""
    async with asyncio.timeout(60):
        while len(entries(logged, event)) < count:
            await asyncio.sleep(0.01)
    return entries(logged, event)


async def test_an_operation_is_one_line(ada: Client) -> None:
    document = "query Me { viewer { id email } }"
    with capture_logs() as logged:
        answer = await ada.http.post("/graphql", json={"query": document})
        (entry,) = await wait_for_entries(logged, "operation")
    viewer = answer.json()["data"]["viewer"]["id"]
    assert {
        name: entry[name] for name in ("log_level", "operation", "type", "hash", "viewer", "transport", "status", "codes", "bytes")
    } == {
        "log_level": "info",
        "operation": "Me",
        "type": "query",
        "hash": document_hash(document),
        "viewer": viewer,
        "transport": "http",
        "status": 200,
        "codes": [],
        "bytes": len(answer.content),
    }
    assert entry["request_id"] == answer.headers["x-request-id"]
    assert entry["ms"] >= entry["db_ms"] > 0
    assert entry["statements"] >= 1
    assert entry["cost"] >= 1
    assert entries(logged) == [entry]


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("{ viewer { ", "GRAPHQL_PARSE_FAILED"),
        ("{ viewer { nothing } }", "GRAPHQL_VALIDATION_FAILED"),
        ('{ jobs(first: 5, after: "x") { edges { node { id } } } }', "BAD_USER_INPUT"),
    ],
)
async def test_what_a_client_did_wrong_is_no_error_of_ours(ada: Client, document: str, code: str) -> None:
    with capture_logs() as logged:
        await ada.post(document)
        (entry,) = await wait_for_entries(logged, "operation")
    assert (entry["log_level"], entry["codes"], entry["hash"]) == ("info", [code], document_hash(document))
    assert {each["log_level"] for each in logged} == {"info"}
    assert not any("exc_info" in each for each in logged)


async def test_a_stranger_has_no_name_in_the_log(anonymous: Client) -> None:
    with capture_logs() as logged:
        await anonymous.post("{ datasets { edges { node { id } } } }")
        (entry,) = await wait_for_entries(logged, "operation")
    assert (entry["viewer"], entry["codes"], entry["log_level"]) == (None, ["UNAUTHENTICATED"], "info")


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"null", {}, 400, "BAD_REQUEST"),
        (b'{"query": "{ viewer { id } }"}', {"authorization": "Bearer of-somebody-else"}, 401, "UNAUTHENTICATED"),
    ],
)
async def test_a_request_that_is_refused_before_it_is_an_operation_is_a_line_too(
    ada: Client, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    with capture_logs() as logged:
        answer = await ada.http.post("/graphql", content=body, headers={"content-type": "application/json", **headers})
        (entry,) = await wait_for_entries(logged, "request_rejected")
    assert answer.status_code == status
    assert (entry["log_level"], entry["status"], entry["codes"]) == ("info", status, [code])
    assert entry["request_id"] == answer.headers["x-request-id"]


async def test_an_operation_that_its_transport_does_not_carry_is_a_refused_one(ada: Client) -> None:
    with capture_logs() as logged:
        answer = await ada.http.get("/graphql", params={"query": "mutation Get { __typename }"})
        async with asyncio.timeout(60):
            while not entries(logged):
                await asyncio.sleep(0.01)
        (entry,) = entries(logged)
    code = answer.json()["errors"][0]["extensions"]["code"]
    assert 400 <= answer.status_code < 500
    assert (entry["log_level"], entry["status"], entry["codes"]) == ("info", answer.status_code, [code])


async def test_what_we_did_wrong_is_an_error_with_the_id_that_the_client_saw(ada: Client, database: Database) -> None:
    async def execute(*statements: str) -> None:
        async with database.engine.begin() as connection:
            for statement in statements:
                await connection.exec_driver_sql(statement)

    # A view that divides by zero when it is read.
    broken = "SELECT mislaid.* FROM (SELECT 1 / (random() * 0)::int AS failing OFFSET 0) broken JOIN mislaid ON failing = 1"
    await execute("ALTER TABLE experiments RENAME TO mislaid", f"CREATE VIEW experiments AS {broken}")
    try:
        with capture_logs() as logged:
            document = "query Broken($name: String!) { experiments(filter: { name: { eq: $name } }) { edges { node { id } } } }"
            answer = await ada.post(document, name="hush-2718281")
            (entry,) = await wait_for_entries(logged, "operation")
    finally:
        await execute("DROP VIEW experiments", "ALTER TABLE mislaid RENAME TO experiments")
    (error,) = answer["errors"]
    assert error["message"] == "Internal error"
    assert (entry["log_level"], entry["codes"]) == ("error", ["INTERNAL_SERVER_ERROR"])
    (cause,) = entries(logged, "unexpected_error")
    assert cause["log_level"] == "error"
    assert "division by zero" in str(cause["exc_info"])
    assert error["extensions"]["requestId"] == entry["request_id"] == cause["request_id"]
    assert "hush-2718281" not in "".join(traceback.format_exception(cause["exc_info"]))


async def test_no_document_no_variable_and_no_token_gets_into_the_log(ada: Client) -> None:
    secret = "hush-3141592"
    with capture_logs() as logged:
        await ada.create_dataset(secret)
        await ada.post(f'{{ datasets(filter: {{ name: {{ eq: "{secret}" }} }}) {{ edges {{ node {{ {secret.replace("-", "_")} }} }} }} }}')
        await ada.post("query($id: ID!) { job(id: $id) { id } }", id=secret)
        with pytest.raises(GraphQLErrors):
            async for _ in ada.subscribe("subscription($id: ID!) { jobEvents(id: $id) { type } }", id=secret):
                pass
        await ada.http.post("/graphql", content=b"{", headers={"authorization": f"Bearer {secret}"})
        await wait_for_entries(logged, "operation", 3)
        await wait_for_entries(logged, "request_rejected")
    log_text = orjson.dumps(logged, default=str).decode()
    assert ada.token is not None
    assert ada.token not in log_text
    assert secret not in log_text
    assert secret.replace("-", "_") not in log_text
    assert "datasets" not in log_text


async def test_a_subscription_is_a_line_when_it_begins_and_one_when_it_ends(ada: Client) -> None:
    document = "subscription Watch { jobUpdates { id } }"
    with capture_logs() as logged:
        async with ada.socket() as (send, _):
            await send({"id": "1", "type": "subscribe", "payload": {"query": document}})
            (began,) = await wait_for_entries(logged, "subscription_started")
            assert entries(logged, "subscription_ended") == []
            await send({"id": "1", "type": "complete"})
            (ended,) = await wait_for_entries(logged, "subscription_ended")
    for entry in (began, ended):
        assert (entry["operation"], entry["type"], entry["hash"], entry["transport"]) == (
            "Watch",
            "subscription",
            document_hash(document),
            "websocket",
        )
    assert began["request_id"] == ended["request_id"]
    assert (ended["events"], ended["codes"], ended["log_level"]) == (0, [], "info")


@asynccontextmanager
async def app_client(token: str, settings: ServerSettings) -> AsyncGenerator[httpx.AsyncClient]:
    """A separate application."""
    app = create_app(settings)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://trellis") as http:
        http.headers["authorization"] = f"Bearer {token}"
        yield http


async def test_server_timing_says_where_the_time_went_only_where_a_setting_asks_for_it(
    ada: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ada.token is not None
    async with app_client(ada.token, ServerSettings(server_timing=True)) as http:
        answer = await http.post("/graphql", json={"query": "{ viewer { id email } }"})
    parts = dict(part.strip().split(";", 1) for part in answer.headers["server-timing"].split(","))
    assert list(parts) == ["parse", "validate", "execute", "db"]
    assert all(float(part.split(";")[0].removeprefix("dur=")) >= 0 for part in parts.values())
    assert parts["db"].endswith('statements"')
    async with app_client(ada.token, ServerSettings()) as http:
        answer = await http.post("/graphql", json={"query": "{ viewer { id email } }"})
    assert "server-timing" not in answer.headers
