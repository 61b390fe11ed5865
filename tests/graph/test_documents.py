"""A document can be referenced instead of sent: by its hash once it was sent, or by the id of a trusted document."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import orjson
import pytest
from websockets.asyncio.client import connect

from db.settings import StateSettings
from db.stores import registered_documents
from db.stores.redis import CircuitBreaker
from db.stores.redis import connect as connect_redis
from graph.execution.document_cache import MAX_ENTRIES, MAX_TOTAL_CHARACTERS, DocumentCache
from graph.execution.limits.gate import Gate
from graph.settings import GraphSettings
from tests.client import Client
from tests.server.serving import serving

DATASETS = "query Datasets($first: Int) { datasets(first: $first) { totalCount } }"
OWNER = UUID(int=1)
VIEWER = "query Viewer { viewer { username } }"


def sha256(document: str) -> str:
    return hashlib.sha256(document.encode()).hexdigest()


def by_hash(document: str, **members: Any) -> dict[str, Any]:
    return {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": sha256(document)}}, **members}


async def post(viewer: Client, body: dict[str, Any], url: str | None = None) -> dict[str, Any]:
    answer = await viewer.http.post(f"{url or viewer.url}/graphql", json=body)
    return answer.json()


def code(answer: dict[str, Any]) -> str:
    (error,) = answer["errors"]
    return error["extensions"]["code"]


# Automatic persisted queries, by hash


async def test_a_document_is_sent_once_and_named_by_its_hash_from_then_on(ada: Client, bob: Client) -> None:
    document = DATASETS + " # sent once"
    unknown = await post(ada, by_hash(document, variables={"first": 1}))
    assert (code(unknown), unknown["errors"][0]["message"]) == ("PERSISTED_QUERY_NOT_FOUND", "PersistedQueryNotFound")
    expected = {"datasets": {"totalCount": 0}}
    assert (await post(ada, by_hash(document, query=document, variables={"first": 1})))["data"] == expected
    assert (await post(ada, by_hash(document, variables={"first": 1})))["data"] == expected
    assert (await post(bob, by_hash(document)))["data"] == expected
    by_get = {"extensions": json.dumps(by_hash(document)["extensions"]), "variables": '{"first": 1}'}
    assert (await ada.http.get("/graphql", params=by_get)).json()["data"] == expected


async def test_other_processes_know_it_too(ada: Client) -> None:
    document = VIEWER + " # sent to one process"
    await post(ada, by_hash(document, query=document))
    async with serving() as other:
        assert (await post(ada, by_hash(document), other))["data"] == {"viewer": {"username": "ada"}}


async def test_a_hash_must_be_that_of_the_document(ada: Client) -> None:
    honest, other = VIEWER + " # honest", "{ viewer { email } }"
    answer = await post(ada, by_hash(honest, query=other))
    assert code(answer) == "BAD_REQUEST"
    assert code(await post(ada, by_hash(honest))) == "PERSISTED_QUERY_NOT_FOUND"


@pytest.mark.parametrize(
    ("persisted", "expected"),
    [
        ({"version": 2, "sha256Hash": sha256(VIEWER)}, "PERSISTED_QUERY_NOT_SUPPORTED"),
        ({"version": 1, "sha256Hash": "abc"}, "BAD_REQUEST"),
        ({"version": 1, "sha256Hash": 5}, "BAD_REQUEST"),
        ({"version": 1}, "BAD_REQUEST"),
        ("abc", "BAD_REQUEST"),
        ([], "BAD_REQUEST"),
    ],
)
async def test_a_hash_of_another_shape_is_refused(ada: Client, persisted: Any, expected: str) -> None:
    assert code(await post(ada, {"query": VIEWER, "extensions": {"persistedQuery": persisted}})) == expected


async def test_a_hash_in_capitals_is_the_same(ada: Client) -> None:
    document = VIEWER + " # in capitals"
    await post(ada, by_hash(document, query=document))
    uppercase = {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": sha256(document).upper()}}}
    assert (await post(ada, uppercase))["data"] == {"viewer": {"username": "ada"}}


async def test_nobody_registers_documents_without_signing_in(anonymous: Client, ada: Client) -> None:
    document = "{ __typename } # by nobody"
    assert (await post(anonymous, by_hash(document, query=document)))["data"] == {"__typename": "Query"}
    assert code(await post(ada, by_hash(document))) == "PERSISTED_QUERY_NOT_FOUND"


async def test_registered_documents_leave_in_the_order_they_came(settings: StateSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registered_documents, "MAX_DOCUMENTS", 5)
    monkeypatch.setattr(registered_documents, "PREFIX", "test:document:")
    monkeypatch.setattr(registered_documents, "INDEX", "test:documents")
    monkeypatch.setattr(registered_documents, "METADATA", "test:facts")
    async with connect_redis(settings.redis_url) as redis:
        registry = registered_documents.RegisteredDocuments(redis, CircuitBreaker())
        for number in range(8):
            monkeypatch.setattr(registered_documents.time, "time", lambda number=number: 1_000 + number)
            await registry.put(f"{number:064}", f"document {number}", 10, OWNER)
        assert [await registry.get(f"{number:064}") for number in range(8)] == [None] * 3 + [f"document {number}" for number in range(3, 8)]
        assert 86_000 < await redis.ttl("test:document:" + f"{7:064}") <= 86_400
        await redis.delete("test:documents", "test:facts", *(f"test:document:{number:064}" for number in range(8)))


async def test_a_gate_without_redis_still_answers(settings: StateSettings) -> None:
    async with connect_redis("redis://127.0.0.1:1/0") as redis:
        documents = Gate.of(GraphSettings(), redis).documents
        extensions = by_hash(VIEWER)["extensions"]
        with pytest.raises(Exception, match="PersistedQueryNotFound"):
            await documents.resolve(None, None, extensions)
        assert await documents.resolve(VIEWER, None, extensions) == VIEWER
        await documents.register(sha256(VIEWER), VIEWER, OWNER)
        assert await documents.resolve(None, None, extensions) == VIEWER


@pytest.mark.parametrize(
    "document",
    [
        "{ nothing }",
        "{ unfinished",
        "{ datasets(first: 100) { edges { node { jobs(first: 100) { edges { node { id } } } } } } }",
        "{ __typename } #" + "é" * 10_000,
    ],
)
async def test_only_what_may_run_and_is_short_is_registered(ada: Client, document: str) -> None:
    await post(ada, by_hash(document, query=document))
    assert code(await post(ada, by_hash(document))) == "PERSISTED_QUERY_NOT_FOUND"


async def test_what_is_registered_is_bounded_by_its_bytes_and_for_each_user(
    settings: StateSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "PREFIX": "test:document:",
        "INDEX": "test:documents",
        "METADATA": "test:facts",
        "MAX_BYTES": 100,
        "MAX_DOCUMENTS_PER_OWNER": 3,
    }.items():
        monkeypatch.setattr(registered_documents, name, value)
    async with connect_redis(settings.redis_url) as redis:
        registry = registered_documents.RegisteredDocuments(redis, CircuitBreaker())

        async def put(number: int, size: int, owner: UUID) -> None:
            monkeypatch.setattr(registered_documents.time, "time", lambda: 1_000 + number)
            await registry.put(f"{number:064}", "text", size, owner)

        async def registered_numbers() -> list[int]:
            return [number for number in range(20) if await registry.get(f"{number:064}")]

        for number in range(5):
            await put(number, 10, OWNER)
        assert await registered_numbers() == [2, 3, 4]
        await put(5, 10, UUID(int=2))
        assert await registered_numbers() == [2, 3, 4, 5]
        await put(6, 80, UUID(int=3))
        assert await registered_numbers() == [4, 5, 6]
        await put(7, 101, UUID(int=3))
        assert await registered_numbers() == [4, 5, 6]
        await redis.delete("test:documents", "test:facts", *(f"test:document:{number:064}" for number in range(8)))


@pytest.mark.parametrize("version", [True, 1.0, "1", 2, None])
async def test_only_version_1_of_the_protocol_is_spoken(ada: Client, version: object) -> None:
    extensions = {"persistedQuery": {"version": version, "sha256Hash": sha256(VIEWER)}}
    assert code(await post(ada, {"query": VIEWER, "extensions": extensions})) == "PERSISTED_QUERY_NOT_SUPPORTED"


# Trusted documents


@pytest.fixture
def persisted_queries_file(tmp_path: Path) -> Path:
    """A file in the format of Relay's compiler and GraphQL Code Generator."""
    path = tmp_path / "persisted.json"
    path.write_text(json.dumps({"viewer-1": VIEWER, sha256(DATASETS): DATASETS}))
    return path


@pytest.fixture
def apollo_manifest_file(tmp_path: Path) -> Path:
    """A file in the format of Apollo's generator."""
    path = tmp_path / "manifest.json"
    operations = [
        {"id": "viewer-1", "name": "Viewer", "type": "query", "body": VIEWER},
        {"id": sha256(DATASETS), "name": "Datasets", "type": "query", "body": DATASETS},
    ]
    path.write_text(json.dumps({"format": "apollo-persisted-query-manifest", "version": 1, "operations": operations}))
    return path


@pytest.mark.parametrize("form", ["persisted_queries_file", "apollo_manifest_file"])
async def test_only_trusted_documents_run_where_the_setting_says_so(ada: Client, form: str, request: pytest.FixtureRequest) -> None:
    settings = GraphSettings(documents="trusted", documents_file=request.getfixturevalue(form))
    viewer, counted = {"viewer": {"username": "ada"}}, {"datasets": {"totalCount": 0}}
    async with serving(settings) as url:
        assert (await post(ada, {"documentId": "viewer-1"}, url))["data"] == viewer
        assert (await post(ada, {"documentId": f"sha256:{sha256(DATASETS)}", "variables": {"first": 3}}, url))["data"] == counted
        assert (await ada.http.get(f"{url}/graphql", params={"documentId": "viewer-1"})).json()["data"] == viewer
        # Apollo's client references trusted documents by hash; sending the text of a trusted document works as well.
        assert (await post(ada, by_hash(DATASETS), url))["data"] == counted
        assert (await post(ada, {"query": VIEWER}, url))["data"] == viewer
        for body in (
            {"query": "{ viewer { email } }"},
            {"query": VIEWER + " "},
            {"query": "{ __schema { types { name } } }"},
            by_hash("{ viewer { email } }"),
            by_hash("{ viewer { email } }", query="{ viewer { email } }"),
        ):
            assert code(await post(ada, body, url)) == "DOCUMENT_REQUIRED"
        assert code(await post(ada, {"documentId": "viewer-2"}, url)) == "DOCUMENT_NOT_FOUND"


async def test_trusted_documents_can_be_named_where_others_run_too(ada: Client, persisted_queries_file: Path) -> None:
    async with serving(GraphSettings(documents_file=persisted_queries_file)) as url:
        assert (await post(ada, {"documentId": "viewer-1"}, url))["data"] == {"viewer": {"username": "ada"}}
        assert (await post(ada, {"query": "{ viewer { email } }"}, url))["data"] == {"viewer": {"email": "ada@example.org"}}
        assert code(await post(ada, {"documentId": "viewer-1", "query": "{ viewer { email } }"}, url)) == "BAD_REQUEST"
    assert code(await post(ada, {"documentId": "viewer-1"})) == "DOCUMENT_NOT_FOUND"


async def test_on_a_websocket_documents_are_named_the_same_way(ada: Client, persisted_queries_file: Path) -> None:
    async with (
        serving(GraphSettings(documents="trusted", documents_file=persisted_queries_file)) as url,
        connect(url.replace("http", "ws", 1) + "/graphql", subprotocols=["graphql-transport-ws"]) as socket,  # pyright: ignore[reportArgumentType] - a NewType of str
    ):

        async def send(**message: Any) -> dict[str, Any]:
            await socket.send(orjson.dumps(message).decode())
            return orjson.loads(await socket.recv())

        await send(type="connection_init", payload={"Authorization": f"Bearer {ada.token}"})
        named = await send(id="1", type="subscribe", payload={"documentId": "viewer-1"})
        assert (named["type"], named["payload"]["data"]) == ("next", {"viewer": {"username": "ada"}})
        assert orjson.loads(await socket.recv())["type"] == "complete"
        hashed = await send(id="2", type="subscribe", payload=by_hash(DATASETS))
        assert (hashed["type"], hashed["payload"]["data"]) == ("next", {"datasets": {"totalCount": 0}})
        assert orjson.loads(await socket.recv())["type"] == "complete"
        for number, (payload, expected) in enumerate(
            (({"query": "{ viewer { email } }"}, "DOCUMENT_REQUIRED"), ({"documentId": "viewer-2"}, "DOCUMENT_NOT_FOUND"))
        ):
            refused = await send(id=f"3{number}", type="subscribe", payload=payload)
            assert refused["type"] == "error"
            assert refused["payload"][0]["extensions"]["code"] == expected


@pytest.mark.parametrize(
    "content", ["[]", "{}", "nonsense", '{"id": 5}', '{"operations": []}', '{"operations": [{"id": "a"}]}', '{"id": ""}']
)
def test_a_file_of_trusted_documents_that_cannot_be_used_stops_the_start(tmp_path: Path, content: str) -> None:
    path = tmp_path / "documents.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="documents"):
        Gate.of(GraphSettings(documents_file=path))


def test_trusted_documents_need_a_file_that_exists(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="TRELLIS_DOCUMENTS=trusted needs the file"):
        GraphSettings(documents="trusted")
    with pytest.raises(ValueError, match="There is no file"):
        GraphSettings(documents_file=tmp_path / "missing.json")


# Introspection and memory


async def test_without_introspection_nothing_of_the_schema_is_revealed(ada: Client) -> None:
    async with serving(introspection=False) as url:
        assert (await post(ada, {"query": "{ __typename viewer { __typename } }"}, url))["data"] == {
            "__typename": "Query",
            "viewer": {"__typename": "User"},
        }
        for query in (
            "{ __schema { queryType { name } } }",
            '{ __type(name: "User") { name } }',
            "{ ...F } fragment F on Query { __schema { types { name } } }",
        ):
            refused = await post(ada, {"query": query}, url)
            assert "data" not in refused
            assert {error["extensions"]["code"] for error in refused["errors"]} == {"GRAPHQL_VALIDATION_FAILED"}
        (error,) = (await post(ada, {"query": "{ viewer { usernam } }"}, url))["errors"]
        assert error["message"] == "Cannot query field 'usernam' on type 'User'."
        variable = {"query": "query($by: DatasetOrder) { datasets(orderBy: $by) { totalCount } }", "variables": {"by": {"feld": 1}}}
        errors = (await post(ada, variable, url))["errors"]
        assert {error["extensions"]["code"] for error in errors} == {"BAD_USER_INPUT"}
        assert not any("Did you mean" in error["message"] for error in errors)
    assert any("Did you mean 'field'" in error["message"] for error in (await post(ada, variable))["errors"])
    (error,) = (await post(ada, {"query": "{ viewer { usernam } }"}))["errors"]
    assert "Did you mean 'username'" in error["message"]


def test_what_is_kept_of_documents_is_bounded_by_their_number_and_their_length() -> None:
    documents: DocumentCache[int] = DocumentCache()
    for number in range(2 * MAX_ENTRIES):
        documents.put(f"{{ a{number} }}", number)
    assert documents.get(f"{{ a{2 * MAX_ENTRIES - 1} }}") == 2 * MAX_ENTRIES - 1
    assert documents.get("{ a0 }") is None
    assert len(documents._entries) == MAX_ENTRIES
    for number in range(200):
        documents.put(f"{number}" + "x" * 15_000, number)
    assert sum(size for _, size in documents._entries.values()) == documents._characters <= MAX_TOTAL_CHARACTERS
    documents.put("y" * 30_000, 1)
    assert documents.get("y" * 30_000) is None


async def test_an_unknown_path_of_asking_is_no_document(ada: Client) -> None:
    async with httpx.AsyncClient(verify=False) as http:
        answer = await http.post(
            f"{ada.url}/graphql", json={"documentId": None, "query": None}, headers={"Authorization": f"Bearer {ada.token}"}
        )
    assert answer.status_code == 400
    assert code(answer.json()) == "BAD_REQUEST"
