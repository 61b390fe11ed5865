"""Child processes that never outlive this one.

Linux signals a child when its parent dies (`PR_SET_PDEATHSIG`), so even `kill -9` of the parent leaves no orphans. The signal follows
the death of the parent *thread*: start children from a thread that lives as long as they should, such as the main thread.
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
STOP_TIMEOUT = 3.0  # seconds between one stop signal and the next, stronger one
LOG_TAIL_CHARACTERS = 2_000


class StartFailed(Exception):
    """A child failed to start. The message has its name, the end of its log, and the path of the log."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """How to start a child process."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    log: Path | None = None
    """File for its output; None is our terminal. The previous log is kept beside it as `.old`."""
    stdin: bytes = b""
    account: Account | None = None
    """The user to run as; None is ours."""
    descriptors: tuple[int, ...] = ()
    """File descriptors that the child inherits."""
    cwd: str | None = None
    """Working folder; None is ours."""
    stop_signals: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGKILL)
    """Sent one after the other until it has exited."""
    orphan_signal: signal.Signals = signal.SIGKILL
    """Sent by the kernel when this process dies."""


@dataclass
class ManagedProcess:
    """A running child process."""

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
                # Its own process group, so that Ctrl-C reaches only us and we stop the children in order.
                process_group=0,
                # preexec_fn runs after the change of user, which would clear the signal, and before exec, which keeps it.
                preexec_fn=die_with_parent(command.orphan_signal),  # noqa: PLW1509 - makes only two system calls, with symbols loaded beforehand
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
                pass  # it exited at once, which wait_until_ready reports with its log

    @property
    def pid(self) -> int:
        return self.process.pid

    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self.process.poll()

    def request_stop(self) -> None:
        """Send the first stop signal, without waiting."""
        if self.exit_code() is None and not self._stop_requested:
            self._stop_requested = True
            self.process.send_signal(self.command.stop_signals[0])

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Send the stop signals, `timeout` seconds apart, until it has exited."""
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
        """The end of its log, for error messages."""
        if self.command.log is None:
            return ""
        return self.command.log.read_text(errors="replace")[-LOG_TAIL_CHARACTERS:].strip()


def wait_until_ready(is_ready: Callable[[], bool], child: ManagedProcess, timeout: float) -> None:
    """Return when `is_ready()`; raise `StartFailed` if the child exits first or the timeout passes."""
    deadline = time.monotonic() + timeout
    while not is_ready():
        code = child.exit_code()
        log_hint = f" All of its log: {child.command.log}" if child.command.log else ""
        if code is not None:
            raise StartFailed(f"{child.command.name} exited with {code} during startup.{log_hint}\n{child.log_tail()}")
        if time.monotonic() > deadline:
            raise StartFailed(f"{child.command.name} was not ready within {timeout:.0f} s.{log_hint}\n{child.log_tail()}")
        time.sleep(0.01)


def die_with_parent(signal_number: signal.Signals) -> Callable[[], None]:
    """A `preexec_fn` that makes the kernel send `signal_number` when the forking thread ends. Does nothing except on Linux."""
    if sys.platform != "linux":
        return lambda: None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def arm() -> None:
        prctl(PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0)
        if os.getppid() != parent:  # the parent died before prctl
            os._exit(1)

    return arm


def _open_log(path: Path) -> IO[bytes]:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if path.exists():
        path.replace(path.with_suffix(".old"))
    return path.open("wb")
