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
from db.services.jobs import DispatchNotice
from db.stores import queue
from db.stores.redis import CONNECTION_ERRORS
from db.streams.notices import DISPATCH_CHANNEL

log: structlog.stdlib.BoundLogger = structlog.get_logger()

POLL_INTERVAL = 1.0  # seconds between looks at the queues while nobody says that something was rung
STALE_CHECK_INTERVAL = 4.0  # seconds between looks for invitations to jobs that wait no longer
MAX_BACKOFF = 2.0


class DispatchListener:
    """`sound` says whether invitations are carried at the moment. arq's readers are made anew after every fault, with empty hands."""

    def __init__(
        self,
        redis_url: str,
        queues: Sequence[str],
        slots: int,
        free_slots: Callable[[], int],
        claim: Callable[[UUID], Awaitable[None]],
        current_dispatches: Callable[[Sequence[UUID]], Awaitable[AbstractSet[tuple[UUID, int]]]],
    ) -> None:
        self._redis_url = redis_url
        self._queues = queues
        self._slots = slots
        self._free_slots = free_slots
        self._claim = claim
        self._current_dispatches = current_dispatches
        self._redis: ArqRedis | None = None
        self._wake_event = asyncio.Event()
        self._notified_queues: set[str] = set()
        self._cancelled_jobs: set[tuple[str, str]] = set()
        self._stale_checked_at = 0.0
        self.is_connected = False

    def wake(self, *names: str) -> None:
        """Look at these queues now; at all of them when none are named."""
        self._notified_queues.update(names or self._queues)
        self._wake_event.set()

    def job_cancelled(self, name: str, job: str) -> None:
        """Take back whatever invites to this job of this queue; `job` is its id in hexadecimal."""
        self._cancelled_jobs.add((name, job))
        self._wake_event.set()

    async def notify(self, dispatches: Sequence[DispatchNotice]) -> bool:
        """Invite every worker to these jobs; False when they cannot be reached."""
        if self._redis is None:
            return False
        by_queue: dict[str, list[tuple[UUID, int]]] = {}
        for dispatch in dispatches:
            by_queue.setdefault(dispatch.queue, []).append((dispatch.job_id, dispatch.dispatch_no))
        try:
            for name, entries in by_queue.items():
                await queue.enqueue(self._redis, name, entries)
                self.wake(name)
            for name in by_queue:  # others may be freer than we are
                await self._redis.execute_command("PUBLISH", DISPATCH_CHANNEL, f"rung:{name}")  # pyright: ignore[reportUnknownMemberType] - redis leaves it untyped
        except CONNECTION_ERRORS as error:
            self._mark_disconnected(error)
            return False
        return True

    async def run(self) -> None:
        """Answer for ever."""
        backoff = 0.1
        while True:
            try:
                self._redis = redis = queue.connect(self._redis_url)
                readers = {name: queue.QueueReader(redis, name, self._on_dispatch, self._slots) for name in self._queues}
                await self._ping(redis)
                backoff = 0.1
                while True:
                    await self._wait()
                    if not self.is_connected:  # a ring failed; Redis may have been away for that moment only
                        await self._ping(redis)
                    await self._withdraw_cancelled(redis)
                    await self._read_queues(redis, readers)
                    await self._withdraw_stale(redis)
            except CONNECTION_ERRORS as error:
                self._mark_disconnected(error)
            except Exception:  # the bell only saves time: it may fail in any way and must neither end the worker nor keep a slot
                log.exception("bells_failed")
            finally:
                await self._close()
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, MAX_BACKOFF)

    async def _ping(self, redis: ArqRedis) -> None:
        await redis.execute_command("PING")  # pyright: ignore[reportUnknownMemberType] - redis leaves it untyped
        self.is_connected = True
        self.wake()

    async def _close(self) -> None:
        """Nothing that goes wrong here may end the answering for good."""
        self.is_connected = False
        redis, self._redis = self._redis, None
        if redis is not None:
            try:
                await redis.aclose(close_connection_pool=True)
            except Exception:  # it is not used again, whatever state it is in
                log.warning("redis_not_closed", exc_info=True)

    async def _read_queues(self, redis: ArqRedis, readers: Mapping[str, queue.QueueReader]) -> None:
        """Answer what was rung first, whichever queue it lies in: a busy queue must not keep the others from a slot."""
        while self._notified_queues and (free_slots := self._free_slots()) > 0:
            notified, self._notified_queues = self._notified_queues, set()  # what is rung from here on is heard anew
            shares = await queue.next_counts(redis, sorted(notified), free_slots)
            for name, share in shares.items():
                count = min(share, self._free_slots())
                if count <= 0 or await readers[name].poll(count):  # an answer may have led to nothing, and the slot to the next invitation
                    self._notified_queues.add(name)

    async def _withdraw_cancelled(self, redis: ArqRedis) -> None:
        cancelled, self._cancelled_jobs = self._cancelled_jobs, set()
        for name in {name for name, _ in cancelled}:
            jobs = {job for queue_name, job in cancelled if queue_name == name}
            entries = await queue.list_entries(redis, name)
            await queue.remove(redis, name, [entry for entry in entries if entry.partition(":")[0] in jobs])

    async def _withdraw_stale(self, redis: ArqRedis) -> None:
        """What is invited to no more goes: jobs that were cancelled, or taken or rung for otherwise, and what nobody of us ever wrote.

        A ring is one dispatch of one job, so what has grown stale never becomes right again.
        """
        if time.monotonic() < self._stale_checked_at + STALE_CHECK_INTERVAL:
            return
        self._stale_checked_at = time.monotonic()
        for name in self._queues:
            entries = {entry: queue.parse_entry(entry) for entry in await queue.list_entries(redis, name)}
            if entries:
                try:
                    current = await self._current_dispatches([dispatch[0] for dispatch in entries.values() if dispatch is not None])
                except Unavailable:  # Postgres is away: another time
                    return
                await queue.remove(redis, name, [entry for entry, dispatch in entries.items() if dispatch not in current])

    async def _wait(self) -> None:
        """Until something was rung, or for a second; then every queue is looked at, for what is rung may go unheard."""
        try:
            async with asyncio.timeout(POLL_INTERVAL):
                await self._wake_event.wait()
        except TimeoutError:
            self._notified_queues.update(self._queues)
        self._wake_event.clear()

    async def _on_dispatch(self, ctx: dict[Any, Any], job_id: str) -> None:  # noqa: ARG002 - the signature is arq's
        """arq calls this and may cancel it; a claim under way is not to be cut off, for its commit may have arrived already."""
        with suppress(Unavailable):  # the row waits, and is rung for again
            await asyncio.shield(asyncio.ensure_future(self._claim(UUID(job_id))))

    def _mark_disconnected(self, error: Exception) -> None:
        if self.is_connected:
            log.warning("redis_carries_no_bells", error=repr(error))
        self.is_connected = False
