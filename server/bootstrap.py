"""Migrations, bucket and admin, before the API and the workers start."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import structlog

from db.core.audit import AuditOrigin, Origin, acting
from db.core.viewer import SYSTEM
from db.core.work import Database
from db.errors import StateError
from db.migrations import upgrade
from db.services.accounts import ensure_admin, knows_token, new_token
from db.settings import StateSettings
from db.stores.objects import ObjectStore
from db.stores.redis import connect
from db.streams.notices import RedisNoticePublisher
from server.embedded.credentials import write_private
from server.settings import server_settings

CONNECT_TIMEOUT = 5  # seconds
INVALID_URL = "TRELLIS_DATABASE_URL is no address of PostgreSQL: write it as postgresql://user:password@host:port/name."

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class DatabaseUnusable(StateError):
    """PostgreSQL cannot be connected to with these settings."""


def prepare(settings: StateSettings, admin_token_file: Path | None = None) -> None:
    """Create or update tables, step catalogue, bucket and admin; idempotent and safe to run concurrently.

    The admin's token is the one of the settings, else of the file, which is created if missing; without either, no admin is created. Raises
    `InvalidInput` for an unusable address or token, `DatabaseUnusable` if PostgreSQL refuses or does not answer, `Unavailable` for the
    object store.
    """
    from workers.catalogue import project_steps_sync  # imports the libraries of all steps, which only a migration needs

    asyncio.run(_check_database(settings.database_url))
    upgrade(settings.database_url)
    project_steps_sync(settings.database_url)
    token = server_settings().admin_token.get_secret_value()
    kept_token = None if admin_token_file is None else _read_token(admin_token_file)
    if token and kept_token not in {None, token}:
        log.warning(
            "admin_token_file_outdated",
            file=str(admin_token_file),
            hint="TRELLIS_ADMIN_TOKEN is the admin's token, and the one in this file is not valid. Delete the file.",
        )
    if not token and admin_token_file is not None:
        token = kept_token or _create_token(admin_token_file)
    with acting(Origin(AuditOrigin.COMMAND_LINE)):
        is_known = asyncio.run(_ensure_bucket_and_admin(settings, token))
    if token and token == kept_token and not is_known:
        log.warning(
            "admin_token_of_another_database",
            file=str(admin_token_file),
            hint="The database, which may have been reset, did not know the token in this file. From now on it is the admin's token here too. For "
            "another one, stop Trellis, delete the file and start again.",
        )
    log.info("prepared", admin=bool(token))


async def _check_database(url: str) -> None:
    """Raise `DatabaseUnusable` with the place and the reason, without the password."""
    try:
        parts = urlsplit(url)
        place = f"{parts.hostname}:{parts.port or 5432}"
    except ValueError as error:
        raise DatabaseUnusable(INVALID_URL) from error
    connect_to: Any = asyncpg.connect  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - asyncpg leaves it untyped
    try:
        connection = await connect_to(url, timeout=CONNECT_TIMEOUT)
    except (asyncpg.PostgresError, OSError) as error:
        reason = str(error) or f"it did not answer within {CONNECT_TIMEOUT} s"
        raise DatabaseUnusable(f"PostgreSQL at {place} cannot be used: {reason}. Start it, or correct TRELLIS_DATABASE_URL.") from error
    except (asyncpg.InterfaceError, ValueError) as error:
        raise DatabaseUnusable(INVALID_URL) from error
    await connection.close()


async def _ensure_bucket_and_admin(settings: StateSettings, token: str) -> bool:
    """Return whether the database knew the admin's token before."""
    async with ObjectStore.open(settings) as objects:
        await objects.ensure_bucket()
    if not token:
        return False
    async with (
        connect(settings.redis_url) as redis,
        Database.open(settings, RedisNoticePublisher(redis)) as database,
        database.work(SYSTEM) as work,
    ):
        is_known = await knows_token(work, token)
        await ensure_admin(work, server_settings().admin_email, token)
        return is_known


def _read_token(path: Path) -> str | None:
    return (path.read_text().strip() or None) if path.exists() else None


def _create_token(path: Path) -> str:
    token = new_token()
    write_private(path, token + "\n")
    return token
