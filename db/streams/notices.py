"""Notices of job events over Redis pub/sub. PostgreSQL holds the events; a lost notice delays a stream and loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import orjson
import structlog
from redis.asyncio import Redis

from db.core.work import Notice
from db.stores.redis import CONNECTION_ERRORS, CircuitBreaker, RedisUnavailable, connect, raise_if_cancelled

log: structlog.stdlib.BoundLogger = structlog.get_logger()

# `trellis:bells`, the key "doubted" below and arq's function name `ring` (db.stores.queue) are old names of dispatch notices and of
# sessions to revalidate. They stay: during a rolling restart, processes of the old and the new release talk to each other by them.
EVENTS_CHANNEL = "trellis:events"
DISPATCH_CHANNEL = "trellis:bells"

PING_AFTER = 3.0  # seconds without a message after which the reader pings Redis


class RedisNoticePublisher:
    """Publish the notices of a unit of work after its commit: event notices to streams, dispatch notices to workers."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._breaker = CircuitBreaker()

    async def publish(self, notices: Sequence[Notice], revalidated: Sequence[UUID] = ()) -> None:
        """Publish; after 0.2 s without success give up and skip further notices for a second."""
        events = [[notice.job_id.hex, notice.sequence] for notice in notices]
        pipe: Any = self._redis.pipeline(transaction=False)
        for dispatch in sorted({notice.dispatch for notice in notices if notice.dispatch is not None}):
            pipe.publish(DISPATCH_CHANNEL, dispatch)
        pipe.publish(EVENTS_CHANNEL, orjson.dumps({"events": events, "doubted": [user_id.hex for user_id in revalidated]}))
        with suppress(RedisUnavailable):
            await self._breaker.call(pipe.execute)


async def listen(redis_url: str, channel: str) -> AsyncGenerator[bytes | None]:
    """Yield the messages of a channel for ever, and None for each new connection, before which messages may have been lost."""
    retry_delay = 0.05
    while True:
        redis = connect(redis_url)
        pubsub: Any = redis.pubsub()  # pyright: ignore[reportUnknownMemberType] - redis leaves its methods untyped
        try:
            await pubsub.subscribe(channel)
            raise_if_cancelled()
            ping_sent = False
            while True:
                message = await pubsub.get_message(timeout=PING_AFTER)
                raise_if_cancelled()
                if message is None:
                    if ping_sent:
                        break
                    ping_sent = True
                    await pubsub.ping()
                    continue
                ping_sent = False
                if message["type"] == "subscribe":
                    retry_delay = 0.05
                    yield None
                elif message["type"] == "message":
                    yield message["data"]
        except CONNECTION_ERRORS as error:
            log.info("redis_channel_lost", channel=channel, error=repr(error))
        finally:
            with suppress(*CONNECTION_ERRORS):
                await pubsub.aclose()
            with suppress(*CONNECTION_ERRORS):
                await redis.aclose()
        await asyncio.sleep(retry_delay)
        retry_delay = min(retry_delay * 2, 1.0)
