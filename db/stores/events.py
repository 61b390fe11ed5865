"""Announcements of job events through Redis pub/sub. Postgres holds the events; what is lost here costs time, never truth."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import orjson
import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from db.core.work import Notice

log: structlog.stdlib.BoundLogger = structlog.get_logger()

EVENTS = "trellis:events"
BELLS = "trellis:bells"

PATIENCE = 0.2  # seconds that a mutation may wait for Redis
RESPITE = 1.0  # seconds for which a Redis that did not answer is left alone
SILENCE = 3.0  # seconds without a word after which the reader asks whether Redis is there

LOST = (RedisError, OSError, TimeoutError, RuntimeError)  # the last from uvloop, of a connection closed under the hands of its user


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

    async def send(self, notices: Sequence[Notice], doubted: Sequence[UUID] = ()) -> None:
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
                pipe.publish(EVENTS, orjson.dumps({"events": events, "doubted": [user_id.hex for user_id in doubted]}))
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
