"""Requests refused before execution have the usual response format over every transport, are logged, and are counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from graph.settings import GraphSettings
from tests.client import Client
from tests.server.serving import post_request, raw_connection, serving
from tests.server.test_sockets import open_websocket, receive_message, send_subscribe

VIEWER = "{ viewer { username } }"
UPDATES = "subscription { jobUpdates { id } }"


def error_count(code: str) -> float:
    return REGISTRY.get_sample_value("trellis_operation_errors_total", {"code": code}) or 0.0


@pytest.fixture
async def trusted_documents_server(tmp_path: Path) -> AsyncGenerator[str]:
    """A server that runs trusted documents only."""
    path = tmp_path / "documents.json"
    path.write_text(json.dumps({"viewer": VIEWER, "updates": UPDATES}))
    async with serving(GraphSettings(documents="trusted", documents_file=path)) as url:
        yield url


async def test_trusted_documents_alone_are_run_on_a_websocket(trusted_documents_server: str, ada: Client) -> None:
    async with open_websocket(trusted_documents_server, {"Authorization": f"Bearer {ada.token}"}) as websocket:
        before = error_count("DOCUMENT_REQUIRED")
        with capture_logs() as logged:
            await send_subscribe(websocket, "1", VIEWER + " ")
            refused = await receive_message(websocket)
        assert (refused["type"], refused["payload"][0]["extensions"]["code"]) == ("error", "DOCUMENT_REQUIRED")
        (entry,) = [entry for entry in logged if entry["event"] == "request_rejected"]
        assert (entry["codes"], entry["transport"]) == (["DOCUMENT_REQUIRED"], "websocket")
        assert entry["request_id"] == refused["payload"][0]["extensions"]["requestId"]
        assert error_count("DOCUMENT_REQUIRED") - before == 1
        await websocket.send(json.dumps({"id": "2", "type": "subscribe", "payload": {"documentId": "viewer"}}))
        assert (await receive_message(websocket))["payload"] == {"data": {"viewer": {"username": "ada"}}}


async def test_trusted_documents_alone_are_run_as_a_stream(trusted_documents_server: str, ada: Client) -> None:
    headers = {"accept": "text/event-stream"}
    answer = await ada.http.post(f"{trusted_documents_server}/graphql", json={"query": UPDATES + " "}, headers=headers)
    assert [error["extensions"]["code"] for error in answer.json()["errors"]] == ["DOCUMENT_REQUIRED"]
    async with ada.http.stream("POST", f"{trusted_documents_server}/graphql", json={"documentId": "updates"}, headers=headers) as stream:
        assert (stream.status_code, stream.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")


async def test_a_batch_is_no_way_around_trusted_documents(trusted_documents_server: str, ada: Client) -> None:
    answer = await ada.http.post(f"{trusted_documents_server}/graphql", json=[{"query": VIEWER + " "}, {"documentId": "viewer"}])
    assert (answer.status_code, answer.json()["errors"][0]["extensions"]["code"]) == (400, "BAD_REQUEST")


async def test_a_trusted_hash_does_not_stand_for_another_document(tmp_path: Path, ada: Client) -> None:
    path = tmp_path / "documents.json"
    path.write_text(json.dumps({"a" * 64: VIEWER}))
    async with serving(GraphSettings(documents_file=path)) as url:
        extensions = {"persistedQuery": {"version": 1, "sha256Hash": "a" * 64}}
        other = await ada.http.post(f"{url}/graphql", json={"query": "{ __typename }", "extensions": extensions})
        assert (other.status_code, other.json()["errors"][0]["extensions"]["code"]) == (400, "BAD_REQUEST")
        same = await ada.http.post(f"{url}/graphql", json={"query": VIEWER, "extensions": extensions})
        assert same.json() == {"data": {"viewer": {"username": "ada"}}}


async def test_a_refusal_that_is_answered_with_200_is_noted(ada: Client) -> None:
    before = error_count("PERSISTED_QUERY_NOT_FOUND")
    with capture_logs() as logged:
        answer = await ada.http.post("/graphql", json={"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}}})
        async with asyncio.timeout(60):
            while not logged:
                await asyncio.sleep(0.01)
    assert answer.status_code == 200
    (entry,) = [entry for entry in logged if entry["event"] == "request_rejected"]
    assert (entry["codes"], entry["status"]) == (["PERSISTED_QUERY_NOT_FOUND"], 200)
    assert entry["request_id"] == answer.json()["errors"][0]["extensions"]["requestId"]
    assert error_count("PERSISTED_QUERY_NOT_FOUND") - before == 1


@pytest.mark.parametrize(("method", "path", "status"), [("POST", "/", 405), ("PUT", "/graphql/", 405), ("GET", "/other", 404)])
async def test_a_request_without_a_route_gets_an_error_in_json(anonymous: Client, method: str, path: str, status: int) -> None:
    answer = await anonymous.http.request(method, path)
    (error,) = answer.json()["errors"]
    assert answer.status_code == status
    assert error["extensions"] == {
        "code": {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}[status],
        "requestId": answer.headers["x-request-id"],
    }
    assert ("allow" in answer.headers) == (status == 405)
    assert answer.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize(
    "document",
    [
        "{ datasets(first: %s) { totalCount } }",
        "{ __typename @include(if: %s) }",
        "query($n: Int = %s) { datasets(first: $n) { totalCount } }",
        '{ runs(filter: {parameters: [{key: "a", eq: %s}]}) { totalCount } }',
    ],
)
async def test_a_long_integer_in_a_document_is_refused_in_our_words(ada: Client, document: str) -> None:
    (error,) = (await ada.post(document % ("9" * 5_000)))["errors"]
    assert error["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"
    assert error["message"] == "An integer has 5,000 characters; those of 64 bits have at most 20. Send it as a string."


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:80", 200), ("localhost", 200), ("[::1]:8000", 200), ("evil.example", 403), ("127.0.0.1.evil.example", 403), ("", 403)],
)
async def test_metrics_for_this_machine_are_protected_against_dns_rebinding(host: str, status: int) -> None:
    async with serving() as url, httpx.AsyncClient(verify=False) as client:
        assert (await client.get(f"{url}/metrics", headers={"host": host})).status_code == status


async def test_what_never_became_a_request_is_counted_and_has_the_headers_of_all_answers() -> None:
    before = error_count("BAD_REQUEST")
    async with serving(hsts_seconds=60) as url:
        for request, status in ((b"rubbish\r\n\r\n", 400), (post_request(b"", b"x-a: " + b"a" * 40_000), 431)):
            async with raw_connection(url) as connection, asyncio.timeout(60):
                await connection.send(request)
                actual_status, headers, body = await connection.read_response()
                answer: dict[str, Any] = json.loads(body)
                assert (actual_status, answer["errors"][0]["extensions"]["requestId"]) == (status, headers["x-request-id"])
                assert headers["strict-transport-security"] == "max-age=60; includeSubDomains"
                assert headers["x-content-type-options"] == "nosniff"
    assert error_count("BAD_REQUEST") - before == 2
