"""Child processes that run our own commands: restarted when they exit, stopped together."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol

import structlog

from server.embedded import Command, ManagedProcess, StartFailed

log: structlog.stdlib.BoundLogger = structlog.get_logger()

SOURCES = Path(__file__).resolve().parent.parent
POLL_INTERVAL = 0.2
STOP_TIMEOUT = 5.0  # for the API and the workers; the embedded servers get the rest of ten seconds
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INITIAL_BACKOFF = 0.5
MAX_BACKOFF = 30.0
BACKOFF_RESET_AFTER = 60.0  # seconds of running after which earlier failures no longer count


class StopRequested(BaseException):
    """A stop signal came. Raised in the main thread, wherever that is, so that every `with` block cleans up."""


class Child(Protocol):
    """A child process, however it was started."""

    @property
    def pid(self) -> int: ...

    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        ...

    def request_stop(self) -> None:
        """Send the first stop signal, without waiting."""
        ...

    def stop(self, timeout: float = ...) -> None:
        """Send the stop signals, `timeout` seconds apart, until it has exited."""
        ...


class SupervisedProcess:
    """A child process that is restarted when it exits, with exponential backoff while it keeps failing.

    `on_exit` is called with the pid of a child that has exited.
    """

    def __init__(
        self,
        name: str,
        launch: Callable[[], Child],
        child: Child | None = None,
        on_exit: Callable[[int], object] = lambda _pid: None,
    ) -> None:
        self.name = name
        self._launch = launch
        self._on_exit = on_exit
        self.child = child or launch()
        self._started_at = time.monotonic()
        self._failures = 0
        self._restart_at: float | None = None

    def poll(self) -> None:
        """Notice an exit, or restart the child when its backoff has passed."""
        now = time.monotonic()
        if self._restart_at is None:
            if (code := self.child.exit_code()) is None:
                return
            if now - self._started_at > BACKOFF_RESET_AFTER:
                self._failures = 0
            self._on_exit(self.child.pid)
            self._schedule_restart(now, f"exit code {code}" if code >= 0 else signal.Signals(-code).name)
        elif now >= self._restart_at:
            try:
                self.child = self._launch()
            except StartFailed as error:
                self._schedule_restart(now, str(error))
            else:
                self._started_at, self._restart_at = now, None
                log.info("child_restarted", child=self.name, pid=self.child.pid)

    def _schedule_restart(self, now: float, reason: str) -> None:
        delay = min(INITIAL_BACKOFF * 2**self._failures, MAX_BACKOFF)
        self._failures += 1
        self._restart_at = now + delay
        log.warning("child_exited", child=self.name, reason=reason, restart_in=delay)


def start_command(environment: Mapping[str, str], *arguments: str, descriptors: tuple[int, ...] = ()) -> ManagedProcess:
    """Start one of our commands, with output to our terminal."""
    argv = (sys.executable, "-m", "server.cli", *arguments)
    return ManagedProcess(Command(name=arguments[0], argv=argv, environment=environment, cwd=str(SOURCES), descriptors=descriptors))


def supervise(processes: Sequence[SupervisedProcess]) -> None:
    """Restart what exits, until a stop signal raises `StopRequested`."""
    while True:
        for process in processes:
            process.poll()
        time.sleep(POLL_INTERVAL)


@contextmanager
def stopping(processes: Sequence[SupervisedProcess]) -> Generator[None]:
    """Stop the processes at the end of the block, all at once, also those added during it."""
    try:
        yield
    finally:
        deadline = time.monotonic() + STOP_TIMEOUT
        children = [process.child for process in processes]
        for child in children:
            child.request_stop()
        for child in children:
            child.stop(max(0.1, deadline - time.monotonic()))


@contextmanager
def stop_on_signal() -> Generator[None]:
    """The first stop signal raises `StopRequested`; further ones are ignored, since shutdown has begun."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        for signal_number in STOP_SIGNALS:
            signal.signal(signal_number, signal.SIG_IGN)
        raise StopRequested

    previous_handlers = {signal_number: signal.signal(signal_number, stop) for signal_number in STOP_SIGNALS}
    try:
        yield
    finally:
        for signal_number, handler in previous_handlers.items():
            signal.signal(signal_number, handler)
