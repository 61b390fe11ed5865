"""Asking a Redis that may be away: an answer within 0.2 s or none, and then no question for a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from db.stores.events import LOST, PATIENCE, RESPITE

log: structlog.stdlib.BoundLogger = structlog.get_logger()
T = TypeVar("T")


class Away(Exception):
    """Redis did not answer, or is left alone because it did not a moment ago."""


class Patience:
    """What those share who ask the same Redis: when to leave it alone."""

    def __init__(self) -> None:
        self._rest_until = 0.0

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """The answer; raises `Away`."""
        if time.monotonic() < self._rest_until:
            raise Away
        try:
            async with asyncio.timeout(PATIENCE):
                return await question()
        except LOST as error:
            now = time.monotonic()
            if now >= self._rest_until:  # the first of those that were waiting says so for all
                log.warning("redis_does_not_answer", error=repr(error))
            self._rest_until = now + RESPITE
            raise Away from error
