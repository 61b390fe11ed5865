"""The requests of an API key are listed for its owner, the newest first."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import select

from db.core.work import Database
from db.services import usage
from db.tables import ApiKey, User
from graph.core.ids import encode
from tests.client import Client
from tests.usage.conftest import batch, record

KEYS = """
query($first: Int, $after: String) { apiKeys { edges { node { id requests(first: $first, after: $after) {
  pageInfo { endCursor hasNextPage } edges { node { id operationName operationKind cost duration errorCode requestBytes responseBytes ipAddress
    userAgent createdAt user { username } apiKey { id } } } } } } } }
"""
NODE = "query($id: ID!) { node(id: $id) { ... on ApiRequest { operationName } } }"


async def page(client: Client, first: int, after: str | None = None) -> tuple[str, dict[str, Any]]:
    """Return the id of the client's only key, and a page of its requests."""
    (edge,) = (await client.one(KEYS, first=first, after=after))["edges"]
    return edge["node"]["id"], edge["node"]["requests"]


async def test_the_requests_of_a_key_are_listed_for_its_owner(ada: Client, bob: Client, admin: Client, database: Database) -> None:
    (key,) = await database.rows(select(ApiKey.id, ApiKey.user_id).join(User, User.id == ApiKey.user_id).where(User.username == "ada"))
    at = time.time()
    by_key = [
        record(key.user_id, 0.25, api_key_id=key.id, operation_name=f"Read{n}", ended_at=at - n, error_code="TIMEOUT") for n in range(3)
    ]
    await usage.write(database, batch([*by_key, record(key.user_id, operation_name="OfASession"), record(None)]), is_retry=False)
    key_id, newest = await page(ada, 2)
    _, rest = await page(ada, 2, newest["pageInfo"]["endCursor"])
    assert (newest["pageInfo"]["hasNextPage"], rest["pageInfo"]["hasNextPage"]) == (True, False)
    nodes = [edge["node"] for edge in (*newest["edges"], *rest["edges"])]
    assert [node["operationName"] for node in nodes] == ["Read0", "Read1", "Read2"]
    first = nodes[0]
    assert {name: first[name] for name in first if name not in {"id", "createdAt"}} == {
        "operationName": "Read0",
        "operationKind": "query",
        "cost": 2,
        "duration": 0.25,
        "errorCode": "TIMEOUT",
        "requestBytes": 100,
        "responseBytes": 1000,
        "ipAddress": "192.0.2.1",
        "userAgent": "curl",
        "user": {"username": "ada"},
        "apiKey": {"id": key_id},
    }
    assert key_id == encode("apikey", key.id)
    assert await ada.one(NODE, id=first["id"]) == await admin.one(NODE, id=first["id"]) == {"operationName": "Read0"}
    assert await bob.one(NODE, id=first["id"]) is None
    assert (await page(bob, 5))[1]["edges"] == []
