"""Fixtures of tests that read mails, and of those that show codes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from pydantic import SecretStr

from db.core.work import Database
from db.services import maintenance
from db.services.accounts import codes
from db.settings import StateSettings
from server.oauth.settings import SignInProvider
from server.settings import server_settings
from tests.accounts.authenticator import Clock
from tests.accounts.identity_provider import CLIENT_ID, CLIENT_SECRET, IdentityProvider, Realm, Visitor
from tests.accounts.mailbox import Post, mail_server
from tests.conftest import LiveServer


@pytest.fixture
async def post(clean: None, database: Database, settings: StateSettings) -> AsyncGenerator[Post]:
    async with mail_server() as mailbox:
        own = settings.model_copy(update={"smtp_url": SecretStr(f"smtp://127.0.0.1:{mailbox.port}")})
        yield Post(mailbox, maintenance.MaintenanceContext(database, None, own))  # pyright: ignore[reportArgumentType] - the task touches no object


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time by which the API checks codes."""
    clock = Clock()
    monkeypatch.setattr(codes, "time", SimpleNamespace(time=lambda: clock.now))
    return clock


@pytest.fixture(scope="session")
async def identity_provider() -> AsyncGenerator[IdentityProvider]:
    """A provider of identities, served by HTTP on a port of its own."""
    provider = IdentityProvider()
    server = uvicorn.Server(uvicorn.Config(provider.app, port=0, log_config=None, lifespan="off"))
    server.install_signal_handlers = lambda: None  # pyright: ignore[reportAttributeAccessIssue] - pytest's own handlers stay
    serving = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)
    provider.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    yield provider
    server.should_exit = True
    await serving


AddProvider = Callable[..., Realm]


@pytest.fixture
def add_provider(identity_provider: IdentityProvider, sign_in: object, monkeypatch: pytest.MonkeyPatch) -> AddProvider:
    """Have people sign in by a realm of its own: `add_provider("one", sub="1", email="ada@example.com")`; its claims are those of its person.

    `sign_in` forgets the sign-ins of earlier tests, which count as failures if they did not come back.
    """
    settings: dict[str, SignInProvider] = {}
    monkeypatch.setattr(server_settings(), "sign_in_providers", settings)

    def add(name: str, preset: str | None = None, /, **person: Any) -> Realm:
        realm = identity_provider.add_realm(**person)
        values = {"preset": preset, "issuer": realm.issuer, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        settings[name] = SignInProvider.model_validate(values)
        return realm

    return add


@pytest.fixture
async def open_visitor(live_server: LiveServer) -> AsyncGenerator[Callable[[], Visitor]]:
    """Open browsers, each with cookies of its own."""
    opened: list[Visitor] = []

    def open_one() -> Visitor:
        opened.append(Visitor(live_server.url))
        return opened[-1]

    yield open_one
    for visitor in opened:
        await visitor.http.aclose()


@pytest.fixture
async def visitor(open_visitor: Callable[[], Visitor]) -> Visitor:
    """A browser, in which nobody is signed in."""
    return open_visitor()
