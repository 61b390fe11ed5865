"""Connections that short reads hand on to each other, instead of giving them back to the pool: SQLAlchemy's way there and back took as long as
a small statement.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from sqlalchemy import PoolProxiedConnection
from sqlalchemy.util import greenlet_spawn

C = TypeVar("C")

SWEEP_INTERVAL = 0.05  # seconds; what no read has used for this long goes back to the pool


class KeptConnections:
    """The connections that no read uses at the moment, the one used last on top.

    The pool counts them as checked out. So nothing is kept while somebody waits for a connection, and whoever begins to wait gets one of them.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._idle: list[PoolProxiedConnection] = []
        self._unused = 0  # that many at the bottom were not used since the last sweep
        self._waiting = 0
        self._timer: asyncio.TimerHandle | None = None
        self._returning: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._idle)

    def take(self) -> PoolProxiedConnection | None:
        """Return a connection that is still open."""
        while self._idle:
            connection = self._idle.pop()
            self._unused = min(self._unused, len(self._idle))
            if not _is_closed(connection):
                return connection
            self._return(connection)
        return None

    def keep(self, connection: PoolProxiedConnection) -> bool:
        """Take over a connection after a read, unless it is broken or somebody waits for one."""
        if self._waiting or not connection.is_valid or _is_closed(connection):
            return False
        self._idle.append(connection)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SWEEP_INTERVAL, self._sweep)
        return True

    async def check_out(self, connect: Callable[[], Awaitable[C]]) -> C:
        """Await a connection of the pool."""
        if self._pool.checkedout() < self._pool.size():
            return await connect()
        self._waiting += 1
        try:
            if self._idle:
                self._return(self._pop_oldest())
            return await connect()
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """Give all back, and keep none from now on."""
        self._waiting += 1
        if self._timer is not None:
            self._timer.cancel()
        while self._idle:
            self._return(self._pop_oldest())
        await asyncio.gather(*self._returning, return_exceptions=True)

    def _pop_oldest(self) -> PoolProxiedConnection:
        self._unused = max(self._unused - 1, 0)
        return self._idle.pop(0)

    def _sweep(self) -> None:
        unused, self._idle = self._idle[: self._unused], self._idle[self._unused :]
        for connection in unused:
            self._return(connection)
        self._unused = len(self._idle)
        self._timer = asyncio.get_running_loop().call_later(SWEEP_INTERVAL, self._sweep) if self._idle else None

    def _return(self, connection: PoolProxiedConnection) -> None:
        task = asyncio.create_task(_give_back(connection), name="give a connection back")
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)


async def _give_back(connection: PoolProxiedConnection) -> None:
    if connection.is_valid and _is_closed(connection):
        await greenlet_spawn(connection.invalidate)
    await greenlet_spawn(connection.close)


def _is_closed(connection: PoolProxiedConnection) -> bool:
    driver_connection: Any = connection.driver_connection
    return driver_connection.is_closed()
