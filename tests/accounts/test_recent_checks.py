"""What changes how somebody signs in takes a session that began lately."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import text, update

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.errors import Forbidden, WrongState
from db.queries.accounts import token_hash, viewer_of_token
from db.services import accounts
from db.tables import UserSession
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
