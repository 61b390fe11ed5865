"""What changes how somebody signs in takes a session that began lately."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import select, text, update

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.errors import Forbidden, WrongState
from db.queries.accounts import token_hash, viewer_of_token
from db.services import accounts
from db.tables import ApiKey, UserSession
from tests.accounts.blocking import wait_until_blocked
from tests.client import Client

SignIn = Callable[[str], Awaitable[Client]]


async def check(client: Client, database: Database) -> None:
    viewer = await viewer_of_token(database, client.token or "")
    assert viewer is not None
    async with database.work(viewer) as work:
        await accounts.require_recent_check(work)


async def test_a_session_is_recent_for_ten_minutes(ada: Client, bob: Client, sign_in: SignIn, database: Database) -> None:
    session, other = await sign_in("ada"), await sign_in("bob")
    await check(session, database)
    aged = update(UserSession).where(UserSession.token_sha256 == token_hash(session.token or ""))
    async with database.work(SYSTEM) as work:
        await work.run(aged.values(checked_at=text("now() - interval '9 minutes'")))
    await check(session, database)
    async with database.work(SYSTEM) as work:
        await work.run(aged.values(checked_at=text("now() - interval '10 minutes'")))
    with pytest.raises(WrongState, match="Sign in again with `login`") as refused:
        await check(session, database)
    assert refused.value.state == "NOT_RECENTLY_CHECKED"
    await check(other, database)
    await check(await sign_in("ada"), database)


async def test_an_api_key_is_never_recent(ada: Client, database: Database) -> None:
    with pytest.raises(Forbidden):
        await check(ada, database)


async def test_a_session_that_has_ended_is_never_recent(ada: Client, sign_in: SignIn, database: Database) -> None:
    """A request that was let in before its session ended, such as by a process that has no notice of it yet."""
    session = await sign_in("ada")
    viewer = await viewer_of_token(database, session.token or "")
    assert viewer is not None
    async with database.work(SYSTEM) as work:
        await work.run(update(UserSession).values(ended_at=text("now()")))
    with pytest.raises(WrongState):
        async with database.work(viewer) as work:
            await accounts.require_recent_check(work)


async def test_what_a_request_makes_while_its_session_ends_is_refused(ada: Client, sign_in: SignIn, database: Database) -> None:
    """Else a thief's key, made while the owner resets the password, would outlive that."""
    session = await sign_in("ada")
    make_key = 'mutation { createApiKey(input: {name: "late", scopes: [READ]}) { __typename } }'
    async with database.work(SYSTEM) as work:
        await accounts.set_password_hash(work, "ada@example.org", "another")  # which ends all sessions, as a reset does
        making = asyncio.create_task(session.post(make_key))
        await wait_until_blocked(database, making)
    answer = await making
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["FORBIDDEN"]
    assert await database.rows(select(ApiKey.id).where(ApiKey.name == "late")) == []
