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


async def test_whatever_a_driver_says_whose_connection_was_cut_off(
    settings: StateSettings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = connection_watchdog._connect  # pyright: ignore[reportPrivateUsage]
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts connections and sends nothing

        async def connect_to_silent_server(**options: Any) -> Any:
            return await connect(**{**options, "host": "127.0.0.1", "port": silent.getsockname()[1]})

        monkeypatch.setattr(connection_watchdog, "FIRST_PROBE_DELAY", 0.05)
        monkeypatch.setattr(connection_watchdog, "PROBE_TIMEOUT", 0.2)
        monkeypatch.setattr(connection_watchdog, "COOLDOWN", 0.0)
        monkeypatch.setattr(connection_watchdog, "_connect", connect_to_silent_server)

        async def run_idle_work(wait: float, error: Exception | None = None) -> None:
            async with Database.open(settings) as own, own.work(SYSTEM) as work:
                driver: Any = (await work.connection.get_raw_connection()).driver_connection
                await asyncio.sleep(wait)
                if error is not None:
                    raise error
                assert driver._protocol.bind_execute  # as asyncpg does between two steps; None after an abort

        with pytest.raises(Unavailable):
            await run_idle_work(1.0)
        with pytest.raises(NotFound):
            await run_idle_work(1.0, NotFound("a row that does not exist"))
        with pytest.raises(AttributeError, match="a fault"):  # of a connection that was not aborted
            await run_idle_work(0.0, AttributeError("a fault"))
    assert (await database.rows(text("SELECT 1")))[0][0] == 1
