"""The doorbell of one worker: it rings for jobs through arq and answers what is rung. Redis may go and come back at any moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any
from uuid import UUID

import structlog
from arq.connections import ArqRedis

from db.errors import Unavailable
from db.services.jobs import Ring
from db.stores import queue
from db.stores.events import BELLS, LOST

log: structlog.stdlib.BoundLogger = structlog.get_logger()

LOOK = 1.0  # seconds between looks at the queues while nobody says that something was rung
TIDY = 4.0  # seconds between looks for invitations to jobs that wait no longer
LONGEST = 2.0


class Bells:
    """`sound` says whether invitations are carried at the moment. arq's readers are made anew after every fault, with empty hands."""

    def __init__(
        self,
        redis_url: str,
        queues: Sequence[str],
        slots: int,
        free: Callable[[], int],
        answer: Callable[[UUID], Awaitable[None]],
        invited: Callable[[Sequence[UUID]], Awaitable[AbstractSet[tuple[UUID, int]]]],
    ) -> None:
        self._redis_url = redis_url
        self._queues = queues
        self._slots = slots
        self._free = free
        self._claim = answer
        self._invited = invited
        self._redis: ArqRedis | None = None
        self._rung = asyncio.Event()
        self._heard: set[str] = set()
        self._cancelled: set[tuple[str, str]] = set()
        self._tidied = 0.0
        self.sound = False

    def wake(self, *names: str) -> None:
        """Look at these queues now; at all of them when none are named."""
        self._heard.update(names or self._queues)
        self._rung.set()

    def cancelled(self, name: str, job: str) -> None:
        """Take back whatever invites to this job of this queue; `job` is its id in hexadecimal."""
        self._cancelled.add((name, job))
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
            try:
                self._redis = redis = queue.connect(self._redis_url)
                bells = {name: queue.Bell(redis, name, self._answered, self._slots) for name in self._queues}
                await self._prove(redis)
                pause = 0.1
                while True:
                    await self._wait()
                    if not self.sound:  # a ring failed; Redis may have been away for that moment only
                        await self._prove(redis)
                    await self._withdraw(redis)
                    await self._look(redis, bells)
                    await self._tidy(redis)
            except LOST as error:
                self._mute(error)
            except Exception:  # the bell only saves time: it may fail in any way and must neither end the worker nor keep a slot
                log.exception("bells_failed")
            finally:
                await self._close()
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST)

    async def _prove(self, redis: ArqRedis) -> None:
        await redis.execute_command("PING")  # pyright: ignore[reportUnknownMemberType] - redis leaves it untyped
        self.sound = True
        self.wake()

    async def _close(self) -> None:
        """Nothing that goes wrong here may end the answering for good."""
        self.sound = False
        redis, self._redis = self._redis, None
        if redis is not None:
            try:
                await redis.aclose(close_connection_pool=True)
            except Exception:  # it is not used again, whatever state it is in
                log.warning("redis_not_closed", exc_info=True)

    async def _look(self, redis: ArqRedis, bells: Mapping[str, queue.Bell]) -> None:
        """Answer what was rung first, whichever queue it lies in: a busy queue must not keep the others from a slot."""
        while self._heard and (free := self._free()) > 0:
            heard, self._heard = self._heard, set()  # what is rung from here on is heard anew
            shares = await queue.shares(redis, sorted(heard), free)
            for name, share in shares.items():
                now = min(share, self._free())
                if now <= 0 or await bells[name].look(now):  # an answer may have led to nothing, and the slot to the next invitation
                    self._heard.add(name)

    async def _withdraw(self, redis: ArqRedis) -> None:
        gone, self._cancelled = self._cancelled, set()
        for name in {name for name, _ in gone}:
            jobs = {job for queue_name, job in gone if queue_name == name}
            entries = await queue.invitations(redis, name)
            await queue.withdraw(redis, name, [entry for entry in entries if entry.partition(":")[0] in jobs])

    async def _tidy(self, redis: ArqRedis) -> None:
        """What is invited to no more goes: jobs that were cancelled, or taken or rung for otherwise, and what nobody of us ever wrote.

        A ring is one dispatch of one job, so what has grown stale never becomes right again.
        """
        if time.monotonic() < self._tidied + TIDY:
            return
        self._tidied = time.monotonic()
        for name in self._queues:
            entries = {entry: queue.named(entry) for entry in await queue.invitations(redis, name)}
            if entries:
                try:
                    invited = await self._invited([found[0] for found in entries.values() if found is not None])
                except Unavailable:  # Postgres is away: another time
                    return
                await queue.withdraw(redis, name, [entry for entry, found in entries.items() if found not in invited])

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
        with suppress(Unavailable):  # the row waits, and is rung for again
            await asyncio.shield(asyncio.ensure_future(self._claim(UUID(job_id))))

    def _mute(self, error: Exception) -> None:
        if self.sound:
            log.warning("redis_carries_no_bells", error=repr(error))
        self.sound = False
