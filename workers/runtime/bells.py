"""The doorbell of one worker: it rings for jobs through arq and answers what is rung. Redis may go and come back at any moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import structlog
from arq.connections import ArqRedis
from redis.exceptions import RedisError

from db.services.jobs import Ring
from db.stores import queue
from db.stores.events import BELLS

log: structlog.stdlib.BoundLogger = structlog.get_logger()

LOOK = 1.0  # seconds between looks at the queues while nobody says that something was rung
LONGEST = 2.0
LOST = (RedisError, OSError, TimeoutError)


class Bells:
    """`sound` says whether invitations are carried at the moment. arq's readers are made anew after every fault, with empty hands."""

    def __init__(
        self,
        redis_url: str,
        queues: Sequence[str],
        slots: int,
        free: Callable[[], int],
        answer: Callable[[UUID], Awaitable[None]],
    ) -> None:
        self._redis_url = redis_url
        self._queues = queues
        self._slots = slots
        self._free = free
        self._claim = answer
        self._redis: ArqRedis | None = None
        self._rung = asyncio.Event()
        self._heard: set[str] = set()
        self.sound = False

    def wake(self, *names: str) -> None:
        """Look at these queues now; at all of them when none are named."""
        self._heard.update(names or self._queues)
        self._rung.set()

    async def ring(self, rings: Sequence[Ring]) -> bool:
        """Invite every worker to these jobs; False when they cannot be reached."""
        if self._redis is None:
            return False
        by_queue: dict[str, list[tuple[UUID, int]]] = {}
        for ring in rings:
            by_queue.setdefault(ring.queue, []).append((ring.job_id, ring.dispatch_no))
        try:
            for name, entries in by_queue.items():
                await queue.ring(self._redis, name, entries)
                self.wake(name)
            for name in by_queue:  # others may be freer than we are
                await self._redis.execute_command("PUBLISH", BELLS, f"rung:{name}")  # pyright: ignore[reportUnknownMemberType] - redis leaves it untyped
        except LOST as error:
            self._mute(error)
            return False
        return True

    async def run(self) -> None:
        """Answer for ever."""
        pause = 0.1
        while True:
            self._redis = queue.connect(self._redis_url)
            bells = {name: queue.Bell(self._redis, name, self._answered, self._slots) for name in self._queues}
            try:
                await self._redis.execute_command("PING")  # pyright: ignore[reportUnknownMemberType] - redis leaves it untyped
                self.sound = True
                pause = 0.1
                self.wake()
                while True:
                    await self._wait()
                    await self._look(bells)
            except LOST as error:
                self._mute(error)
            except Exception:  # the bell only saves time: it may fail in any way and must neither end the worker nor keep a slot
                log.exception("bells_failed")
            finally:
                self.sound = False
                with suppress(*LOST):
                    await self._redis.aclose(close_connection_pool=True)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST)

    async def _look(self, bells: Mapping[str, queue.Bell]) -> None:
        for name, bell in bells.items():
            if name in self._heard:
                free = self._free()
                if free <= 0:
                    return
                self._heard.discard(name)
                await bell.look(free)

    async def _wait(self) -> None:
        """Until something was rung, or for a second; then every queue is looked at, for what is rung may go unheard."""
        try:
            async with asyncio.timeout(LOOK):
                await self._rung.wait()
        except TimeoutError:
            self._heard.update(self._queues)
        self._rung.clear()

    async def _answered(self, ctx: dict[Any, Any], job_id: str) -> None:  # noqa: ARG002 - the signature is arq's
        """arq calls this and may cancel it; a claim under way is not to be cut off, for its commit may have arrived already."""
        await asyncio.shield(asyncio.ensure_future(self._claim(UUID(job_id))))

    def _mute(self, error: Exception) -> None:
        if self.sound:
            log.warning("redis_carries_no_bells", error=repr(error))
        self.sound = False
