"""Admins list users and change their role, tier, access and quota. Others see themselves alone, and one active admin always stays."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import func, select, text, update

from db.core.viewer import SYSTEM, UserRole
from db.core.work import Database
from db.services import accounts
from db.services.accounts.administration import ADMINS_LOCK
from db.tables import User
from tests.client import Client
from tests.conftest import ClientFactory
from tests.endings import UNKNOWN
from tests.server.test_sockets import bearer, open_websocket, receive_message, send_subscribe, wait_closed
from tests.server.test_users_command import username

ADMINISTER = """mutation($input: AdministerUserInput!) { administerUser(input: $input) { __typename ... on Problem { code message }
  ... on InvalidInput { issues { path } } ... on AdministerUserPayload { user { username role tier isActive storage { quotaBytes } } } } }"""
USERS = """query($filter: UserFilter, $order: UserOrder, $first: Int, $after: String, $last: Int, $before: String) {
  users(filter: $filter, orderBy: $order, first: $first, after: $after, last: $last, before: $before) {
    totalCount pageInfo { startCursor endCursor hasNextPage hasPreviousPage } edges { node { username } } } }"""
DEFAULT_QUOTA = 1024**4


async def id_of(client: Client) -> str:
    return (await client.one("{ viewer { id } }"))["id"]


async def administer(client: Client, user_id: str, **changes: Any) -> dict[str, Any]:
    """Return the result, or the code of the error."""
    answer = await client.post(ADMINISTER, input={"id": user_id, **changes})
    if answer.get("errors"):
        (error,) = answer["errors"]
        return {"error": error["extensions"]["code"]}
    return answer["data"]["administerUser"]


async def usernames(client: Client, **arguments: Any) -> list[str]:
    page = await client.one(USERS, **arguments)
    return [edge["node"]["username"] for edge in page["edges"]]


async def rows(database: Database) -> dict[str, dict[str, Any]]:
    """Return all users by their names, without the times of changes."""
    found = await database.rows(select(User.__table__))
    return {row.username: {key: value for key, value in row._mapping.items() if key != "updated_at"} for row in found}


async def test_an_admin_finds_users_by_what_they_are(admin: Client, make_client: ClientFactory, reader: Client, database: Database) -> None:
    for name in ("ada", "bob", "adam"):
        await make_client(name)
    async with database.work(SYSTEM) as work:
        await accounts.disable(work, "bob@example.org")
        await work.run(update(User).where(User.username.in_(["ada", "bob"])).values(tier="pro", last_login_at=func.now()))
    by_name = {"field": "USERNAME", "direction": "ASC"}
    for criteria, expected in (
        ({}, ["ada", "adam", "admin", "bob", "reader"]),
        ({"role": ["ADMIN", "VIEWER"]}, ["admin", "reader"]),
        ({"tier": ["PRO"]}, ["ada", "bob"]),
        ({"isActive": False}, ["bob"]),
        ({"isActive": True, "tier": ["PRO"]}, ["ada"]),
        ({"username": {"startsWith": "ADA"}}, ["ada", "adam"]),
        ({"email": {"contains": "@EXAMPLE"}, "role": ["MEMBER"]}, ["ada", "adam", "bob"]),
        ({"fullName": {"eq": "adam"}}, ["adam"]),
        ({"lastLoginAt": {"gte": "2020-01-01T00:00:00Z"}}, ["ada", "bob"]),
        ({"createdAt": {"lt": "2020-01-01T00:00:00Z"}}, []),
        ({"role": []}, []),
    ):
        page = await admin.one(USERS, filter=criteria, order=by_name)
        assert [edge["node"]["username"] for edge in page["edges"]] == expected, criteria
        assert page["totalCount"] == len(expected)
    for order in ("CREATED_AT", "USERNAME", "EMAIL", "LAST_LOGIN_AT"):
        for direction in ("ASC", "DESC"):
            chosen = {"order": {"field": order, "direction": direction}, "filter": {"username": {"contains": "a"}}}
            everybody = await usernames(admin, **chosen)
            assert sorted(everybody) == ["ada", "adam", "admin", "reader"]
            forward, backward = [], []
            after = before = None
            while len(forward) < 4:
                page = await admin.one(USERS, first=1, after=after, **chosen)
                forward += [edge["node"]["username"] for edge in page["edges"]]
                after = page["pageInfo"]["endCursor"]
                page = await admin.one(USERS, last=1, before=before, **chosen)
                backward = [edge["node"]["username"] for edge in page["edges"]] + backward
                before = page["pageInfo"]["startCursor"]
            assert forward == backward == everybody


async def test_others_see_and_change_nobody_but_themselves(
    anonymous: Client, ada: Client, bob: Client, reader: Client, admin: Client, database: Database
) -> None:
    ada_id, before = await id_of(ada), await rows(database)
    lookup = "query($id: ID!) { user(id: $id) { username } }"
    for client, own in ((bob, "bob"), (reader, "reader")):
        assert await client.one(lookup, id=ada_id) is None
        assert await client.one(lookup, id=f"user_{UNKNOWN}") is None
        assert await usernames(client) == [own]
        assert await usernames(client, filter={"username": {"eq": "ada"}}) == []
        assert (await client.one(USERS))["totalCount"] == 1
        for target in (ada_id, await id_of(client), f"user_{UNKNOWN}", "user_1"):
            assert await administer(client, target, role="ADMIN") == {"error": "FORBIDDEN"}
    assert await administer(anonymous, ada_id, role="ADMIN") == {"error": "UNAUTHENTICATED"}
    for query in ("{ users { totalCount } }", f'{{ user(id: "{ada_id}") {{ id }} }}'):
        assert [error["extensions"]["code"] for error in (await anonymous.post(query))["errors"]] == ["UNAUTHENTICATED"]
    assert await ada.one(lookup, id=ada_id) == await admin.one(lookup, id=ada_id) == {"username": "ada"}
    assert await rows(database) == before


async def test_a_change_is_what_was_asked_for_and_nothing_else(ada: Client, bob: Client, admin: Client, database: Database) -> None:
    ada_id, before = await id_of(ada), await rows(database)
    user = {"username": "ada", "role": "MEMBER", "tier": "FREE", "isActive": True, "storage": {"quotaBytes": DEFAULT_QUOTA}}
    for given, shown in (
        ({}, {}),
        ({"tier": "PRO"}, {"tier": "PRO"}),
        ({"role": "VIEWER", "isActive": False}, {"role": "VIEWER", "isActive": False}),
        ({"storageQuotaBytes": 0}, {"storage": {"quotaBytes": 0}}),
        ({"storageQuotaBytes": 2**63 - 1}, {"storage": {"quotaBytes": 2**63 - 1}}),
        ({"storageQuotaBytes": None, "isActive": True}, {"storage": {"quotaBytes": DEFAULT_QUOTA}, "isActive": True}),
    ):
        user |= shown
        assert await administer(admin, ada_id, **given) == {"__typename": "AdministerUserPayload", "user": user}
    before["ada"] |= {"role": UserRole.VIEWER, "tier": "pro"}
    assert await rows(database) == before


async def test_a_value_that_cannot_be_is_named_and_nothing_is_changed(ada: Client, admin: Client, database: Database) -> None:
    ada_id, before = await id_of(ada), await rows(database)
    answer = await administer(admin, ada_id, role=None, tier=None, isActive=None, storageQuotaBytes=-1)
    assert [issue["path"] for issue in answer["issues"]] == [["role"], ["tier"], ["isActive"], ["storageQuotaBytes"]]
    for unknown in (f"user_{UNKNOWN}", f"job_{UNKNOWN}", ""):
        assert (await administer(admin, unknown, role="ADMIN"))["code"] == "NOT_FOUND"
    assert await rows(database) == before


@pytest.mark.parametrize("change", [{"role": "MEMBER"}, {"isActive": False}], ids=["demoted", "disabled"])
async def test_the_last_admin_stays(admin: Client, make_client: ClientFactory, database: Database, change: dict[str, Any]) -> None:
    second = await make_client("second", UserRole.ADMIN)
    first_id, second_id = await id_of(admin), await id_of(second)
    assert (await administer(admin, second_id, isActive=False))["user"]["isActive"] is False
    before = await rows(database)
    assert (await administer(admin, first_id, tier="PRO", **change))["code"] == "LAST_ADMIN", "a disabled admin cannot help"
    assert await rows(database) == before
    assert (await administer(admin, second_id, isActive=True))["user"]["isActive"] is True
    assert (await administer(admin, first_id, **change))["__typename"] == "AdministerUserPayload"
    assert (await administer(second, second_id, **change))["code"] == "LAST_ADMIN"


async def test_of_two_admins_who_demote_each_other_at_once_one_stays(admin: Client, make_client: ClientFactory, database: Database) -> None:
    second = await make_client("second", UserRole.ADMIN)
    first_id, second_id = await id_of(admin), await id_of(second)
    waiting = text("SELECT count(*) AS number FROM pg_locks WHERE locktype = 'advisory' AND objid = :lock AND NOT granted")
    async with database.work(SYSTEM) as work:
        await work.run(select(func.pg_advisory_xact_lock(ADMINS_LOCK)))
        both = [
            asyncio.create_task(administer(client, target, role="MEMBER")) for client, target in ((admin, second_id), (second, first_id))
        ]
        async with asyncio.timeout(60):
            while (await database.rows(waiting, {"lock": ADMINS_LOCK}))[0].number < 2:  # both have been let in as admins
                await asyncio.sleep(0.01)
    results = await asyncio.gather(*both)
    assert sorted(result.get("__typename") or result["error"] for result in results) == ["AdministerUserPayload", "FORBIDDEN"]
    admins = await database.rows(select(User.username).where(User.role == UserRole.ADMIN))
    assert [row.username for row in admins] == ["admin" if results[0].get("__typename") else "second"]


async def test_a_change_reaches_open_connections(admin: Client, make_client: ClientFactory) -> None:
    second = await make_client("second", UserRole.ADMIN)
    second_id = await id_of(second)
    async with open_websocket(second.url, bearer(second)) as websocket:

        async def count() -> int:
            await send_subscribe(websocket, "1", "{ users { totalCount } }")
            answer = (await receive_message(websocket))["payload"]
            assert (await receive_message(websocket))["type"] == "complete"
            return answer["data"]["users"]["totalCount"]

        assert await count() == 2
        await administer(admin, second_id, role="MEMBER")
        async with asyncio.timeout(60):
            while await count() != 1:
                pass
        await administer(admin, second_id, isActive=False)
        async with asyncio.timeout(60):
            assert (await wait_closed(websocket))[0] == 4403
    refused = await second.post("{ viewer { id } }")
    assert [error["extensions"]["code"] for error in refused["errors"]] == ["UNAUTHENTICATED"]


async def test_a_new_role_ends_the_sessions_of_the_user_and_no_others(
    ada: Client, bob: Client, admin: Client, sign_in: Callable[[str], Awaitable[Client]]
) -> None:
    adas, bobs, boss, bosses_other = [await sign_in(name) for name in ("ada", "bob", "admin", "admin")]
    ada_id, boss_id = await id_of(ada), await id_of(boss)
    for unchanged in ({"tier": "PRO"}, {"role": "MEMBER"}):
        await administer(boss, ada_id, **unchanged)
        assert await username(ada, adas.token or "") == "ada"
    async with open_websocket(ada.url, bearer(adas)) as by_session:
        await administer(boss, ada_id, role="ADMIN")
        async with asyncio.timeout(2):
            assert (await wait_closed(by_session))[0] == 4403
    assert [await username(ada, client.token or "") for client in (adas, bobs, boss, bosses_other, ada)] == [
        None,
        "bob",
        "admin",
        "admin",
        "ada",
    ]
    assert (await (await sign_in("ada")).one("{ viewer { role } }")) == {"role": "ADMIN"}
    answer = await administer(boss, boss_id, role="MEMBER")
    assert answer["user"]["role"] == "MEMBER"
    assert [await username(ada, client.token or "") for client in (boss, bosses_other)] == ["admin", None], "one's own session stays"
