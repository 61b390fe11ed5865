"""How many event streams, or sockets, there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Hashable
from contextlib import contextmanager

from server.protocol.http_errors import HttpError


class ConnectionQuota:
    """Those of this process that are open, by whose they are."""

    def __init__(self, limit: int, noun: str) -> None:
        self._limit = limit
        self._noun = noun
        self._open: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return self._open.total()

    @contextmanager
    def acquire(self, owner: Hashable) -> Generator[None]:
        """A place for one more, for the length of the block. Raises `Refused` with 429 where there is none."""
        if self._open[owner] >= self._limit:
            message = f"You have {self._limit} {self._noun} open here, and more are not kept. Close one, or follow several things in one."
            raise HttpError(429, "RATE_LIMITED", message, {"Retry-After": "5"})
        self._open[owner] += 1
        try:
            yield
        finally:
            self._open[owner] -= 1
            if not self._open[owner]:
                del self._open[owner]
