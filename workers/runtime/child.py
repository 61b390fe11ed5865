"""The worker's children: a warm one waits, so that a body starts at once."""

from __future__ import annotations

import asyncio
import os
from typing import Self

import structlog

from workers.runtime import family
from workers.runtime.house import Child, Ended, House, NurseryLost

__all__ = ["Child", "Ended", "Nursery", "NurseryLost"]

log: structlog.stdlib.BoundLogger = structlog.get_logger()

WARM_AFTER = 0.05


class Nursery:
    """Makes children. When its process dies another is started; the children that died with it have ended as by SIGKILL.

    With `preload`, a second process imports the heavy libraries while the first makes the first children. Once it has them all, new children
    come from it, and the first goes when its last child has ended. So no process that has a body to look after is ever busy importing, which
    may take seconds in which it kills nothing.

    With `adopts`, what bodies forked comes to this process when the nursery dies, and is killed. It must then have no other children than
    those it has now.
    """

    def __init__(self, *, preload: bool, adopts: bool = False) -> None:
        self._preload = preload
        self._adopts = adopts
        self._house: House | None = None
        self._houses: set[House] = set()
        self._known: set[int] = set()
        self._warming: asyncio.Task[None] | None = None
        self._spare: asyncio.Task[Child] | None = None
        self._spawning = asyncio.Lock()
        self._closing = False

    async def __aenter__(self) -> Self:
        if self._adopts:
            family.adopt()
            self._known = set(family.children())
        self._refill()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        for task in (self._spare, self._warming):
            if task is not None:
                task.cancel()
        houses = list(self._houses)
        for house in houses:
            house.leave()
        await asyncio.gather(*(house.left() for house in houses))

    @property
    def pid(self) -> int | None:
        """Of the process that makes new children."""
        return None if self._house is None else self._house.pid

    async def take(self) -> Child:
        """A child that waits for its order. Raises `NurseryLost` when there can be none."""
        spare, self._spare = self._spare, None
        # Forking takes some milliseconds of a core, which the body that starts now can use better.
        asyncio.get_running_loop().call_later(WARM_AFTER, self._refill)
        if spare is not None:
            try:
                child = await _awaited(spare)
            except (NurseryLost, OSError):
                log.warning("spare_child_lost")
            else:
                if not child.ended.done():
                    return child
                child.close()
        try:
            return await _awaited(asyncio.create_task(self._spawn(), name="child"))
        except OSError as error:
            raise NurseryLost(f"No process could be made: {error}") from error

    def _refill(self) -> None:
        if self._spare is None and not self._closing:
            self._spare = asyncio.create_task(self._spawn(), name="spare child")
            self._spare.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _spawn(self) -> Child:
        async with self._spawning:
            if self._house is None or not self._house.is_alive:
                self._house = self._open(preload=False)
                if self._preload and self._warming is None:
                    self._warming = asyncio.create_task(self._warm_up(), name="warm nursery")
            await self._house.ready()
            return await self._house.spawn()

    def _open(self, *, preload: bool) -> House:
        house = House(preload=preload, orphans=self._kill_orphans)
        self._houses.add(house)
        house.gone.add_done_callback(lambda _: self._houses.discard(house))
        return house

    async def _warm_up(self) -> None:
        """Without the libraries, each body imports what it needs itself; so a failure here costs time alone."""
        try:
            warm = self._open(preload=True)
            await warm.ready(patience=None)
            async with self._spawning:
                cold, self._house = self._house, warm
                spare, self._spare = self._spare, None
                if spare is not None:
                    spare.add_done_callback(_dismiss)
                if cold is not None:
                    cold.retire()
            self._refill()
        except (NurseryLost, OSError):
            log.warning("nursery_stays_cold", exc_info=True)
        finally:
            self._warming = None

    def _kill_orphans(self) -> bool:
        return self._adopts and family.kill_orphans({*self._known, *(house.pid for house in self._houses if house.is_alive), os.getpid()})


async def _awaited(task: asyncio.Task[Child]) -> Child:
    """The child; when the waiting is cancelled, the child that comes is sent away."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_dismiss)
        raise


def _dismiss(task: asyncio.Task[Child]) -> None:
    """A child without an order ends when its pipe does."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()
