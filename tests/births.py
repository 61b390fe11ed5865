"""A process that has imported the product once and forks a `trellis` for each order: to start one afresh takes two seconds of a core, nearly
all of them for imports, and the tests need hundreds.

What is forked has the environment, the arguments, the log and the process group that it would have had, and reads its settings anew. `trellis up`
and what it keeps are started as people start them.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

from server.embedded.children import Child, Command, die_with_parent
from tests.faults import hooks

ROOT = Path(__file__).parents[1]
LOOK = 0.01  # seconds
PRODUCT = (
    "server.cli",
    "server.commands.credits",
    "server.commands.jobs",
    "server.commands.wanted",
    "server.logs",
    "server.traced",
    "workers.main",
    "server.serving",
    "server.app",
    "tests.workers.engine",
)


class Births:
    """To be made in the main thread, whose end is the process's end, as it is that of all whom it has forked."""

    def __init__(self) -> None:
        own = {name: value for name, value in os.environ.items() if not name.startswith("TRELLIS_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.births"],
            cwd=ROOT,
            env=own,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=die_with_parent(signal.SIGKILL),  # noqa: PLW1509 - calls nothing but two system calls, loaded beforehand
        )
        self._one_by_one = threading.Lock()

    def child(self, command: Command) -> Child:
        """What `Child(command)` is, for a `command` that is one of ours."""
        assert command.log is not None
        command.log.parent.mkdir(exist_ok=True)
        return Forked(command, self.start(command.argv, command.environment, command.log, folder=command.folder))

    def start(
        self, argv: Sequence[str], environment: Mapping[str, str], log: Path, *, errors: Path | None = None, folder: str | None = None
    ) -> Process:
        """A `python -m` of ours with these arguments; what it prints is added to `log`, and to `errors` what goes to its other output."""
        for path in filter(None, (log, errors)):
            path.touch()
        order = {"argv": list(argv), "environment": dict(environment), "folder": folder or str(ROOT), "log": str(log)}
        return Process(self._say({**order, "errors": str(errors or log)}), self)

    def ended(self, pid: int) -> int | None:
        """The exit code of one that was forked here, once it has one."""
        return self._say({"ended": pid})

    def _say(self, order: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._one_by_one:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(5)


@cache
def births() -> Births:
    """Those of a process of the tests. Its end is theirs."""
    return Births()


class Process:
    """As much of a `subprocess.Popen` as is used of one, of somebody else's child."""

    def __init__(self, pid: int, births: Births) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._births = births

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._births.ended(self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        until = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired(f"process {self.pid}", cast("float", timeout))
            time.sleep(LOOK)
        return code

    def send_signal(self, sign: int) -> None:
        if self.poll() is None:  # until it has been asked about, its number is nobody else's
            os.kill(self.pid, sign)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Forked(Child):
    """A child of the process here."""

    def __init__(self, command: Command, process: Any) -> None:  # pyright: ignore[reportMissingSuperCall] - which would start another
        self.command = command
        self.process = process
        self._asked = False


def _main() -> None:
    for name in PRODUCT:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    codes: dict[int, int] = {}
    for line in sys.stdin:
        order = json.loads(line)
        if "ended" in order:
            asked = order["ended"]
            if asked not in codes:  # two may ask about one at the same time
                pid, status = os.waitpid(asked, os.WNOHANG)
                if pid:
                    codes[asked] = os.waitstatus_to_exitcode(status)
            answer = codes.get(asked)
        else:
            tie = die_with_parent(signal.SIGKILL)
            answer = os.fork()
            codes.pop(answer, None)  # its number may have been another's
            if not answer:
                tie()
                answers.close()
                _become(order)
        print(json.dumps(answer), file=answers, flush=True)


def _become(order: dict[str, Any]) -> None:
    """What a fresh interpreter would be by now. Returns by `SystemExit` alone."""
    os.setpgid(0, 0)
    os.chdir(order["folder"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    log, errors = (os.open(order[name], os.O_WRONLY | os.O_APPEND) for name in ("log", "errors"))
    for descriptor, place in ((nothing, 0), (log, 1), (errors, 2)):
        os.dup2(descriptor, place)
    os.environ.clear()
    os.environ.update(order["environment"])
    from db.settings import state_settings
    from server.cli import app
    from server.settings import server_settings
    from workers.settings import worker_settings

    for settings in (state_settings, server_settings, worker_settings):
        settings.cache_clear()
    _, _, module, *arguments = order["argv"]  # python -m
    if module != "server.cli":
        sys.argv[1:] = arguments
        runpy.run_module(module, run_name="__main__")
        raise SystemExit
    if "worker" in arguments:
        hooks.install()
    app(arguments, prog_name="trellis")


if __name__ == "__main__":
    _main()
