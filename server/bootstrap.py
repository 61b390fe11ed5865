"""What must be in place before the API and the workers start, and making people from the command line."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID

import structlog

from db.core.viewer import SYSTEM, UserRole, UserTier
from db.core.work import Database
from db.migrations import upgrade
from db.services.accounts import add_token, add_user, ensure_admin, new_token, revoke_tokens
from db.settings import StateSettings
from db.stores.objects import ObjectStore
from db.stores.redis import connect
from db.streams.notices import RedisNoticePublisher
from server.embedded.credentials import write_private
from server.settings import server_settings

log: structlog.stdlib.BoundLogger = structlog.get_logger()


def prepare(settings: StateSettings, admin_token_file: Path | None = None) -> None:
    """Tables, step catalogue, bucket, admin; safe to repeat and to run in several places at once.

    The admin's token is that of the settings, else that of the file, which is made where missing; without either there is no admin.
    """
    from workers.catalogue import project_steps_sync  # the steps' own libraries: only a migration pays for them

    upgrade(settings.database_url)
    project_steps_sync(settings.database_url)
    token = server_settings().admin_token.get_secret_value()
    if not token and admin_token_file is not None:
        token = _read_or_create_token(admin_token_file)
    asyncio.run(_ensure_bucket_and_admin(settings, token))
    log.info("prepared", admin=bool(token))


def create_user(settings: StateSettings, email: str, username: str, full_name: str | None, role: UserRole, tier: UserTier) -> str:
    """The new user's bearer token. Raises what `add_user` raises."""

    async def create() -> str:
        async with Database.open(settings) as database, database.work(SYSTEM) as work:
            return await add_user(work, email, username, full_name, role, tier)

    return asyncio.run(create())


def create_token(settings: StateSettings, email: str) -> str:
    """A further bearer token of a user. Raises `NotFound`."""

    async def create() -> str:
        async with Database.open(settings) as database, database.work(SYSTEM) as work:
            return await add_token(work, email, "by the command line")

    return asyncio.run(create())


def revoke(settings: StateSettings, email: str) -> int:
    """Every token of a user, at once also for connections that are open; how many. Raises `NotFound`."""

    async def revoke_all() -> int:
        async with (
            connect(settings.redis_url) as redis,
            Database.open(settings, RedisNoticePublisher(redis)) as database,
            database.work(SYSTEM) as work,
        ):
            return await revoke_tokens(work, email)

    return asyncio.run(revoke_all())


async def _ensure_bucket_and_admin(settings: StateSettings, token: str) -> UUID | None:
    async with ObjectStore.open(settings) as objects:
        await objects.ensure_bucket()
    if not token:
        return None
    async with Database.open(settings) as database, database.work(SYSTEM) as work:
        return await ensure_admin(work, server_settings().admin_email, token)


def _read_or_create_token(path: Path) -> str:
    if path.exists() and (token := path.read_text().strip()):
        return token
    token = new_token()
    write_private(path, token + "\n")
    return token
