"""A password begins a session, whose token is the user's until it is revoked, is not used or expires."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import select, text, update

from db.core.viewer import SYSTEM, UserRole
from db.core.work import Database
from db.services import accounts
from db.services.accounts.sessions import MAX_SESSIONS
from db.services.maintenance.rows import forget_sign_ins
from db.settings import StateSettings
from db.tables import LoginEvent, User, UserSession
from tests.client import PASSWORD, Client
from tests.conftest import ClientFactory
from tests.exhaustive import exhaustive
from tests.server.test_sockets import UPDATES, bearer, open_websocket, receive_message, send_subscribe, wait_closed
from tests.server.test_users_command import username

SignIn = Callable[[str], Awaitable[Client]]
SESSIONS = "{ sessions { id isCurrent ipAddress device browser userAgent lastActiveAt expiresAt createdAt } }"
HISTORY = "{ viewer { lastLoginAt loginEvents { edges { node { method succeeded reason ipAddress userAgent } } } } }"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
REVOKE = "mutation($id: ID!) { revokeSession(input: {id: $id}) { __typename ... on RevokeSessionPayload { sessionId } } }"


async def is_signed_out(client: Client) -> bool:
    assert client.token is not None
    return await username(client, client.token) is None


async def session_id(client: Client) -> str:
    (current,) = [session["id"] for session in await client.one("{ sessions { id isCurrent } }") if session["isCurrent"]]
    return current


async def test_a_password_begins_a_session_by_address_or_username(ada: Client, sign_in: SignIn, anonymous: Client) -> None:
    await sign_in("ada")
    for login in ("ada", " ADA ", "ada@example.org", "Ada@Example.org"):
        answer = await anonymous.login(login, **{"user-agent": FIREFOX})
        assert answer["__typename"] == "LoginPayload"
        assert answer["token"].startswith("trs_")
        assert answer["viewer"] == {"username": "ada"}
        assert answer["session"]["isCurrent"] is True
        client = Client(ada.url, answer["token"])
        (current,) = [session for session in await client.one(SESSIONS) if session["isCurrent"]]
        await client.close()
        assert current["id"] == answer["session"]["id"]
        assert (current["device"], current["browser"], current["userAgent"]) == ("Linux", "Firefox", FIREFOX)
        assert current["ipAddress"] == "127.0.0.1"


async def test_each_sign_in_is_another_session_and_is_in_the_history(ada: Client, bob: Client, sign_in: SignIn, anonymous: Client) -> None:
    first, second = await sign_in("ada"), await sign_in("ada")
    assert first.token != second.token
    assert (await anonymous.login("ada", "wrong password", **{"user-agent": "curl/8.5.0"}))["code"] == "INVALID_CREDENTIALS"
    viewer = await ada.one(HISTORY)
    history = [edge["node"] for edge in viewer["loginEvents"]["edges"]]
    assert [(event["succeeded"], event["reason"]) for event in history] == [(False, "The password was wrong."), (True, None), (True, None)]
    assert {(event["method"], event["ipAddress"]) for event in history} == {("PASSWORD", "127.0.0.1")}
    assert history[0]["userAgent"] == "curl/8.5.0"
    assert viewer["lastLoginAt"] is not None
    assert await bob.one(HISTORY) == {"lastLoginAt": None, "loginEvents": {"edges": []}}


async def test_a_token_that_the_client_brings_is_not_the_one_that_it_gets(ada: Client, sign_in: SignIn) -> None:
    """No fixation: a sign-in always makes a new token, whatever session the request came with."""
    before = await sign_in("ada")
    answer = await before.login("ada")
    assert answer["token"] not in {before.token, None}
    assert await session_id(before) != answer["session"]["id"]


async def test_the_rest_of_the_operation_is_executed_as_who_signed_in(ada: Client, bob: Client, sign_in: SignIn) -> None:
    await sign_in("ada")
    document = (
        'mutation($input: LoginInput!) { a: createDataset(input: {name: "before"}) { ... on CreateDatasetPayload { dataset { owner { username } } } }'
        ' login(input: $input) { __typename } b: createDataset(input: {name: "after"}) { ... on CreateDatasetPayload { dataset { owner { username } } } } }'
    )
    data = await bob.execute(document, input={"login": "ada", "password": PASSWORD})
    assert [data[key]["dataset"]["owner"]["username"] for key in ("a", "b")] == ["bob", "ada"]


async def test_a_session_that_signs_out_is_closed_everywhere(ada: Client, sign_in: SignIn) -> None:
    leaving, staying = await sign_in("ada"), await sign_in("ada")
    ended = await session_id(leaving)
    async with open_websocket(ada.url, bearer(leaving)) as closed, open_websocket(ada.url, bearer(staying)) as kept:
        await send_subscribe(closed, "1", UPDATES)
        assert await leaving.one("mutation { logout { ... on LogoutPayload { sessionId } } }") == {"sessionId": ended}
        async with asyncio.timeout(2):
            assert (await wait_closed(closed))[0] == 4403
        await send_subscribe(kept, "1", "{ viewer { username } }")
        assert (await receive_message(kept))["payload"] == {"data": {"viewer": {"username": "ada"}}}
    assert [await is_signed_out(client) for client in (leaving, staying, ada)] == [True, False, False]


async def test_a_session_is_revoked_by_its_owner_and_by_nobody_else(
    make_client: ClientFactory, ada: Client, bob: Client, sign_in: SignIn
) -> None:
    await make_client("boss", UserRole.ADMIN)
    phone, laptop, stranger, boss = [await sign_in(name) for name in ("ada", "ada", "bob", "boss")]
    phone_id = await session_id(phone)
    assert await stranger.one(REVOKE, id=phone_id) == {"__typename": "NotFound"}
    assert (await ada.post(REVOKE, id=phone_id))["errors"][0]["extensions"]["code"] == "FORBIDDEN", "an API key ends no session"
    assert not await is_signed_out(phone)
    assert await laptop.one(REVOKE, id=phone_id) == {"__typename": "RevokeSessionPayload", "sessionId": phone_id}
    assert await is_signed_out(phone)
    assert await laptop.one(REVOKE, id=phone_id) == {"__typename": "NotFound"}
    assert phone_id not in [session["id"] for session in await laptop.one(SESSIONS)]
    await boss.one(REVOKE, id=await session_id(laptop))
    assert [await is_signed_out(client) for client in (laptop, stranger, ada)] == [True, False, False]


async def test_the_other_sessions_end_and_the_keys_stay(ada: Client, bob: Client, sign_in: SignIn) -> None:
    kept, *others = [await sign_in("ada") for _ in range(3)]
    bobs = await sign_in("bob")
    document = "mutation { revokeOtherSessions { ... on RevokeOtherSessionsPayload { count } } }"
    assert await kept.one(document) == {"count": 2}
    assert [await is_signed_out(client) for client in (*others, kept, ada, bobs)] == [True, True, False, False, False]


@pytest.mark.parametrize(
    "change",
    [
        {"expires_at": text("now() - interval '1 second'")},
        {"last_active_at": text("now() - interval '8 days'")},
        exhaustive({"ended_at": text("now()")}),
    ],
    ids=["expired", "idle", "ended"],
)
async def test_a_session_ends_by_time_on_every_transport(change: dict[str, Any], ada: Client, sign_in: SignIn, database: Database) -> None:
    session = await sign_in("ada")
    async with open_websocket(ada.url, bearer(session)) as websocket:
        await send_subscribe(websocket, "1", UPDATES)
        async with database.work(SYSTEM) as work:
            await work.run(update(UserSession).values(**change))
        async with asyncio.timeout(60):  # found by the regular revalidation, once a second in tests
            assert (await wait_closed(websocket))[0] == 4403
            while not await is_signed_out(session):  # no notice was sent, and a look-up serves a second
                await asyncio.sleep(0.05)
    assert await ada.one("{ sessions { id } }") == []


@pytest.mark.exhaustive
async def test_use_postpones_the_end_of_an_idle_session(ada: Client, sign_in: SignIn, database: Database) -> None:
    session = await sign_in("ada")
    async with database.work(SYSTEM) as work:
        await work.run(update(UserSession).values(last_active_at=text("now() - interval '6 days'")))
    await session.one("{ viewer { id } }")
    async with asyncio.timeout(60):
        while (await database.rows(select(UserSession.last_active_at < text("now() - interval '1 day'"))))[0][0]:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("change", [exhaustive("disabled"), exhaustive("no password"), "changed meanwhile"])
async def test_who_may_not_sign_in_is_told_what_everybody_is_told(
    change: str, ada: Client, sign_in: SignIn, anonymous: Client, database: Database
) -> None:
    session = await sign_in("ada")
    values = {
        "disabled": {"disabled_at": text("now()")},
        "no password": {"password_hash": None},
        "changed meanwhile": {"password_hash": accounts.password_hash("another password")},
    }
    async with database.work(SYSTEM) as work:
        await work.run(update(User).where(User.username == "ada").values(values[change]))
    unknown, refused = await anonymous.login("nobody"), await anonymous.login("ada")
    assert refused == unknown
    assert refused["code"] == "INVALID_CREDENTIALS"
    assert await is_signed_out(session) is (change == "disabled")


async def test_a_user_has_a_bounded_number_of_sessions(ada: Client, sign_in: SignIn, database: Database) -> None:
    idlest = await sign_in("ada")
    ada_id = (await database.rows(select(User.id).where(User.username == "ada")))[0].id
    one = "(:id, sha256(uuid_send(gen_random_uuid())), now() + interval '1 day', 3600, 'unknown', now() + interval '1 minute')"
    fill = f"INSERT INTO sessions (user_id, token_sha256, expires_at, idle_seconds, network, last_active_at) VALUES {one}"
    async with database.engine.begin() as connection:
        await connection.execute(text(fill), [{"id": ada_id} for _ in range(MAX_SESSIONS - 1)])
    assert len(await idlest.one("{ sessions { id } }")) == MAX_SESSIONS
    newest = await sign_in("ada")
    assert len(await newest.one("{ sessions { id } }")) == MAX_SESSIONS
    assert await is_signed_out(idlest)


async def test_a_role_that_reads_may_sign_in_and_out(reader: Client, sign_in: SignIn) -> None:
    session = await sign_in("reader")
    assert await session.one("mutation { logout { __typename } }") == {"__typename": "LogoutPayload"}
    assert await is_signed_out(session)


async def test_neither_password_nor_token_is_stored(ada: Client, sign_in: SignIn, database: Database) -> None:
    session = await sign_in("ada")
    assert session.token is not None
    for table in ("users", "sessions", "login_events"):
        rows = await database.rows(text(f"SELECT to_jsonb({table})::text AS row FROM {table}"))
        assert [row.row for row in rows if PASSWORD in row.row or session.token in row.row or session.token[4:] in row.row] == []


async def test_the_history_is_kept_for_a_time(ada: Client, sign_in: SignIn, database: Database, settings: StateSettings) -> None:
    from db.services.maintenance import MaintenanceContext

    await sign_in("ada")
    context = MaintenanceContext(database, None, settings)  # pyright: ignore[reportArgumentType] - the task touches no object
    assert await forget_sign_ins(context) == 0
    async with database.work(SYSTEM) as work:
        await work.run(update(LoginEvent).values(created_at=text("now() - interval '91 days'")))
        await work.run(update(UserSession).values(expires_at=text("now() - interval '91 days'")))
    assert await forget_sign_ins(context) in {0, 2}, "a worker may have done it first"
    assert await database.rows(select(UserSession.id)) == []
    assert await ada.one("{ viewer { loginEvents { totalCount } } }") == {"loginEvents": {"totalCount": 0}}
