"""Migrations, bucket and admin, before the API and the workers start; users and tokens for the command line."""

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
    """Create or update tables, step catalogue, bucket and admin; idempotent and safe to run concurrently.

    The admin's token is the one of the settings, else of the file, which is created if missing; without either, no admin is created.
    """
    from workers.catalogue import project_steps_sync  # imports the libraries of all steps, which only a migration needs

    upgrade(settings.database_url)
    project_steps_sync(settings.database_url)
    token = server_settings().admin_token.get_secret_value()
    if not token and admin_token_file is not None:
        token = _read_or_create_token(admin_token_file)
    asyncio.run(_ensure_bucket_and_admin(settings, token))
    log.info("prepared", admin=bool(token))


def create_user(settings: StateSettings, email: str, username: str, full_name: str | None, role: UserRole, tier: UserTier) -> str:
    """Create a user; return their bearer token. Raises what `add_user` raises."""

    async def create() -> str:
        async with Database.open(settings) as database, database.work(SYSTEM) as work:
            return await add_user(work, email, username, full_name, role, tier)

    return asyncio.run(create())


def create_token(settings: StateSettings, email: str) -> str:
    """Create a further bearer token of a user. Raises `NotFound`."""

    async def create() -> str:
        async with Database.open(settings) as database, database.work(SYSTEM) as work:
            return await add_token(work, email, "by the command line")

    return asyncio.run(create())


def revoke(settings: StateSettings, email: str) -> int:
    """Revoke all tokens of a user, also for open connections; return their number. Raises `NotFound`."""

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
