"""How many event streams, or sockets, there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Hashable
from contextlib import contextmanager

from server.protocol.refusals import Refused


class Streams:
    """Those of this process that are open, by whose they are."""

    def __init__(self, most: int, what: str) -> None:
        self._most = most
        self._what = what
        self._open: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return self._open.total()

    @contextmanager
    def enter(self, whose: Hashable) -> Generator[None]:
        """A place for one more, for the length of the block. Raises `Refused` with 429 where there is none."""
        if self._open[whose] >= self._most:
            message = f"You have {self._most} {self._what} open here, and more are not kept. Close one, or follow several things in one."
            raise Refused(429, "RATE_LIMITED", message, {"Retry-After": "5"})
        self._open[whose] += 1
        try:
            yield
        finally:
            self._open[whose] -= 1
            if not self._open[whose]:
                del self._open[whose]
