"""Tell a slow statement from a PostgreSQL that does not answer, and end the wait for the latter."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

import asyncpg
import structlog
from sqlalchemy import Connection, PoolProxiedConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.util import greenlet_spawn

from db.core.deadlines import Deadlines
from db.core.kept_connections import KeptConnections
from db.errors import StateError, Unavailable

log: structlog.stdlib.BoundLogger = structlog.get_logger()

# Seconds for which a connection may be waited for or checked out before PostgreSQL is probed; the interval doubles with each probe.
FIRST_PROBE_DELAY = 1.0
MAX_PROBE_INTERVAL = 8.0
PROBE_TIMEOUT = 1.5  # seconds
COOLDOWN = 1.0  # seconds without a further probe after one that failed
_OPTIONS = frozenset(
    {"prepared_statement_cache_size", "prepared_statement_name_func"}
)  # SQLAlchemy's own options, which asyncpg does not take

_connect: Any = asyncpg.connect  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - asyncpg types its arguments thinly


class ConnectionWatchdog:
    """Watch the connections of one engine.

    A network partition closes no connection, and `statement_timeout` is enforced by a server that can no longer report it: a client
    would wait for ever. So the watchdog opens another connection; if that fails, it terminates the connections that wait, which the
    layers above handle as lost connections. A PostgreSQL that is too busy to open one in time, but answers others meanwhile, is waited for:
    terminated connections are opened again, each for more than a statement costs, and that would keep it busy.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._probe_task: asyncio.Task[bool] | None = None
        self._unavailable_until = 0.0
        self._answered_at = 0.0
        self.first_probes = Deadlines(FIRST_PROBE_DELAY)

    def raise_if_unavailable(self) -> None:
        """Raise `Unavailable` if a probe failed within `COOLDOWN`: clients that queue for a connection must not each wait for a probe."""
        if time.monotonic() < self._unavailable_until:
            raise Unavailable("database", "PostgreSQL did not answer a moment ago.")

    def record_answer(self) -> None:
        """A connection was used and returned without an error."""
        self._answered_at = time.monotonic()

    async def is_reachable(self) -> bool:
        """Probe PostgreSQL; concurrent callers share one probe."""
        if self._probe_task is None or self._probe_task.done():
            self._probe_task = asyncio.create_task(self._probe(), name="probe PostgreSQL")
        return await asyncio.shield(self._probe_task)

    async def _probe(self) -> bool:
        _, options = self._engine.dialect.create_connect_args(self._engine.url)
        arguments = {name: value for name, value in options.items() if name not in _OPTIONS}
        started_at = time.monotonic()
        try:
            connection = await _connect(**arguments, timeout=PROBE_TIMEOUT)
        except OSError as error:
            if isinstance(error, TimeoutError) and self._answered_at > started_at:
                return True
            self._unavailable_until = time.monotonic() + COOLDOWN
            log.warning("postgres_unavailable", error=repr(error))
            return False
        except (asyncpg.PostgresError, asyncpg.InterfaceError):
            return True  # a refusal is an answer
        connection.terminate()
        return True


C = TypeVar("C", bound="AsyncConnection | PoolProxiedConnection")


class _CheckedOut(ABC, Generic[C]):
    """Check out a pooled connection under `limit`; raise `Unavailable` if PostgreSQL stops answering meanwhile.

    Probing starts with the wait for the connection. This is a class because every read passes here, and nested generator context managers
    cost more.
    """

    def __init__(self, watchdog: ConnectionWatchdog, kept: KeptConnections, limit: asyncio.Semaphore | None) -> None:
        self._watchdog = watchdog
        self._kept = kept
        self._limit = limit
        self._driver_connection: Any = None
        self._is_terminated = False
        self._probe_task: asyncio.Task[None] | None = None

    def _take_kept(self) -> C | None:
        """A connection that an earlier read has left."""
        return None

    @abstractmethod
    async def _connect(self) -> C: ...

    @abstractmethod
    async def _release(self) -> None: ...

    async def __aenter__(self) -> C:
        self._watchdog.raise_if_unavailable()
        self._checkout_timeout = asyncio.timeout(None)
        self._probe_timer = self._watchdog.first_probes.set(self._start_probing)
        try:
            async with self._checkout_timeout:
                return await self._check_out()
        except BaseException as error:
            self._stop_probing()
            if isinstance(error, TimeoutError) and self._is_terminated:
                raise Unavailable("database", "PostgreSQL does not answer.") from error
            raise

    async def _check_out(self) -> C:
        if self._limit is not None:
            await self._limit.acquire()
        try:
            connection = self._take_kept() or await self._kept.check_out(self._connect)
            try:
                self._watchdog.raise_if_unavailable()
                self._driver_connection = _driver_connection_of(connection)
            except BaseException:
                await self._release()
                raise
        except BaseException:
            if self._limit is not None:
                self._limit.release()
            raise
        return connection

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._stop_probing()
        try:
            await self._release()
        finally:
            if self._limit is not None:
                self._limit.release()
        if error is None and not self._is_terminated:
            self._watchdog.record_answer()
        # A driver that is terminated between two of its own steps raises arbitrary errors, such as AttributeError.
        if self._is_terminated and isinstance(error, Exception) and not isinstance(error, StateError):
            raise Unavailable("database", repr(error)) from error

    def _start_probing(self) -> None:
        self._probe_task = asyncio.create_task(self._probe_until_silent(), name="connection watchdog")

    async def _probe_until_silent(self) -> None:
        interval = FIRST_PROBE_DELAY
        while await self._watchdog.is_reachable():
            await asyncio.sleep(interval)
            interval = min(interval * 2, MAX_PROBE_INTERVAL)
        self._is_terminated = True
        if self._driver_connection is None:
            self._checkout_timeout.reschedule(0.0)  # a moment in the past: expire at once
        else:
            self._driver_connection.terminate()

    def _stop_probing(self) -> None:
        self._watchdog.first_probes.clear(self._probe_timer)
        if self._probe_task is not None:
            self._probe_task.cancel()


class CheckedOutConnection(_CheckedOut[AsyncConnection]):
    """A connection of SQLAlchemy's."""

    def __init__(
        self, watchdog: ConnectionWatchdog, kept: KeptConnections, engine: AsyncEngine, limit: asyncio.Semaphore | None = None
    ) -> None:
        super().__init__(watchdog, kept, limit)
        self._connection = engine.connect()

    async def _connect(self) -> AsyncConnection:
        return await self._connection

    async def _release(self) -> None:
        await self._connection.__aexit__(None, None, None)


class CheckedOutDriverConnection(_CheckedOut[PoolProxiedConnection]):
    """A connection as it is in the pool, for statements that the driver executes: each is a transaction of its own.

    SQLAlchemy's connection around it would take as long as the statement.
    """

    def __init__(
        self, watchdog: ConnectionWatchdog, kept: KeptConnections, engine: AsyncEngine, limit: asyncio.Semaphore | None = None
    ) -> None:
        super().__init__(watchdog, kept, limit)
        self._engine = engine.sync_engine
        self._connection: PoolProxiedConnection | None = None

    async def __aenter__(self) -> PoolProxiedConnection:
        self._watchdog.raise_if_unavailable()
        connection = None if self._limit is not None and self._limit.locked() else self._take_kept()
        if connection is None:
            return await super().__aenter__()
        if self._limit is not None:
            await self._limit.acquire()  # at once, since it was not locked
        self._driver_connection = connection.driver_connection
        self._probe_timer = self._watchdog.first_probes.set(self._start_probing)
        return connection

    def _take_kept(self) -> PoolProxiedConnection | None:
        self._connection = self._kept.take()
        return self._connection

    async def _connect(self) -> PoolProxiedConnection:
        self._connection = await greenlet_spawn(self._check_out_of_pool)
        return self._connection

    def _check_out_of_pool(self) -> PoolProxiedConnection:
        dialect = self._engine.dialect
        try:
            return self._engine.raw_connection()
        except dialect.loaded_dbapi.Error as error:
            Connection._handle_dbapi_exception_noconnection(error, dialect, self._engine)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - raises the same as `connect`
            raise

    async def _release(self) -> None:
        if self._connection is not None and not self._kept.keep(self._connection):
            await greenlet_spawn(self._connection.close)


def _driver_connection_of(connection: AsyncConnection | PoolProxiedConnection) -> Any:
    if isinstance(connection, AsyncConnection):
        sync_connection = connection.sync_connection
        assert sync_connection is not None
        return sync_connection.connection.driver_connection
    return connection.driver_connection
