"""Work whose connection was cut off, because Postgres answered nobody, is UNAVAILABLE, whatever the driver says of it."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from sqlalchemy import text

from db.core import watch
from db.core.viewer import SYSTEM
from db.core.work import Database
from db.errors import NotFound, Unavailable
from db.settings import StateSettings


async def test_whatever_a_driver_says_whose_connection_was_cut_off(
    settings: StateSettings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = watch._connect  # pyright: ignore[reportPrivateUsage]
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it lets everybody in and says nothing

        async def nobody_there(**options: Any) -> Any:
            return await connect(**{**options, "host": "127.0.0.1", "port": silent.getsockname()[1]})

        monkeypatch.setattr(watch, "DOUBT", 0.05)
        monkeypatch.setattr(watch, "PATIENCE", 0.2)
        monkeypatch.setattr(watch, "RESPITE", 0.0)
        monkeypatch.setattr(watch, "_connect", nobody_there)

        async def ends(wait: float, error: Exception | None = None) -> None:
            async with Database.open(settings) as own, own.work(SYSTEM) as work:
                driver: Any = (await work.connection.get_raw_connection()).driver_connection
                await asyncio.sleep(wait)
                if error is not None:
                    raise error
                assert driver._protocol.bind_execute  # as it does between two of its steps

        with pytest.raises(Unavailable):
            await ends(1.0)
        with pytest.raises(NotFound):
            await ends(1.0, NotFound("what was looked for before"))
        with pytest.raises(AttributeError, match="a fault"):  # of a connection that nobody cut off
            await ends(0.0, AttributeError("a fault"))
    assert (await database.rows(text("SELECT 1")))[0][0] == 1
