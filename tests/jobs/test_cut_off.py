"""A unit of work whose connection was aborted, because PostgreSQL stopped answering, raises `Unavailable`, whatever the driver raises."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from sqlalchemy import text

from db.core import connection_watchdog
from db.core.viewer import SYSTEM
from db.core.work import Database
from db.errors import NotFound, Unavailable
from db.settings import StateSettings


async def test_a_database_that_answers_others_is_waited_for(
    settings: StateSettings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is too busy for another connection, as many processes that connect again at once make it."""
    monkeypatch.setattr(connection_watchdog, "FIRST_PROBE_DELAY", 0.05)
    monkeypatch.setattr(connection_watchdog, "PROBE_TIMEOUT", 0.2)
    probes = 0

    async def connect_in_vain(**_: Any) -> Any:
        nonlocal probes
        probes += 1
        await asyncio.sleep(connection_watchdog.PROBE_TIMEOUT)
        raise TimeoutError

    monkeypatch.setattr(connection_watchdog, "_connect", connect_in_vain)
    async with Database.open(settings) as own:
        await own.rows(text("SELECT 1"))

        async def wait_for(seconds: float) -> None:
            async with own.work(SYSTEM) as work:
                await work.run(text(f"SELECT pg_sleep({seconds})"))

        waiting = asyncio.create_task(wait_for(1.5))
        async with asyncio.timeout(60):
            while not waiting.done():
                assert (await own.rows(text("SELECT 1")))[0][0] == 1
                await asyncio.sleep(0)
        await waiting
        assert probes > 1
        with pytest.raises(Unavailable):
            await wait_for(30)


async def test_whatever_a_driver_says_whose_connection_was_cut_off(
    settings: StateSettings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = connection_watchdog._connect  # pyright: ignore[reportPrivateUsage]
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts connections and sends nothing

        async def connect_to_silent_server(**options: Any) -> Any:
            return await connect(**{**options, "host": "127.0.0.1", "port": silent.getsockname()[1]})

        monkeypatch.setattr(connection_watchdog, "FIRST_PROBE_DELAY", 0.05)
        monkeypatch.setattr(connection_watchdog, "COOLDOWN", 0.0)

        async def run_idle_work(error: Exception | None = None, *, is_cut_off: bool = True) -> None:
            async with Database.open(settings) as own, own.work(SYSTEM) as work:
                driver: Any = (await work.connection.get_raw_connection()).driver_connection
                if is_cut_off:
                    with monkeypatch.context() as patched:
                        patched.setattr(connection_watchdog, "PROBE_TIMEOUT", 0.2)
                        patched.setattr(connection_watchdog, "_connect", connect_to_silent_server)
                        async with asyncio.timeout(60):
                            while not driver.is_closed():
                                await asyncio.sleep(0.01)
                if error is not None:
                    raise error
                assert driver._protocol.bind_execute  # as asyncpg does between two steps; None after an abort

        with pytest.raises(Unavailable):
            await run_idle_work()
        with pytest.raises(NotFound):
            await run_idle_work(NotFound("a row that does not exist"))
        with pytest.raises(AttributeError, match="a fault"):  # of a connection that was not aborted
            await run_idle_work(AttributeError("a fault"), is_cut_off=False)
    assert (await database.rows(text("SELECT 1")))[0][0] == 1
