"""Tells a statement that takes long from a Postgres that answers nobody, and ends the waiting for the latter."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import asyncpg
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db.errors import StateError, Unavailable

log: structlog.stdlib.BoundLogger = structlog.get_logger()

DOUBT = 1.0  # seconds that a connection may be waited for or lent before somebody asks whether Postgres is there; each time twice as long
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
        """Raise `Unavailable` if Postgres has just been found silent: those who queued up must not find out one after the other."""
        if time.monotonic() < self._silent_until:
            raise Unavailable("database", "PostgreSQL did not answer a moment ago.")

    async def answers(self) -> bool:
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


class Lent:
    """A context manager: a connection of the engine's, once `limit` lets one pass, watched over from the first moment of waiting for it.

    Raises `Unavailable` for whatever becomes of it where Postgres is silent. A class, not a generator over generators: every read passes here.
    """

    def __init__(self, watch: Watch, engine: AsyncEngine, limit: asyncio.Semaphore | None = None) -> None:
        self._watch = watch
        self._connection = engine.connect()
        self._limit = limit
        self._driver: Any = None
        self._is_cut_off = False
        self._asking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> AsyncConnection:
        self._watch.pass_or_refuse()
        self._waiting = asyncio.timeout(None)
        self._timer = asyncio.get_running_loop().call_later(DOUBT, self._doubt)
        try:
            async with self._waiting:
                await self._wait()
        except BaseException as error:
            self._dismiss()
            if isinstance(error, TimeoutError) and self._is_cut_off:
                raise Unavailable("database", "PostgreSQL does not answer.") from error
            raise
        return self._connection

    async def _wait(self) -> None:
        if self._limit is not None:
            await self._limit.acquire()
        try:
            await self._connection
            try:
                self._watch.pass_or_refuse()
                self._driver = _driver(self._connection)
            except BaseException:
                await self._connection.__aexit__(None, None, None)
                raise
        except BaseException:
            if self._limit is not None:
                self._limit.release()
            raise

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._dismiss()
        try:
            await self._connection.__aexit__(None, None, None)
        finally:
            if self._limit is not None:
                self._limit.release()
        # The driver, cut off between two steps of its own, stumbles over what it no longer has; that is no fault of anybody's code.
        if self._is_cut_off and isinstance(error, Exception) and not isinstance(error, StateError):
            raise Unavailable("database", repr(error)) from error

    def _doubt(self) -> None:
        self._asking = asyncio.create_task(self._ask(), name="is Postgres there?")

    async def _ask(self) -> None:
        pause = DOUBT
        while await self._watch.answers():
            await asyncio.sleep(pause)
            pause = min(pause * 2, SELDOM)
        self._is_cut_off = True
        if self._driver is None:
            self._waiting.reschedule(0.0)  # which is long ago
        else:
            self._driver.terminate()

    def _dismiss(self) -> None:
        self._timer.cancel()
        if self._asking is not None:
            self._asking.cancel()


def _driver(connection: AsyncConnection) -> Any:
    sync = connection.sync_connection
    assert sync is not None
    return sync.connection.driver_connection
