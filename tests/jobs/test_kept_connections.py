"""Reads hand their connections on to each other, and keep none that is broken or that somebody else waits for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, cast

import pytest
from sqlalchemy import literal, select, text

from db.core import kept_connections
from db.core.prepared_rows import PreparedRows
from db.core.viewer import SYSTEM
from db.core.work import Database
from db.settings import StateSettings

ONE = PreparedRows(lambda _viewer: select(literal(1).label("one")))


@pytest.fixture
async def small(settings: StateSettings, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Database]:
    """A database with two connections, which no timer takes back from the reads."""
    monkeypatch.setattr(kept_connections, "SWEEP_INTERVAL", 3600)
    async with Database.open(settings.model_copy(update={"database_pool_size": 2, "database_read_concurrency": 2})) as database:
        yield database


async def read(database: Database) -> list[Any]:
    return [row.one for row in await ONE(database, SYSTEM)]


def checked_out(database: Database) -> int:
    return cast("Any", database.engine.pool).checkedout()


async def test_whoever_waits_for_a_connection_gets_one_that_reads_have_kept(small: Database) -> None:
    assert await asyncio.gather(read(small), read(small)) == [[1], [1]]
    assert (len(small.kept), checked_out(small)) == (2, 2)
    async with small.work(SYSTEM) as first, small.work(SYSTEM) as second:
        assert (await first.scalar(select(literal(1))), await second.scalar(select(literal(2)))) == (1, 2)
        reading = asyncio.create_task(read(small))
        await asyncio.sleep(0)
        assert len(small.kept) == 0
    assert await reading == [1]


async def test_a_connection_that_was_closed_meanwhile_is_not_used_again(small: Database) -> None:
    await read(small)
    async with small.session() as session:
        pids = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        assert (await session.execute(text(f"{pids} AND state = 'idle' AND query LIKE 'SELECT %one%'"))).all() == [(True,)]
    kept = cast("Any", small.kept)._idle[0].driver_connection
    async with asyncio.timeout(60):
        while not kept.is_closed():
            await asyncio.sleep(0.01)
    assert await read(small) == [1]


async def test_what_no_read_uses_goes_back_to_the_pool(settings: StateSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_connections, "SWEEP_INTERVAL", 0.01)
    async with Database.open(settings) as database:
        await read(database)
        async with asyncio.timeout(60):
            while checked_out(database):
                await asyncio.sleep(0.01)
        assert len(database.kept) == 0
