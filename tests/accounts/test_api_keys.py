"""Users make API keys with scopes and limits of their own, and replace and revoke them without an outage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select, text, update
from structlog.testing import capture_logs

from db.core.viewer import SYSTEM, UserRole
from db.core.work import Database
from db.queries.accounts import token_hash
from db.services import accounts
from db.services.accounts.api_keys import MAX_KEYS
from db.tables import ApiKey, User, UserSession
from graph.settings import GraphSettings
from tests.client import Client
from tests.conftest import ClientFactory
from tests.server.serving import serving
from tests.server.test_sockets import bearer, open_websocket, receive_message, send_subscribe, wait_closed
from tests.server.test_sse import UPDATES, streaming
from tests.server.test_users_command import username

SignIn = Callable[[str], Awaitable[Client]]
KEY = "id name prefix scopes pointsPerMinute createdAt expiresAt lastUsedAt revokedAt owner { username }"
CREATE = (
    "mutation($input: CreateApiKeyInput!) { createApiKey(input: $input) { __typename ... on Problem { code message }"
    f" ... on InvalidInput {{ issues {{ path message }} }} ... on CreateApiKeyPayload {{ secret apiKey {{ {KEY} }} }} }} }}"
)
REVOKE = f"mutation($id: ID!) {{ revokeApiKey(input: {{id: $id}}) {{ __typename ... on RevokeApiKeyPayload {{ apiKey {{ {KEY} }} }} }} }}"
LIST = f"{{ apiKeys {{ edges {{ node {{ {KEY} }} }} }} }}"


async def create(session: Client, **fields: Any) -> dict[str, Any]:
    return await session.one(CREATE, input={"name": "nightly", "scopes": ["READ"], **fields})


async def listed(client: Client) -> list[dict[str, Any]]:
    return [edge["node"] for edge in (await client.one(LIST))["edges"]]


@asynccontextmanager
async def client_of(url: str, token: str) -> AsyncGenerator[Client]:
    client = Client(url, token)
    try:
        yield client
    finally:
        await client.close()


async def test_a_key_is_made_and_its_secret_is_never_shown_again(ada: Client, sign_in: SignIn, database: Database) -> None:
    session = await sign_in("ada")
    expires = "2100-01-01T00:00:00Z"
    with capture_logs() as logged:
        made = await create(session, name=" nightly ", scopes=["RUN", "ACCOUNT", "READ", "READ"], expiresAt=expires, pointsPerMinute=600)
        secret, key = made["secret"], made["apiKey"]
        assert secret.startswith(f"{key['prefix']}_")
        assert len(secret) >= len(key["prefix"]) + 43, "256 random bits"
        assert await username(ada, secret) == "ada"
        async with client_of(ada.url, secret) as client:
            shown = await listed(client)
            found = await client.one("query($id: ID!) { node(id: $id) { ... on ApiKey { name } } }", id=key["id"])
    assert {name: key[name] for name in ("name", "scopes", "pointsPerMinute", "lastUsedAt", "revokedAt", "owner")} == {
        "name": "nightly",
        "scopes": ["READ", "RUN", "ACCOUNT"],
        "pointsPerMinute": 600,
        "lastUsedAt": None,
        "revokedAt": None,
        "owner": {"username": "ada"},
    }
    assert datetime.fromisoformat(key["expiresAt"]) == datetime.fromisoformat(expires)
    assert [each["name"] for each in shown] == ["nightly", "first token"]
    assert found == {"name": "nightly"}
    hidden = secret.removeprefix(f"{key['prefix']}_")
    assert hidden not in f"{shown} {found} {logged}"
    for table in ("api_keys", "sessions", "users"):
        rows = await database.rows(text(f"SELECT to_jsonb({table})::text AS row FROM {table}"))
        assert [row.row for row in rows if hidden in row.row] == []


async def test_nobody_else_sees_a_key_but_admins(
    make_client: ClientFactory, ada: Client, bob: Client, admin: Client, sign_in: SignIn
) -> None:
    session, stranger = await sign_in("ada"), await sign_in("bob")
    key = (await create(session))["apiKey"]
    assert [each["owner"]["username"] for each in await listed(bob)] == ["bob"]
    node = "query($id: ID!) { node(id: $id) { id } }"
    assert await bob.one(node, id=key["id"]) is None
    assert await stranger.one(REVOKE, id=key["id"]) == {"__typename": "NotFound"}
    assert (await create(stranger, replaces=key["id"]))["__typename"] == "NotFound"
    assert await admin.one(node, id=key["id"]) == {"id": key["id"]}
    assert {each["owner"]["username"] for each in await listed(admin)} == {"ada", "bob", "admin"}
    assert (await listed(session))[0] == key, "nothing has changed"
    await make_client("boss", UserRole.ADMIN)
    assert (await (await sign_in("boss")).one(REVOKE, id=key["id"]))["__typename"] == "RevokeApiKeyPayload"


async def test_a_key_makes_no_keys_and_ends_none(ada: Client, sign_in: SignIn, database: Database) -> None:
    session = await sign_in("ada")
    key = (await create(session, scopes=["READ", "WRITE", "RUN", "TRACK", "ACCOUNT", "BILLING"]))["secret"]
    before = await listed(session)
    async with client_of(ada.url, key) as client:
        for document, variables in ((CREATE, {"input": {"name": "x", "scopes": ["READ"]}}), (REVOKE, {"id": before[0]["id"]})):
            (error,) = (await client.post(document, **variables))["errors"]
            assert error["extensions"]["code"] == "FORBIDDEN"
            assert "session" in error["message"]
    assert [each["id"] for each in await listed(session)] == [each["id"] for each in before]
    async with database.work(SYSTEM) as work:
        await work.run(update(UserSession).values(checked_at=text("now() - interval '10 minutes'")))
    refused = await create(session)
    assert (refused["__typename"], refused["code"]) == ("WrongState", "WRONG_STATE")
    assert "Sign in again with `login`" in refused["message"]
    assert (await session.one(REVOKE, id=before[0]["id"]))["__typename"] == "RevokeApiKeyPayload", "a stolen key is revoked at any time"


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"scopes": []}, "scopes"),
        ({"scopes": ["READ", "ADMIN"]}, "scopes"),
        ({"name": " "}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "admin"}, "name"),
        ({"expiresAt": "2020-01-01T00:00:00Z"}, "expiresAt"),
        ({"pointsPerMinute": 0}, "pointsPerMinute"),
        ({"overlap": -1}, "overlap"),
        ({"overlap": 2_592_001}, "overlap"),
    ],
    ids=str,
)
async def test_a_key_that_cannot_be_is_refused(fields: dict[str, Any], path: str, ada: Client, sign_in: SignIn) -> None:
    session = await sign_in("ada")
    refused = await create(session, **fields)
    assert (refused["__typename"], [issue["path"] for issue in refused["issues"]]) == ("InvalidInput", [[path]])
    assert [each["name"] for each in await listed(session)] == ["first token"]


async def test_a_key_has_at_most_the_rights_of_its_owner(ada: Client, reader: Client, sign_in: SignIn, database: Database) -> None:
    reading = await sign_in("reader")
    refused = await create(reading, scopes=["READ", "WRITE", "RUN"])
    assert refused["issues"][0]["message"].startswith("Your role, VIEWER, does not allow WRITE, RUN.")
    session = await sign_in("ada")
    secret = (await create(session, scopes=["READ", "WRITE", "BILLING"]))["secret"]
    document = 'mutation { createDataset(input: {name: "wine"}) { __typename } }'
    async with client_of(ada.url, secret) as client:
        assert await client.one(document) == {"__typename": "CreateDatasetPayload"}
        for role, scopes in ((UserRole.VIEWER, ["READ", "BILLING"]), (UserRole.ADMIN, ["READ", "WRITE", "BILLING"])):
            async with database.work(SYSTEM) as work:
                await accounts.set_role(work, "ada@example.org", role)
            assert (await listed(await sign_in("ada")))[0]["scopes"] == scopes
            answer = await client.post(document)
            if role is UserRole.VIEWER:
                assert [error["extensions"]["code"] for error in answer["errors"]] == ["FORBIDDEN"]
                assert "Your role, VIEWER," in answer["errors"][0]["message"]
        assert answer == {"data": {"createDataset": {"__typename": "NameTaken"}}}
        assert await client.one("{ datasets { totalCount } }") == {"totalCount": 1}


async def test_a_key_expires(ada: Client, sign_in: SignIn) -> None:
    session = await sign_in("ada")
    expires = datetime.now(UTC) + timedelta(seconds=1.5)
    secret = (await create(session, expiresAt=expires.isoformat()))["secret"]
    assert await username(ada, secret) == "ada"
    async with open_websocket(ada.url, {"Authorization": f"Bearer {secret}"}) as websocket, asyncio.timeout(60):
        assert (await wait_closed(websocket))[0] == 4403
    assert datetime.now(UTC) >= expires
    assert await username(ada, secret) is None


async def test_a_revoked_key_is_refused_and_its_streams_are_closed(ada: Client, sign_in: SignIn) -> None:
    session = await sign_in("ada")
    made, kept = await create(session), await create(session)
    async with (
        client_of(ada.url, made["secret"]) as client,
        open_websocket(ada.url, bearer(client)) as lost,
        open_websocket(ada.url, {"Authorization": f"Bearer {kept['secret']}"}) as open_one,
        streaming(client, UPDATES) as (_, frames),
    ):
        assert await anext(frames) == ":"
        revoked = await session.one(REVOKE, id=made["apiKey"]["id"])
        async with asyncio.timeout(2):
            assert (await wait_closed(lost))[0] == 4403
            assert [frame async for frame in frames][-1] == "event: complete\ndata:"
        await send_subscribe(open_one, "1", "{ viewer { username } }")
        assert (await receive_message(open_one))["payload"] == {"data": {"viewer": {"username": "ada"}}}
    assert await username(ada, made["secret"]) is None
    assert revoked["apiKey"]["revokedAt"] is not None
    again = await session.one(REVOKE, id=made["apiKey"]["id"])
    for answer in (revoked, again):
        answer["apiKey"].pop("lastUsedAt")  # written behind the requests
    assert again == revoked, "a second time changes nothing"


async def test_a_key_is_replaced_under_a_steady_client_without_a_refusal(ada: Client, sign_in: SignIn, database: Database) -> None:
    session = await sign_in("ada")
    old = await create(session, scopes=["READ", "RUN"], pointsPerMinute=600)
    token, statuses, is_replaced = old["secret"], list[int](), asyncio.Event()

    async def ask() -> None:
        while not (is_replaced.is_set() and len(statuses) > 30):
            response = await ada.http.post("/graphql", json={"query": "{ viewer { id } }"}, headers={"Authorization": f"Bearer {token}"})
            statuses.append(response.status_code)

    asking = asyncio.create_task(ask())
    while len(statuses) < 10:
        await asyncio.sleep(0.01)
    new = await create(session, scopes=["READ", "RUN"], pointsPerMinute=600, replaces=old["apiKey"]["id"], overlap=2)
    assert [await username(ada, secret) for secret in (old["secret"], new["secret"])] == ["ada", "ada"], "both are valid"
    token = new["secret"]
    is_replaced.set()
    await asking
    assert set(statuses) == {200}
    async with asyncio.timeout(60):  # the old one ends by itself
        while await username(ada, old["secret"]) is not None:
            await asyncio.sleep(0.05)
    assert await username(ada, new["secret"]) == "ada"
    names = [(each["name"], each["revokedAt"]) for each in await listed(session)]
    assert names == [("nightly", None), ("nightly", None), ("first token", None)]
    assert (await create(session, replaces=old["apiKey"]["id"]))["__typename"] == "NotFound", "it is no longer valid"
    (row,) = await database.rows(select(ApiKey.expires_at - ApiKey.created_at).where(ApiKey.token_sha256 == token_hash(old["secret"])))
    assert timedelta(0) < row[0] < timedelta(minutes=1)


async def test_an_overlap_does_not_prolong_a_key(ada: Client, sign_in: SignIn) -> None:
    session = await sign_in("ada")
    soon = (datetime.now(UTC) + timedelta(minutes=5)).replace(microsecond=0)
    old = (await create(session, expiresAt=soon.isoformat()))["apiKey"]
    assert (await create(session, replaces=old["id"]))["__typename"] == "CreateApiKeyPayload"
    assert [datetime.fromisoformat(each["expiresAt"]) for each in await listed(session) if each["id"] == old["id"]] == [soon]


async def test_a_user_has_a_bounded_number_of_keys_whoever_makes_them_at_once(ada: Client, sign_in: SignIn, database: Database) -> None:
    session = await sign_in("ada")
    ada_id = (await database.rows(select(User.id).where(User.username == "ada")))[0].id
    rows = [{"user_id": ada_id, "name": "old", "prefix": "trk_", "token_sha256": bytes([number])} for number in range(MAX_KEYS - 2)]
    async with database.work(SYSTEM) as work:
        await work.run(insert(ApiKey).values(rows))
    endings = [answer["__typename"] for answer in await asyncio.gather(*(create(session) for _ in range(4)))]
    assert sorted(endings) == ["CreateApiKeyPayload", *["QuotaExceeded"] * 3]
    async with database.work(SYSTEM) as work:
        await work.run(update(ApiKey).where(ApiKey.name == "old").values(revoked_at=text("now()")))
    assert (await create(session))["__typename"] == "CreateApiKeyPayload"


EXPENSIVE = "{ rateLimit { limit } datasets(first: 44) { edges { node { id } } } }"  # 45 points, which flow back in half a minute


async def limits_of(client: Client, times: int) -> list[tuple[str, int]]:
    """Spend 45 points, several times: each time whether they were there, and of which limit they were."""
    found: list[tuple[str, int]] = []
    for _ in range(times):
        answer = await client.post(EXPENSIVE)
        if answer.get("errors"):
            extensions = answer["errors"][0]["extensions"]
            found.append((extensions["code"], extensions["limit"]))
        else:
            found.append(("OK", answer["data"]["rateLimit"]["limit"]))
    return found


async def test_a_key_spends_points_of_its_own_and_of_its_owner(ada: Client, sign_in: SignIn) -> None:
    session = await sign_in("ada")
    small, wide = [(await create(session, pointsPerMinute=points))["secret"] for points in (50, 1_000)]
    assert ada.token is not None
    async with (
        serving(GraphSettings(rate_limit_free=100)) as url,
        client_of(url, small) as limited,
        client_of(url, wide) as other,
        client_of(url, ada.token) as own,
    ):
        assert await limits_of(limited, 4) == [("OK", 50), *[("RATE_LIMITED", 50)] * 3]
        # Of the owner's hundred the refusals took none.
        assert await limits_of(other, 2) == [("OK", 100), ("RATE_LIMITED", 100)]
        assert await limits_of(own, 1) == [("RATE_LIMITED", 100)]


async def test_what_the_owner_has_not_left_is_given_back_to_the_key(ada: Client, sign_in: SignIn) -> None:
    secret = (await create(await sign_in("ada"), pointsPerMinute=100))["secret"]
    async with serving(GraphSettings(rate_limit_free=60)) as url, client_of(url, secret) as client:
        assert await limits_of(client, 6) == [("OK", 60), *[("RATE_LIMITED", 60)] * 5], "never the hundred of the key"
