"""A migrated database, of which each test process gets a copy: a copy takes a tenth of a second, all migrations take some."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import asyncpg

from db.migrations import upgrade

NAME = "trellis_template"
RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
"""The run of tests that this process belongs to: a template of another one may be of other migrations."""


async def create_database(base_url: str, name: str) -> str:
    """Make the database anew, migrated, with the steps of this release; return its URL. `base_url` is of another one on the server."""
    connect: Any = asyncpg.connect
    connection = await connect(base_url)
    try:
        await connection.execute("SELECT pg_advisory_lock(hashtext($1))", NAME)
        statement = "SELECT 1 FROM pg_database d JOIN pg_shdescription s ON s.objoid = d.oid WHERE datname = $1 AND description = $2"
        if not await connection.fetchval(statement, NAME, RUN):
            await _create_template(connection, base_url)
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE {NAME} STRATEGY file_copy')
    finally:
        await connection.close()
    return url_of(base_url, name)


async def _create_template(connection: Any, base_url: str) -> None:
    from workers.catalogue import project_steps_sync  # slow import: only the test process that makes the template pays for it

    await connection.execute(f"DROP DATABASE IF EXISTS {NAME} WITH (FORCE)")
    await connection.execute(f"CREATE DATABASE {NAME}")
    for step in (upgrade, project_steps_sync):  # in a thread: each runs an event loop of its own
        await asyncio.to_thread(step, url_of(base_url, NAME))
    await connection.execute(f"COMMENT ON DATABASE {NAME} IS '{RUN}'")


def url_of(base_url: str, name: str) -> str:
    return f"{base_url.rsplit('/', 1)[0]}/{name}"
