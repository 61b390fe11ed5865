"""Reads of streams, which outlive an outage of PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from db.errors import Unavailable
from db.streams.sessions import Session

T = TypeVar("T")

RETRY_INTERVAL = 0.3  # seconds


async def read_with_retry(session: Session, read: Callable[[], Awaitable[T]]) -> T:
    """Read, and retry while PostgreSQL is unavailable. Raises `SignedOut`."""
    while True:
        session.check()
        try:
            result = await read()
        except Unavailable:
            await asyncio.sleep(RETRY_INTERVAL)
            continue
        session.check()
        return result
