"""Fixtures of tests that read mails, and of those that show codes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import pytest
from aiosmtpd.controller import UnthreadedController
from pydantic import SecretStr

from db.core.work import Database
from db.services import maintenance
from db.services.accounts import codes
from db.settings import StateSettings
from tests.accounts.authenticator import Clock
from tests.accounts.mailbox import Mailbox, Post


@pytest.fixture
async def post(clean: None, database: Database, settings: StateSettings) -> AsyncGenerator[Post]:
    mailbox = Mailbox()
    controller = UnthreadedController(mailbox, hostname="127.0.0.1", port=0, loop=asyncio.get_running_loop())
    server: Any = await controller._create_server()
    port = server.sockets[0].getsockname()[1]
    own = settings.model_copy(update={"smtp_url": SecretStr(f"smtp://127.0.0.1:{port}")})
    yield Post(mailbox, maintenance.MaintenanceContext(database, None, own))  # pyright: ignore[reportArgumentType] - the task touches no object
    server.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time by which the API checks codes."""
    clock = Clock()
    monkeypatch.setattr(codes, "time", SimpleNamespace(time=lambda: clock.now))
    return clock
