"""Restarts child processes that exit."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import structlog

from server.embedded import ManagedProcess, StartFailed

log: structlog.stdlib.BoundLogger = structlog.get_logger()

INITIAL_BACKOFF = 0.5
MAX_BACKOFF = 30.0
BACKOFF_RESET_AFTER = 60.0  # seconds of running after which earlier failures no longer count


class SupervisedProcess:
    """A child process that is restarted when it exits, with exponential backoff while it keeps failing."""

    def __init__(self, name: str, launch: Callable[[], ManagedProcess], child: ManagedProcess | None = None) -> None:
        self.name = name
        self._launch = launch
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
