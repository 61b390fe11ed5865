"""A token is looked up once a second; what is revoked, expires or changes holds at once in every process that hears of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from db.core.viewer import SYSTEM, UserRole, UserTier
from db.core.work import Database, Work
from db.services import accounts
from db.settings import state_settings
from db.streams import viewers
from tests.client import Client
from tests.conftest import ClientFactory
from tests.server.serving import serving

ADA = "ada@example.org"
UNREACHABLE_REDIS = "redis://127.0.0.1:1/0"
LOOK_UP = "api_keys.token_sha256 = $"
VIEWER = "{ viewer { role tier } }"


async def answer(url: str, token: str | None) -> tuple[int, Any]:
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {token}"}, verify=False) as http:
        response = await http.post(f"{url}/graphql", json={"query": VIEWER})
    return response.status_code, (response.json().get("data") or {}).get("viewer")


@pytest.fixture
def look_ups() -> Generator[list[str]]:
    """The look-ups of tokens that this process sends."""
    sent: list[str] = []

    def record(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if LOOK_UP in statement:
            sent.append(statement)

    event.listen(Engine, "before_cursor_execute", record)
    yield sent
    event.remove(Engine, "before_cursor_execute", record)


async def test_a_token_is_looked_up_once_a_second(ada: Client, look_ups: list[str]) -> None:
    started_at = time.monotonic()
    while time.monotonic() - started_at < 1.5:
        assert await answer(ada.url, ada.token) == MEMBER
    assert 1 <= len(look_ups) <= 1 + time.monotonic() - started_at


Change = Callable[[Work, str], Awaitable[Any]]
MEMBER = (200, {"role": "MEMBER", "tier": "FREE"})
CHANGES: dict[str, tuple[Change, tuple[int, Any]]] = {
    "revoked": (accounts.revoke_tokens, (401, None)),
    "disabled": (accounts.disable, (401, None)),
    "demoted": (lambda work, email: accounts.set_role(work, email, UserRole.VIEWER), (200, {"role": "VIEWER", "tier": "FREE"})),
    "promoted": (lambda work, email: accounts.set_tier(work, email, UserTier.PRO), (200, {"role": "MEMBER", "tier": "PRO"})),
}


async def change_all(make_client: ClientFactory, database: Database, *urls: str) -> dict[str, str | None]:
    """Make a user for each change, have each looked up by every process, and change them. Return their tokens."""
    tokens = {name: (await make_client(name)).token for name in CHANGES}
    for url in urls:
        assert [await answer(url, token) for token in tokens.values()] == [MEMBER] * len(tokens)
    async with database.work(SYSTEM) as work:
        for name, (change, _) in CHANGES.items():
            await change(work, f"{name}@example.org")
    return tokens


async def wait_until_changed(url: str, tokens: dict[str, str | None]) -> None:
    """Each viewer is as before or as changed, and in the end as changed."""
    for name, (_, expected) in CHANGES.items():
        while (found := await answer(url, tokens[name])) != expected:
            assert found == MEMBER
            await asyncio.sleep(0.005)


async def test_a_change_holds_in_every_process_as_soon_as_its_notice_has_arrived(
    make_client: ClientFactory, notifying_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewers, "LIFETIME", 3_600.0)  # so that nothing but the notice can tell
    async with serving() as first, serving() as second:  # each with its own pool, streams and caches, as two processes have
        tokens = await change_all(make_client, notifying_database, first, second)
        async with asyncio.timeout(60):
            await wait_until_changed(first, tokens)
            await wait_until_changed(second, tokens)


async def test_without_redis_a_change_holds_within_a_second(
    make_client: ClientFactory, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _serving_without_redis(monkeypatch) as url:
        tokens = await change_all(make_client, database, url)
        async with asyncio.timeout(60):
            await wait_until_changed(url, tokens)


async def test_a_token_that_expires_is_refused_from_then_on(
    ada: Client, notifying_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewers, "LIFETIME", 3_600.0)
    async with notifying_database.work(SYSTEM) as work:
        token = await accounts.add_token(work, ADA, "short", timedelta(seconds=2))
    added_at = time.monotonic()
    assert (await answer(ada.url, token))[0] == 200
    async with asyncio.timeout(60):
        while (await answer(ada.url, token))[0] == 200:
            await asyncio.sleep(0.02)
    assert time.monotonic() - added_at >= 1.9


async def test_a_lookup_that_began_before_a_change_is_not_kept(ada: Client, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ada.token is not None
    known = viewers.Viewers(database)
    look_up = viewers.viewer_of_token

    async def change_meanwhile(database_: Database, token: str) -> Any:
        viewer = await look_up(database_, token)
        async with database.work(SYSTEM) as work:
            await accounts.set_role(work, ADA, UserRole.VIEWER)
        assert viewer is not None
        known.forget([viewer.id])
        return viewer

    monkeypatch.setattr(viewers, "viewer_of_token", change_meanwhile)
    stale = await known.of_token(ada.token)
    monkeypatch.undo()
    current = await known.of_token(ada.token)
    assert stale is not None
    assert current is not None
    assert (stale.role, current.role) == (UserRole.MEMBER, UserRole.VIEWER)


async def test_at_most_so_many_viewers_are_kept_and_no_unknown_token(
    ada: Client, notifying_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewers, "MAX_VIEWERS", 3)
    async with notifying_database.work(SYSTEM) as work:
        tokens = [await accounts.add_token(work, ADA, f"token {number}") for number in range(5)]
    known = viewers.Viewers(notifying_database)
    for token in (*tokens, *(f"unknown {number}" for number in range(5))):
        await known.of_token(token)
    assert len(known) == 3


@asynccontextmanager
async def _serving_without_redis(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[str]:
    """An application that reaches PostgreSQL and no Redis."""
    unreachable = state_settings().model_copy(update={"redis_url": UNREACHABLE_REDIS})
    monkeypatch.setattr("server.app.state_settings", lambda: unreachable)
    async with serving() as url:
        yield url
    monkeypatch.undo()
