"""Fixtures of tests that only read."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services import accounts
from tests.client import Client
from tests.conftest import LiveServer, clean_tables
from tests.factories import platform

PARENTS = 6


@pytest.fixture(scope="module")
async def filled_client(database: Database, live_server: LiveServer) -> AsyncGenerator[Client]:
    """Ada with `PARENTS` complete rows of each kind, inserted once for the module: its tests only read."""
    await clean_tables(database)
    async with database.work(SYSTEM) as work:
        token = await accounts.add_user(work, "ada@example.org", "ada")
    await platform.fill(database, "ada", PARENTS)
    client = Client(live_server.url, token)
    yield client
    await client.close()
