"""Tests of two transactions at once: one holds a lock until the other waits for it."""

from __future__ import annotations

import asyncio

from sqlalchemy import text

from db.core.work import Database

_WAITING = text("SELECT count(*) AS number FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")


async def wait_until_blocked(database: Database, *tasks: asyncio.Task[object]) -> None:
    """Return once each of the tasks waits for a lock of the caller's transaction. None of them can end before."""
    async with asyncio.timeout(60):
        while (await database.rows(_WAITING))[0].number < len(tasks):
            assert not any(task.done() for task in tasks), [task.result() for task in tasks if task.done()]
            await asyncio.sleep(0.01)
