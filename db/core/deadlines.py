"""Timers of one length. Nearly all are cleared before they go off, and a timer of the event loop costs more than much else in a small read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType


class Timer:
    """A call that is due at a time of the event loop's clock."""

    __slots__ = ("callback", "due")

    def __init__(self, due: float, callback: Callable[[], object]) -> None:
        self.due = due
        self.callback = callback


class Deadlines:
    """Timers that all go off `seconds` after they were set: in the order in which they were set, so one timer of the event loop serves them all."""

    __slots__ = ("_handle", "_loop", "_timers", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timers: dict[Timer, None] = {}
        self._handle: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._timers)

    def set(self, callback: Callable[[], object]) -> Timer:
        """Call back in `seconds`, unless the timer is cleared before."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        timer = Timer(loop.time() + self.seconds, callback)
        self._timers[timer] = None
        if self._handle is None:
            self._handle = loop.call_at(timer.due, self._go_off)
        return timer

    def clear(self, timer: Timer) -> None:
        """Do not call back. The timer of the event loop stays until it goes off, for those set later."""
        self._timers.pop(timer, None)

    def _go_off(self) -> None:
        assert self._loop is not None
        self._handle = None
        now = self._loop.time()
        due: list[Timer] = []
        for timer in self._timers:
            if timer.due > now:
                self._handle = self._loop.call_at(timer.due, self._go_off)
                break
            due.append(timer)
        for timer in due:
            del self._timers[timer]
        for timer in due:
            timer.callback()

    def limit(self) -> TimeLimit:
        """Limit the time of a block in the present task: `with deadlines.limit():` raises `TimeoutError`, as `asyncio.timeout` does."""
        return TimeLimit(self)


class TimeLimit:
    """`asyncio.timeout` with a timer of `Deadlines`."""

    __slots__ = ("_cancelling", "_deadlines", "_has_expired", "_task", "_timer")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._has_expired = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None, "only a task can be cancelled"
        self._task = task
        self._cancelling = task.cancelling()
        self._timer = self._deadlines.set(self._expire)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._deadlines.clear(self._timer)
        if (
            self._has_expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError
        ):  # nobody else has cancelled it
            raise TimeoutError from error

    def _expire(self) -> None:
        self._has_expired = True
        self._task.cancel()
