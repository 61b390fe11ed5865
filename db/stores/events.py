"""Announcements of job events through Redis pub/sub. Postgres holds the events; what is lost here costs time, never truth."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID

import orjson
import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from sqlalchemy import Uuid, any_, func, literal, select, union_all
from sqlalchemy.dialects.postgresql import ARRAY

from db.core.work import Database, Notice
from db.errors import Unavailable
from db.tables import Job

log: structlog.stdlib.BoundLogger = structlog.get_logger()

EVENTS = "trellis:events"
BELLS = "trellis:bells"

PATIENCE = 0.2  # seconds that a mutation may wait for Redis
RESPITE = 1.0  # seconds for which a Redis that did not answer is left alone
SILENCE = 3.0  # seconds without a word after which the reader asks whether Redis is there
QUEUE = 64  # notices that a subscriber may lag behind
REPAIR = 1.0  # seconds between looks for announcements that were lost
OVERLAP = timedelta(seconds=15)  # a change is stamped before it is committed: how much before, at most
REMEMBERED = 20_000  # jobs whose last announced sequence is kept while somebody watches all

LOST = (RedisError, OSError, TimeoutError)


def connect(redis_url: str) -> Redis:
    """A client that gives up on a command quickly and does not try it again; closing it is the caller's."""
    return Redis.from_url(  # pyright: ignore[reportUnknownMemberType] - redis types its keyword arguments thinly
        redis_url, socket_timeout=1.0, socket_connect_timeout=1.0, retry=Retry(NoBackoff(), 0), retry_on_timeout=False
    )


class RedisPost:
    """Carries the notices of a unit of work, after its commit: events to the streams, rings to the workers."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._rest_until = 0.0

    async def send(self, notices: Sequence[Notice]) -> None:
        """Publish, or give up after 0.2 s; then Redis is not asked again for a second."""
        if time.monotonic() < self._rest_until:
            return
        events = [[notice.job_id.hex, notice.sequence] for notice in notices]
        bells = {notice.ring for notice in notices if notice.ring is not None}
        try:
            async with asyncio.timeout(PATIENCE):
                pipe: Any = self._redis.pipeline(transaction=False)
                for bell in sorted(bells):
                    pipe.publish(BELLS, bell)
                pipe.publish(EVENTS, orjson.dumps(events))
                await pipe.execute()
        except LOST as error:
            self._rest_until = time.monotonic() + RESPITE
            log.warning("redis_does_not_answer", notices=len(notices), error=repr(error))


async def listen(redis_url: str, channel: str) -> AsyncGenerator[bytes | None]:
    """Messages of a channel, for ever. None stands for every (new) connection: what was sent before it may be lost."""
    pause = 0.05
    while True:
        redis = connect(redis_url)
        pubsub: Any = redis.pubsub()  # pyright: ignore[reportUnknownMemberType] - redis leaves its methods untyped
        try:
            await pubsub.subscribe(channel)
            asked = False
            while True:
                message = await pubsub.get_message(timeout=SILENCE)
                if message is None:
                    if asked:
                        break
                    asked = True
                    await pubsub.ping()
                    continue
                asked = False
                if message["type"] == "subscribe":
                    pause = 0.05
                    yield None
                elif message["type"] == "message":
                    yield message["data"]
        except LOST as error:
            log.info("redis_channel_lost", channel=channel, error=repr(error))
        finally:
            with suppress(*LOST):
                await pubsub.aclose()
            with suppress(*LOST):
                await redis.aclose()
        await asyncio.sleep(pause)
        pause = min(pause * 2, 1.0)


class Subscription:
    """What one watcher has yet to hear. Never a brake: past 64 notices it is told to read the rows again instead."""

    def __init__(self) -> None:
        self._queue: deque[Notice] = deque()
        self._reread = False
        self._ready = asyncio.Event()

    def put(self, notice: Notice) -> None:
        if self._reread:
            return
        if len(self._queue) >= QUEUE:
            self.mark()
            return
        self._queue.append(notice)
        self._ready.set()

    def mark(self) -> None:
        """Something may have been missed."""
        self._queue.clear()
        self._reread = True
        self._ready.set()

    async def next(self) -> Notice | None:
        """The next notice; None means that some may have been missed: read the rows again after your cursor."""
        while True:
            if self._reread:
                self._reread = False
                return None
            if self._queue:
                return self._queue.popleft()
            self._ready.clear()
            await self._ready.wait()

    def __aiter__(self) -> AsyncIterator[Notice | None]:
        return self

    async def __anext__(self) -> Notice | None:
        return await self.next()


class Feed:
    """The one reader of announcements in a process, and the one query a second that makes up for those Redis lost.

    Nothing is read from Postgres while nobody watches.
    """

    def __init__(self, redis_url: str, database: Database) -> None:
        self._redis_url = redis_url
        self._database = database
        self._watchers: dict[UUID, set[Subscription]] = {}
        self._everything: set[Subscription] = set()
        self._announced: dict[UUID, int] = {}
        self._since: datetime | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, redis_url: str, database: Database) -> AsyncGenerator[Self]:
        """A feed that runs until the block ends."""
        feed = cls(redis_url, database)
        running = asyncio.create_task(feed.run(), name="feed")
        try:
            yield feed
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    async def run(self) -> None:
        """Read and repair until cancelled; a Redis or a Postgres that is away is waited for."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read())
            tasks.create_task(self._repair())

    @asynccontextmanager
    async def watch(self, job_id: UUID) -> AsyncGenerator[Subscription]:
        """Notices of one job from here on: enter first, then read the rows, then follow."""
        subscription = Subscription()
        self._watchers.setdefault(job_id, set()).add(subscription)
        try:
            yield subscription
        finally:
            watchers = self._watchers[job_id]
            watchers.discard(subscription)
            if not watchers:
                del self._watchers[job_id]
                if not self._everything:
                    self._announced.pop(job_id, None)

    @asynccontextmanager
    async def watch_all(self) -> AsyncGenerator[Subscription]:
        """Notices of every job; whoever listens leaves out those that its viewer may not see."""
        subscription = Subscription()
        self._everything.add(subscription)
        try:
            yield subscription
        finally:
            self._everything.discard(subscription)
            if not self._everything:
                self._since = None
                for job_id in self._announced.keys() - self._watchers.keys():
                    del self._announced[job_id]

    def _announce(self, notice: Notice) -> None:
        if not self._everything and notice.job_id not in self._watchers:
            return
        if self._announced.get(notice.job_id, 0) >= notice.sequence:
            return
        self._announced.pop(notice.job_id, None)
        self._announced[notice.job_id] = notice.sequence
        if len(self._announced) > REMEMBERED + len(self._watchers):
            oldest = next(job_id for job_id in self._announced if job_id not in self._watchers)
            del self._announced[oldest]
        for subscription in self._interested(notice.job_id):
            subscription.put(notice)

    def _interested(self, job_id: UUID) -> Iterable[Subscription]:
        yield from self._everything
        yield from self._watchers.get(job_id, ())

    async def _read(self) -> None:
        async with aclosing(listen(self._redis_url, EVENTS)) as messages:
            async for message in messages:
                if message is None:
                    continue  # what was missed in between, the repair finds within a second
                try:
                    notices = [Notice(UUID(job_id), int(sequence)) for job_id, sequence in orjson.loads(message)]
                except (ValueError, TypeError):
                    log.warning("notice_not_understood", message=message[:200])
                    continue
                for notice in notices:
                    self._announce(notice)

    async def _repair(self) -> None:
        while True:
            await asyncio.sleep(REPAIR)
            if not self._watchers and not self._everything:
                continue
            try:
                await self._look()
            except Unavailable:
                log.warning("feed_cannot_look", exc_info=True)

    async def _look(self) -> None:
        """One statement: where the watched jobs stand and, while somebody watches all, which changed since the last look."""
        now = func.clock_timestamp().label("now")
        watched = literal(list(self._watchers), ARRAY(Uuid))
        looks = [select(Job.id, Job.last_sequence, now).where(Job.id == any_(watched))]
        watching_all = bool(self._everything)
        if watching_all:
            since = func.clock_timestamp() - OVERLAP if self._since is None else self._since
            looks.append(select(Job.id, Job.last_sequence, now).where(Job.updated_at > since))
        for row in await self._database.rows(union_all(*looks)):
            self._announce(Notice(row.id, row.last_sequence))
            if watching_all:
                self._since = row.now - OVERLAP
