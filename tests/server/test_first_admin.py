"""The admin whom the settings name: whatever users there are, and whatever the settings said before, the token is that of this admin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import select
from structlog.testing import capture_logs

from db.core.networks import NO_CLIENT
from db.core.viewer import SYSTEM, UserRole
from db.core.work import Database
from db.services import accounts
from db.services.accounts.sessions import start_session
from db.settings import StateSettings
from db.tables import User
from server.bootstrap import prepare
from server.settings import ServerSettings
from tests.client import Client
from tests.conftest import LiveServer, clean_tables
from tests.server.test_jobs_command import trellis

ADMIN = "admin@trellis.local"
TOKEN = "first-token-of-the-admin"
VIEWER = "{ viewer { email username role } }"


@pytest.fixture
async def empty(database: Database) -> AsyncGenerator[None]:
    """No user at all; afterwards the admin of the other tests."""
    await clean_tables(database)
    yield
    await clean_tables(database)


async def start(database: Database, email: str = ADMIN, token: str = TOKEN) -> None:
    """What each start of Trellis does with these settings."""
    async with database.work(SYSTEM) as work:
        await accounts.ensure_admin(work, email, token)


async def add(database: Database, email: str, username: str, role: UserRole = UserRole.MEMBER) -> str:
    async with database.work(SYSTEM) as work:
        return await accounts.add_user(work, email, username, role=role)


async def viewer(live_server: LiveServer, token: str) -> tuple[str, str, str] | None:
    """Email, username and role of the token's user; None for a token that is not valid."""
    client = Client(live_server.url, token)
    try:
        answer = await client.post(VIEWER)
    finally:
        await client.close()
    if answer.get("errors"):
        assert [error["extensions"]["code"] for error in answer["errors"]] == ["UNAUTHENTICATED"]
        return None
    row = answer["data"]["viewer"]
    return row["email"], row["username"], row["role"]


async def test_migrate_finds_a_free_username(empty: None, database: Database, settings: StateSettings, live_server: LiveServer) -> None:
    await add(database, "someone@example.org", "admin")
    await add(database, "another@example.org", "Admin-2")
    answer = await trellis("migrate", TRELLIS_ADMIN_TOKEN=TOKEN)
    assert answer.returncode == 0, answer.stderr
    assert await viewer(live_server, TOKEN) == (ADMIN, "admin-3", "ADMIN")


async def test_migrate_with_an_unusable_admin_says_so(empty: None, settings: StateSettings) -> None:
    answer = await trellis("migrate", TRELLIS_ADMIN_TOKEN="short", TRELLIS_ADMIN_EMAIL="nobody")
    assert answer.returncode == 1
    assert answer.stderr.splitlines()[-1] == (
        "TRELLIS_ADMIN_TOKEN: The admin's token needs at least 16 printable ASCII characters and no space. (and 1 more)"
    )


async def test_a_user_with_the_admins_address_becomes_admin(empty: None, database: Database, live_server: LiveServer) -> None:
    member_token = await add(database, "Admin@Trellis.local", "ann")
    async with database.work(SYSTEM) as work:
        user_id = await work.scalar(select(User.id).where(User.username == "ann"))
        _, session = await start_session(work, user_id, NO_CLIENT, timedelta(hours=1), timedelta(hours=1))
    assert await viewer(live_server, session) == ("Admin@Trellis.local", "ann", "MEMBER")
    await start(database)
    assert await viewer(live_server, session) is None, "a session that somebody stole from the member is no admin's"
    await start(database)
    assert await viewer(live_server, TOKEN) == await viewer(live_server, member_token) == ("Admin@Trellis.local", "ann", "ADMIN")


async def test_another_address_is_the_same_admins_new_one(empty: None, database: Database, live_server: LiveServer) -> None:
    await start(database)
    client = Client(live_server.url, TOKEN)
    dataset = await client.create_dataset("of the admin")
    await start(database, "root@example.org", "second-token-of-the-admin")
    assert await viewer(live_server, "second-token-of-the-admin") == ("root@example.org", "admin", "ADMIN")
    assert await viewer(live_server, TOKEN) is None
    await client.close()
    client = Client(live_server.url, "second-token-of-the-admin")
    owner = await client.one("query($id: ID!) { dataset(id: $id) { owner { email } } }", id=dataset)
    assert owner == {"owner": {"email": "root@example.org"}}
    await client.close()


async def test_the_token_goes_to_the_user_whose_address_is_configured(empty: None, database: Database, live_server: LiveServer) -> None:
    await start(database)
    ann_token = await add(database, "ann@example.org", "ann", UserRole.ADMIN)
    await start(database, "ann@example.org")
    assert await viewer(live_server, TOKEN) == await viewer(live_server, ann_token) == ("ann@example.org", "ann", "ADMIN")
    await start(database)
    assert await viewer(live_server, TOKEN) == (ADMIN, "admin", "ADMIN")
    assert await viewer(live_server, ann_token) == ("ann@example.org", "ann", "ADMIN")


async def test_a_token_of_someone_else_is_taken_over(empty: None, database: Database, live_server: LiveServer) -> None:
    bob_token = await add(database, "bob@example.org", "bob")
    await start(database, token=bob_token)
    assert await viewer(live_server, bob_token) == (ADMIN, "admin", "ADMIN")
    async with database.work(SYSTEM) as work:
        other = await accounts.add_token(work, "bob@example.org", "another")
    await start(database)
    assert await viewer(live_server, bob_token) is None
    assert await viewer(live_server, other) == ("bob@example.org", "bob", "MEMBER")


@pytest.mark.exhaustive
async def test_a_token_file_of_another_database_or_time_is_told(
    empty: None, settings: StateSettings, live_server: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "admin-token"

    async def said() -> list[str]:
        with capture_logs() as entries:
            await asyncio.to_thread(prepare, settings, file)
        return [entry["event"] for entry in entries if entry["event"].startswith("admin_token")]

    assert await said() == []
    created = file.read_text().strip()
    assert await said() == []
    file.write_text("token-of-the-database-before\n")
    assert await said() == ["admin_token_of_another_database"]
    assert await viewer(live_server, created) is None
    assert await viewer(live_server, "token-of-the-database-before") == (ADMIN, "admin", "ADMIN")
    assert await said() == []
    monkeypatch.setattr("server.bootstrap.server_settings", lambda: ServerSettings(admin_token=SecretStr(TOKEN)))
    assert await said() == ["admin_token_file_outdated"]
    assert await viewer(live_server, "token-of-the-database-before") is None
    assert await viewer(live_server, TOKEN) == (ADMIN, "admin", "ADMIN")
