"""Every operation is one line of the log, which tells who did what and how it went, and nothing that is secret."""

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

Line = MutableMapping[str, Any]


def hashed(document: str) -> str:
    return hashlib.sha256(document.encode()).hexdigest()[:16]


def lines(logged: list[Line], *events: str) -> list[Line]:
    return [line for line in logged if line["event"] in (events or ("operation", "request_refused"))]


async def written(logged: list[Line], event: str, count: int = 1) -> list[Line]:
    """The lines of this event, once there are so many: a line may be written just after its answer was read."""
    async with asyncio.timeout(10):
        while len(lines(logged, event)) < count:
            await asyncio.sleep(0.01)
    return lines(logged, event)


async def test_an_operation_is_one_line(ada: Client) -> None:
    document = "query Me { viewer { id email } }"
    with capture_logs() as logged:
        answer = await ada.http.post("/graphql", json={"query": document})
        (line,) = await written(logged, "operation")
    viewer = answer.json()["data"]["viewer"]["id"]
    assert {name: line[name] for name in ("log_level", "operation", "type", "hash", "viewer", "transport", "status", "codes", "bytes")} == {
        "log_level": "info",
        "operation": "Me",
        "type": "query",
        "hash": hashed(document),
        "viewer": viewer,
        "transport": "http",
        "status": 200,
        "codes": [],
        "bytes": len(answer.content),
    }
    assert line["request_id"] == answer.headers["x-request-id"]
    assert line["ms"] >= line["db_ms"] > 0
    assert line["statements"] >= 1
    assert line["cost"] >= 1
    assert lines(logged) == [line]


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
        (line,) = await written(logged, "operation")
    assert (line["log_level"], line["codes"], line["hash"]) == ("info", [code], hashed(document))
    assert {each["log_level"] for each in logged} == {"info"}
    assert not any("exc_info" in each for each in logged)


async def test_a_stranger_has_no_name_in_the_log(nobody: Client) -> None:
    with capture_logs() as logged:
        await nobody.post("{ datasets { edges { node { id } } } }")
        (line,) = await written(logged, "operation")
    assert (line["viewer"], line["codes"], line["log_level"]) == (None, ["UNAUTHENTICATED"], "info")


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
        (line,) = await written(logged, "request_refused")
    assert answer.status_code == status
    assert (line["log_level"], line["status"], line["codes"]) == ("info", status, [code])
    assert line["request_id"] == answer.headers["x-request-id"]


async def test_an_operation_that_its_transport_does_not_carry_is_a_refused_one(ada: Client) -> None:
    with capture_logs() as logged:
        answer = await ada.http.get("/graphql", params={"query": "mutation Get { __typename }"})
        async with asyncio.timeout(10):
            while not lines(logged):
                await asyncio.sleep(0.01)
        (line,) = lines(logged)
    code = answer.json()["errors"][0]["extensions"]["code"]
    assert 400 <= answer.status_code < 500
    assert (line["log_level"], line["status"], line["codes"]) == ("info", answer.status_code, [code])


async def test_what_we_did_wrong_is_an_error_with_the_id_that_the_client_saw(ada: Client, database: Database) -> None:
    async def rename(before: str, after: str) -> None:
        async with database.engine.begin() as connection:
            await connection.exec_driver_sql(f"ALTER TABLE {before} RENAME TO {after}")

    await rename("experiments", "mislaid")
    try:
        with capture_logs() as logged:
            document = "query Broken($name: String!) { experiments(filter: { name: { eq: $name } }) { edges { node { id } } } }"
            answer = await ada.post(document, name="hush-2718281")
            (line,) = await written(logged, "operation")
    finally:
        await rename("mislaid", "experiments")
    (error,) = answer["errors"]
    assert error["message"] == "Internal error"
    assert (line["log_level"], line["codes"]) == ("error", ["INTERNAL_SERVER_ERROR"])
    (cause,) = lines(logged, "unexpected_error")
    assert cause["log_level"] == "error"
    assert 'relation "experiments" does not exist' in str(cause["exc_info"])
    assert error["extensions"]["requestId"] == line["request_id"] == cause["request_id"]
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
        await written(logged, "operation", 3)
        await written(logged, "request_refused")
    told = orjson.dumps(logged, default=str).decode()
    assert ada.token is not None
    assert ada.token not in told
    assert secret not in told
    assert secret.replace("-", "_") not in told
    assert "datasets" not in told


async def test_a_subscription_is_a_line_when_it_begins_and_one_when_it_ends(ada: Client) -> None:
    document = "subscription Watch { jobUpdates { id } }"
    with capture_logs() as logged:
        async with ada.socket() as (send, _):
            await send({"id": "1", "type": "subscribe", "payload": {"query": document}})
            (began,) = await written(logged, "subscription_began")
            assert lines(logged, "subscription_ended") == []
            await send({"id": "1", "type": "complete"})
            (ended,) = await written(logged, "subscription_ended")
    for line in (began, ended):
        assert (line["operation"], line["type"], line["hash"], line["transport"]) == (
            "Watch",
            "subscription",
            hashed(document),
            "websocket",
        )
    assert began["request_id"] == ended["request_id"]
    assert (ended["events"], ended["codes"], ended["log_level"]) == (0, [], "info")


@asynccontextmanager
async def endpoint(token: str, settings: ServerSettings) -> AsyncGenerator[httpx.AsyncClient]:
    """An application of its own."""
    app = create_app(settings)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://trellis") as http:
        http.headers["authorization"] = f"Bearer {token}"
        yield http


async def test_server_timing_says_where_the_time_went_only_where_a_setting_asks_for_it(
    ada: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ada.token is not None
    async with endpoint(ada.token, ServerSettings(server_timing=True)) as http:
        answer = await http.post("/graphql", json={"query": "{ viewer { id email } }"})
    parts = dict(part.strip().split(";", 1) for part in answer.headers["server-timing"].split(","))
    assert list(parts) == ["parse", "validate", "execute", "db"]
    assert all(float(part.split(";")[0].removeprefix("dur=")) >= 0 for part in parts.values())
    assert parts["db"].endswith('statements"')
    async with endpoint(ada.token, ServerSettings()) as http:
        answer = await http.post("/graphql", json={"query": "{ viewer { id email } }"})
    assert "server-timing" not in answer.headers
