"""Sends and receives dispatch notices through arq's queues in Redis, for one worker. Redis may fail and return at any moment."""

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

POLL_INTERVAL = 1.0  # seconds between polls of all queues, since a wake-up may be lost
STALE_CHECK_INTERVAL = 4.0  # seconds between removals of stale queue entries
MAX_BACKOFF = 2.0


class DispatchListener:
    """Claims jobs as dispatch notices arrive. `is_connected` tells whether Redis carries them at the moment.

    arq's queue readers are created anew after every failure, so that they hold no state of the old connection.
    """

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
        """Read these queues now; all of them if none are named."""
        self._notified_queues.update(names or self._queues)
        self._wake_event.set()

    def job_cancelled(self, name: str, job: str) -> None:
        """Remove the entries of this job from its queue; `job` is its id in hexadecimal."""
        self._cancelled_jobs.add((name, job))
        self._wake_event.set()

    async def notify(self, dispatches: Sequence[DispatchNotice]) -> bool:
        """Enqueue dispatch notices for these jobs and wake all workers. False if Redis is unavailable."""
        if self._redis is None:
            return False
        by_queue: dict[str, list[tuple[UUID, int]]] = {}
        for dispatch in dispatches:
            by_queue.setdefault(dispatch.queue, []).append((dispatch.job_id, dispatch.dispatch_no))
        try:
            for name, entries in by_queue.items():
                await queue.enqueue(self._redis, name, entries)
                self.wake(name)
            for name in by_queue:  # other workers may have more free slots
                await self._redis.execute_command("PUBLISH", DISPATCH_CHANNEL, f"rung:{name}")  # pyright: ignore[reportUnknownMemberType] - redis leaves it untyped
        except CONNECTION_ERRORS as error:
            self._mark_disconnected(error)
            return False
        return True

    async def run(self) -> None:
        """Serve the queues until cancelled; reconnect with exponential backoff."""
        backoff = 0.1
        while True:
            try:
                self._redis = redis = queue.connect(self._redis_url)
                readers = {name: queue.QueueReader(redis, name, self._on_dispatch, self._slots) for name in self._queues}
                await self._ping(redis)
                backoff = 0.1
                while True:
                    await self._wait()
                    if not self.is_connected:  # a notice failed; Redis may be available again
                        await self._ping(redis)
                    await self._withdraw_cancelled(redis)
                    await self._read_queues(redis, readers)
                    await self._withdraw_stale(redis)
            except CONNECTION_ERRORS as error:
                self._mark_disconnected(error)
            except Exception:  # notices only save time: no failure here may end the worker or keep a slot
                log.exception("dispatch_listener_failed")
            finally:
                await self._close()
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, MAX_BACKOFF)

    async def _ping(self, redis: ArqRedis) -> None:
        await redis.execute_command("PING")  # pyright: ignore[reportUnknownMemberType] - redis leaves it untyped
        self.is_connected = True
        self.wake()

    async def _close(self) -> None:
        """Close the connection. Errors are logged, so that they do not end `run`."""
        self.is_connected = False
        redis, self._redis = self._redis, None
        if redis is not None:
            try:
                await redis.aclose(close_connection_pool=True)
            except Exception:  # the connection is not used again
                log.warning("redis_not_closed", exc_info=True)

    async def _read_queues(self, redis: ArqRedis, readers: Mapping[str, queue.QueueReader]) -> None:
        """Read the oldest entries first across all queues, so that a busy queue does not starve the others of slots."""
        while self._notified_queues and (free_slots := self._free_slots()) > 0:
            notified, self._notified_queues = self._notified_queues, set()  # later notifications add to the new set
            shares = await queue.next_counts(redis, sorted(notified), free_slots)
            for name, share in shares.items():
                count = min(share, self._free_slots())
                if count <= 0 or await readers[name].poll(count):  # a claim may have failed, and its slot is free for the next entry
                    self._notified_queues.add(name)

    async def _withdraw_cancelled(self, redis: ArqRedis) -> None:
        cancelled, self._cancelled_jobs = self._cancelled_jobs, set()
        for name in {name for name, _ in cancelled}:
            jobs = {job for queue_name, job in cancelled if queue_name == name}
            entries = await queue.list_entries(redis, name)
            await queue.remove(redis, name, [entry for entry in entries if entry.partition(":")[0] in jobs])

    async def _withdraw_stale(self, redis: ArqRedis) -> None:
        """Remove entries of jobs that were cancelled, claimed or dispatched again, and entries that cannot be parsed.

        An entry is one dispatch of one job, so a stale entry never becomes current again.
        """
        if time.monotonic() < self._stale_checked_at + STALE_CHECK_INTERVAL:
            return
        self._stale_checked_at = time.monotonic()
        for name in self._queues:
            entries = {entry: queue.parse_entry(entry) for entry in await queue.list_entries(redis, name)}
            if entries:
                try:
                    current = await self._current_dispatches([dispatch[0] for dispatch in entries.values() if dispatch is not None])
                except Unavailable:  # PostgreSQL is down; the next check does it
                    return
                await queue.remove(redis, name, [entry for entry, dispatch in entries.items() if dispatch not in current])

    async def _wait(self) -> None:
        """Wait for a wake-up. After `POLL_INTERVAL` without one, mark every queue to be read, because a wake-up may be lost."""
        try:
            async with asyncio.timeout(POLL_INTERVAL):
                await self._wake_event.wait()
        except TimeoutError:
            self._notified_queues.update(self._queues)
        self._wake_event.clear()

    async def _on_dispatch(self, ctx: dict[Any, Any], job_id: str) -> None:  # noqa: ARG002 - the signature is arq's
        """Claim the job. arq may cancel this call; the claim is shielded, because its commit may have been sent already."""
        with suppress(Unavailable):  # the job stays queued and is dispatched again
            await asyncio.shield(asyncio.ensure_future(self._claim(UUID(job_id))))

    def _mark_disconnected(self, error: Exception) -> None:
        if self.is_connected:
            log.warning("dispatch_listener_disconnected", error=repr(error))
        self.is_connected = False
