"""Tells a statement that takes long from a Postgres that answers nobody, and ends the waiting for the latter."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import asyncpg
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db.errors import StateError, Unavailable

log: structlog.stdlib.BoundLogger = structlog.get_logger()

DOUBT = 1.0  # seconds that a connection may be lent before somebody asks whether Postgres is there; each time twice as long
SELDOM = 8.0
PATIENCE = 1.5  # seconds that it has to answer
RESPITE = 1.0  # seconds for which it is not asked again then
_OPTIONS = frozenset({"prepared_statement_cache_size", "prepared_statement_name_func"})  # the library's own, unknown to its driver

_connect: Any = asyncpg.connect  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - it types what an engine says thinly


class Watch:
    """Of one engine's connections. A network that falls silent closes none of them, and the timeout of a statement is kept by a server
    that can no longer tell: whoever waits would wait for ever. So another connection is tried, and if nobody answers there, those that
    wait are cut off, which all that is above takes for what it is, a connection that was lost.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._asked: asyncio.Task[bool] | None = None
        self._silent_until = 0.0

    def pass_or_refuse(self) -> None:
        """Raise `Unavailable` if Postgres has just been found silent: those who queued up must not wait one after the other."""
        if time.monotonic() < self._silent_until:
            raise Unavailable("database", "PostgreSQL did not answer a moment ago.")

    @contextmanager
    def over(self, connection: AsyncConnection) -> Generator[None]:
        """While the block uses this connection. Raises `Unavailable` for whatever became of it once the connection was cut off."""
        loop = asyncio.get_running_loop()
        driver = _driver(connection)
        asking: list[asyncio.Task[None]] = []
        timer = loop.call_later(DOUBT, lambda: asking.append(loop.create_task(self._doubt(driver), name="is Postgres there?")))
        try:
            yield
        except Exception as error:
            # The driver, cut off between two steps of its own, stumbles over what it no longer has; that is no fault of anybody's code.
            is_cut_off = any(task.done() and not task.cancelled() and task.exception() is None for task in asking)
            if is_cut_off and not isinstance(error, StateError):
                raise Unavailable("database", repr(error)) from error
            raise
        finally:
            timer.cancel()
            for task in asking:
                task.cancel()

    async def _doubt(self, driver: Any) -> None:
        """Return once the connection has been cut off, and not before."""
        pause = DOUBT
        while await self._answers():
            await asyncio.sleep(pause)
            pause = min(pause * 2, SELDOM)
        driver.terminate()

    async def _answers(self) -> bool:
        """All who doubt at once ask once."""
        if self._asked is None or self._asked.done():
            self._asked = asyncio.create_task(self._ask(), name="asking Postgres")
        return await asyncio.shield(self._asked)

    async def _ask(self) -> bool:
        _, options = self._engine.dialect.create_connect_args(self._engine.url)
        arguments = {name: value for name, value in options.items() if name not in _OPTIONS}
        try:
            connection = await _connect(**arguments, timeout=PATIENCE)
        except OSError as error:
            self._silent_until = time.monotonic() + RESPITE
            log.warning("postgres_is_silent", error=repr(error))
            return False
        except (asyncpg.PostgresError, asyncpg.InterfaceError):
            return True  # it refused, and so it is there
        connection.terminate()
        return True


def _driver(connection: AsyncConnection) -> Any:
    sync = connection.sync_connection
    assert sync is not None
    return sync.connection.driver_connection
