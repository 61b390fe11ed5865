"""Child processes that never outlive us.

Linux tells a process that its parent is gone (`PR_SET_PDEATHSIG`), so even `kill -9` of the parent leaves nothing running. The
kernel means the parent *thread*: start children from a thread that lives as long as they should, which the main thread does.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from server.embedded.account import Account

PR_SET_PDEATHSIG = 1
STOP_TIMEOUT = 3.0  # seconds between one stop signal and the next, harsher one
LOG_TAIL_CHARACTERS = 2_000


class StartFailed(Exception):
    """A child did not come up. The message says which, why (the end of its log), and where the whole log lies."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """How to start one child."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    log: Path | None = None
    """Where its output goes; None is our own terminal. The log of the start before is kept beside it as `.old`."""
    stdin: bytes = b""
    account: Account | None = None
    """Whom to run as; None is ourselves."""
    descriptors: tuple[int, ...] = ()
    """Open files the child inherits."""
    cwd: str | None = None
    """Working folder; None is ours."""
    stop_signals: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGKILL)
    """Sent one after the other until it is gone."""
    orphan_signal: signal.Signals = signal.SIGKILL
    """What the kernel sends it when we die."""


@dataclass
class ManagedProcess:
    """One running child."""

    command: Command
    process: subprocess.Popen[bytes] = field(init=False)
    _stop_requested: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        command, account = self.command, self.command.account
        output = _open_log(command.log) if command.log else None
        try:
            self.process = subprocess.Popen(  # noqa: S603 - our own programs with our own arguments
                list(command.argv),
                env=dict(command.environment),
                cwd=command.cwd,
                stdin=subprocess.PIPE if command.stdin else subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                pass_fds=command.descriptors,
                # Out of our process group, so that Ctrl-C reaches only us and we stop the children in order.
                process_group=0,
                # preexec_fn runs after the change of user, which would clear the signal, and before exec, which keeps it.
                preexec_fn=die_with_parent(command.orphan_signal),  # noqa: PLW1509 - calls nothing but two system calls, loaded beforehand
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
            )
        except OSError as error:
            raise StartFailed(
                f"{command.name} could not be started: {error}. Is the installation complete? `make up` repairs it."
            ) from error
        finally:
            if output:
                output.close()
        if command.stdin and self.process.stdin:
            try:
                self.process.stdin.write(command.stdin)
                self.process.stdin.close()
            except BrokenPipeError:
                pass  # it ended at once: whoever waits for it reports that with its log

    @property
    def pid(self) -> int:
        return self.process.pid

    def exit_code(self) -> int | None:
        """None while it runs; negative is the signal that ended it."""
        return self.process.poll()

    def request_stop(self) -> None:
        """Send the first of its stop signals, without waiting."""
        if self.exit_code() is None and not self._stop_requested:
            self._stop_requested = True
            self.process.send_signal(self.command.stop_signals[0])

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Return when it is gone: `patience` seconds after each signal the next one is sent."""
        self.request_stop()
        for signal_number in self.command.stop_signals[1:]:
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal_number)
            else:
                return
        self.process.wait()

    def log_tail(self) -> str:
        """The end of its log, for a message."""
        if self.command.log is None:
            return ""
        return self.command.log.read_text(errors="replace")[-LOG_TAIL_CHARACTERS:].strip()


def wait_until_ready(is_ready: Callable[[], bool], child: ManagedProcess, timeout: float) -> None:
    """Return when `answers()`; raises `StartFailed` when the child ends first or does not answer in time."""
    deadline = time.monotonic() + timeout
    while not is_ready():
        code = child.exit_code()
        log_hint = f" All of its log: {child.command.log}" if child.command.log else ""
        if code is not None:
            raise StartFailed(f"{child.command.name} ended with {code} while it started.{log_hint}\n{child.log_tail()}")
        if time.monotonic() > deadline:
            raise StartFailed(f"{child.command.name} did not answer within {timeout:.0f} s.{log_hint}\n{child.log_tail()}")
        time.sleep(0.01)


def die_with_parent(signal_number: signal.Signals) -> Callable[[], None]:
    """What a child calls between fork and exec to be sent `sign` when the thread that forked it ends. Nothing where the system is not Linux."""
    if sys.platform != "linux":
        return lambda: None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def arm() -> None:
        prctl(PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0)
        if os.getppid() != parent:  # it died between fork and here
            os._exit(1)

    return arm


def _open_log(path: Path) -> IO[bytes]:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if path.exists():
        path.replace(path.with_suffix(".old"))
    return path.open("wb")
