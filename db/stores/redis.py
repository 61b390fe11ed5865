"""Connections to Redis, and a circuit breaker for commands that a request waits for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

log: structlog.stdlib.BoundLogger = structlog.get_logger()
T = TypeVar("T")

COMMAND_TIMEOUT = 0.2  # seconds that a request may wait for Redis
COOLDOWN = 1.0  # seconds for which the breaker stays open after a failure

# What a command raises when Redis is away. uvloop raises RuntimeError for a connection that is closed while it is in use.
CONNECTION_ERRORS = (RedisError, OSError, TimeoutError, RuntimeError)


def connect(redis_url: str) -> Redis:
    """Return a client that gives up on a command after a second and does not retry it. The caller closes it."""
    return Redis.from_url(  # pyright: ignore[reportUnknownMemberType] - redis types its keyword arguments thinly
        redis_url, socket_timeout=1.0, socket_connect_timeout=1.0, retry=Retry(NoBackoff(), 0), retry_on_timeout=False
    )


def raise_if_cancelled() -> None:
    """Raise the cancellation of the running task that a command has swallowed.

    The library sends with `asyncio.wait_for`, which before Python 3.12 returns a result that comes at the same time as a cancellation. A loop
    that runs until it is cancelled calls this after each command.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class RedisUnavailable(Exception):
    """Redis did not reply in time, or the breaker is open because it did not a moment ago."""


class CircuitBreaker:
    """Shared by all that send commands to one Redis: after a failure none is sent for a second."""

    def __init__(self, timeout: float = COMMAND_TIMEOUT) -> None:
        self._timeout = timeout
        self._open_until = 0.0

    async def call(self, command: Callable[[], Awaitable[T]]) -> T:
        """Run the command and return its reply. Raises `RedisUnavailable` after the timeout, by default 0.2 s, or at once while the breaker is open."""
        if time.monotonic() < self._open_until:
            raise RedisUnavailable
        try:
            async with asyncio.timeout(self._timeout):
                return await command()
        except CONNECTION_ERRORS as error:
            now = time.monotonic()
            if now >= self._open_until:  # of the commands that were waiting, the first to fail logs it
                log.warning("redis_unavailable", error=repr(error))
            self._open_until = now + COOLDOWN
            raise RedisUnavailable from error
