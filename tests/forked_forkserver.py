"""Forkservers that are forked from their worker, whose prefork server has imported the libraries of bodies.

A fresh one imports them for two seconds, or each of its bodies does. Those that tests look at closely are started as in production: see `EXEC`.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any, NoReturn

EXEC = "TESTS_EXEC_FORKSERVER"
"""A variable of workers that start their forkservers as in production."""
MAX_PROCESSES = "TESTS_MAX_PROCESSES"
"""A variable of workers whose bodies may have no more than so many processes."""


@cache
def import_libraries() -> None:
    """Import what a forkserver imports beforehand, but refuse nothing to other processes."""
    from server.importing import importing
    from workers.ml import preloading

    with importing():
        preloading.preload()
    preloading.show_all_packages()


def install() -> None:
    """Have this worker fork its forkservers."""
    from workers.runtime import forkserver_client

    replaced: Any = forkserver_client
    replaced.subprocess = SimpleNamespace(Popen=ForkedForkserver, DEVNULL=subprocess.DEVNULL)


class ForkedForkserver:
    """The part of `subprocess.Popen` that `ForkserverClient` uses."""

    def __init__(self, command: Sequence[str], *, pass_fds: Sequence[int], env: Mapping[str, str], **_: Any) -> None:
        (descriptor,) = pass_fds
        self.returncode: int | None = None
        self.pid = os.fork()
        if not self.pid:
            _run(descriptor, env, is_preloaded=command[-1] == "preload")

    def poll(self) -> int | None:
        return self._wait(os.WNOHANG)

    def wait(self) -> int | None:
        return self._wait(0)

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def _wait(self, options: int) -> int | None:
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, options)
            except ChildProcessError:  # somebody else has reaped it
                self.returncode = 0
            else:
                self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode


def _run(descriptor: int, environment: Mapping[str, str], *, is_preloaded: bool) -> NoReturn:
    """Set up what a fresh process has, and serve."""
    from workers.ml import preloading
    from workers.runtime import forkserver

    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGUSR1, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.closerange(3, descriptor)
        os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))
        forkserver.MAX_PROCESSES = int(os.environ.get(MAX_PROCESSES, forkserver.MAX_PROCESSES))
        os.environ.clear()
        os.environ.update(environment)
        if is_preloaded:
            preloading.hide_unused_packages()
        forkserver.main(descriptor, preload=False)
    finally:
        os._exit(1)
