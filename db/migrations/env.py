"""Alembic's environment: online, over asyncpg, all revisions in one transaction under an advisory lock."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from alembic import context
from sqlalchemy import Connection, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

from db.core.base import EnumText
from db.migrations.partitions import include_name
from db.tables import Table

_LOCK = 7_263_001  # advisory lock key; arbitrary, but used for nothing else


def _run(connection: Connection) -> None:
    connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    context.configure(
        connection=connection,
        target_metadata=Table.metadata,
        compare_type=True,
        compare_server_default=True,
        include_name=include_name,
        render_item=_render_item,
    )
    with context.begin_transaction():
        context.run_migrations()


def _render_item(kind: str, item: Any, _context: object) -> str | Literal[False]:
    """Write an enum as the text that it is stored as: a revision is frozen and imports no type of the code."""
    return "sa.Text()" if kind == "type" and isinstance(item, EnumText) else False


async def _main() -> None:
    url: str = context.config.attributes["database_url"]
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://", 1), poolclass=pool.NullPool)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_run)
    finally:
        await engine.dispose()


asyncio.run(_main())
