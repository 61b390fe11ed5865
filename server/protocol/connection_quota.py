"""Limit of open event streams, or websockets, per owner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Hashable
from contextlib import contextmanager

from server.protocol.http_errors import HttpError


class ConnectionQuota:
    """Counts the open ones of this process by owner (viewer id or client address)."""

    def __init__(self, limit: int, noun: str) -> None:
        self._limit = limit
        self._noun = noun
        self._open: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return self._open.total()

    @contextmanager
    def acquire(self, owner: Hashable) -> Generator[None]:
        """Count one more until the block ends. Raises `HttpError` 429 at the limit."""
        if self._open[owner] >= self._limit:
            message = f"You have {self._limit} {self._noun} open here, which is the limit. Close one, or run several subscriptions over one websocket."
            raise HttpError(429, "RATE_LIMITED", message, {"Retry-After": "5"})
        self._open[owner] += 1
        try:
            yield
        finally:
            self._open[owner] -= 1
            if not self._open[owner]:
                del self._open[owner]
