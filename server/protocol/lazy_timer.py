"""A timer that is set and cleared with every request, and hardly ever goes off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class LazyTimer:
    """Calls back once it is overdue. A timer of the event loop is kept until it goes off, and then set again if it was put off meanwhile:
    to set and clear one takes longer than much else in a small request.
    """

    __slots__ = ("_callback", "_due", "_handle", "_handle_due", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._due: float | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._handle_due = 0.0

    @property
    def is_set(self) -> bool:
        return self._due is not None

    def set(self, seconds: float) -> None:
        """Call back in so many seconds, and not when it was to be done before."""
        self._due = self._loop.time() + seconds
        if self._handle is None or self._due < self._handle_due:
            if self._handle is not None:
                self._handle.cancel()
            self._arm(self._due)

    def clear(self) -> None:
        """Do not call back."""
        self._due = None

    def close(self) -> None:
        """Clear it, and leave nothing in the event loop."""
        self._due = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self, due: float) -> None:
        self._handle_due = due
        self._handle = self._loop.call_at(due, self._go_off)

    def _go_off(self) -> None:
        self._handle = None
        if self._due is None:
            return
        if self._loop.time() < self._due:
            self._arm(self._due)
        else:
            self._due = None
            self._callback()
