"""Child processes that begin as copies of this one, with all that it has imported.

Only the memory that they change is their own. This process must have no threads and no event loop yet: a fork copies neither.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

from server.embedded.processes import STOP_TIMEOUT, die_with_parent
from server.supervisor import STOP_SIGNALS


class ForkedProcess:
    """A child that runs `body` and exits with what that returns; 1 if it raises."""

    def __init__(self, body: Callable[[], int]) -> None:
        arm = die_with_parent(signal.SIGKILL)
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            _run(arm, body)
        self._code: int | None = None
        self._stop_requested = False

    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def request_stop(self) -> None:
        """Send SIGTERM, without waiting."""
        if self.exit_code() is None and not self._stop_requested:
            self._stop_requested = True
            os.kill(self.pid, signal.SIGTERM)

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Send SIGTERM, and SIGKILL after `timeout` seconds, until it has exited."""
        self.request_stop()
        deadline = time.monotonic() + timeout
        while self.exit_code() is None:
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
                return
            time.sleep(0.01)


def _run(arm: Callable[[], None], body: Callable[[], int]) -> NoReturn:
    """All that the child does. It never returns: the blocks that the parent is in are the parent's to leave."""
    code = 1
    try:
        arm()
        os.setpgid(0, 0)  # Ctrl-C reaches only the parent, which stops its children in order
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        code = body()
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else 1
    except BaseException:  # noqa: BLE001 - what a main program does: it says what happened, and exits
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
