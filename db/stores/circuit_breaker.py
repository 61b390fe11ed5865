"""Asking a Redis that may be away: an answer within 0.2 s or none, and then no question for a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from db.stores.notices import COMMAND_TIMEOUT, CONNECTION_ERRORS, COOLDOWN

log: structlog.stdlib.BoundLogger = structlog.get_logger()
T = TypeVar("T")


class RedisUnavailable(Exception):
    """Redis did not answer, or is left alone because it did not a moment ago."""


class CircuitBreaker:
    """What those share who ask the same Redis: when to leave it alone."""

    def __init__(self) -> None:
        self._open_until = 0.0

    async def call(self, command: Callable[[], Awaitable[T]]) -> T:
        """The answer; raises `Away`."""
        if time.monotonic() < self._open_until:
            raise RedisUnavailable
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT):
                return await command()
        except CONNECTION_ERRORS as error:
            now = time.monotonic()
            if now >= self._open_until:  # the first of those that were waiting says so for all
                log.warning("redis_does_not_answer", error=repr(error))
            self._open_until = now + COOLDOWN
            raise RedisUnavailable from error
