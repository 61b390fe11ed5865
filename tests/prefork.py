"""A prefork server: a process that has imported the product once and forks a `trellis` process for each request.

A fresh start takes two seconds of a core, nearly all of them for imports, and the tests need hundreds. A forked process has the
environment, arguments, log and process group that a fresh one would have, and reads its settings anew. `trellis up` and the processes it
supervises are started without prefork, as users start them.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, cast

from server.cli import importing
from server.embedded.processes import Command, ManagedProcess, die_with_parent
from tests.faults import hooks
from tests.unplanned import report_unplanned

ROOT = Path(__file__).parents[1]
POLL_INTERVAL = 0.01  # seconds
PRELOADED_MODULES = (
    "server.cli",
    "server.commands.credits",
    "server.commands.jobs",
    "server.commands.filters",
    "server.logs",
    "server.worker_tracing",
    "workers.main",
    "server.uvicorn_config",
    "server.app",
    "tests.workers.scripted_worker",
)


class PreforkServer:
    """Create it in the main thread: the server and its forked processes die when the thread that created it ends."""

    def __init__(self) -> None:
        base_environment = {name: value for name, value in os.environ.items() if not name.startswith("TRELLIS_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.prefork"],
            cwd=ROOT,
            env=base_environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=die_with_parent(signal.SIGKILL),  # noqa: PLW1509 - makes two system calls only, loaded beforehand
        )
        self._lock = threading.Lock()

    def start_child(self, command: Command) -> ManagedProcess:
        """Like `ManagedProcess(command)`, for a `command` that runs a module of the product."""
        assert command.log is not None
        command.log.parent.mkdir(exist_ok=True)
        return ForkedChild(command, self.start(command.argv, command.environment, command.log, folder=command.cwd))

    def start(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        errors: Path | None = None,
        folder: str | None = None,
        stdin: Path | None = None,
    ) -> ForkedProcess:
        """Fork a process for `python -m …` arguments; append its stdout to `log` and its stderr to `errors`, by default the same file."""
        for path in filter(None, (log, errors)):
            path.touch()
        request = {"argv": list(argv), "environment": dict(environment), "folder": folder or str(ROOT), "log": str(log)}
        return ForkedProcess(self._request({**request, "errors": str(errors or log), "stdin": str(stdin or os.devnull)}), self)

    def exit_code(self, pid: int) -> int | None:
        """Return the exit code of a process forked here, or None while it runs."""
        return self._request({"ended": pid})

    def send_signal(self, pid: int, signal_number: int) -> None:
        """Signal a process forked here unless it has been reaped: only its parent knows that nothing else has its pid."""
        self._request({"signalled": pid, "signal": int(signal_number)})

    def _request(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())


@cache
def prefork_server() -> PreforkServer:
    """The prefork server of this test process, which ends with it."""
    return PreforkServer()


def run_command(environment: Mapping[str, str], *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run `trellis` with these arguments in a forked process. Blocking."""
    command = [sys.executable, "-m", "server.cli", *arguments]
    with tempfile.TemporaryDirectory() as folder:
        stdin_path, stdout_path, stderr_path = (Path(folder) / name for name in ("input", "output", "errors"))
        stdin_path.write_text(stdin)
        process = prefork_server().start(command, environment, stdout_path, errors=stderr_path, stdin=stdin_path)
        code = process.wait(60)
        return subprocess.CompletedProcess(command, code, stdout_path.read_text(), stderr_path.read_text())


class ForkedProcess:
    """The part of `subprocess.Popen` that tests use, for a child of the prefork server."""

    def __init__(self, pid: int, server: PreforkServer) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._server = server

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._server.exit_code(self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"process {self.pid}", cast("float", timeout))
            time.sleep(POLL_INTERVAL)
        return code

    def send_signal(self, signal_number: int) -> None:
        self._server.send_signal(self.pid, signal_number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class ForkedChild(ManagedProcess):
    """A managed process that is a child of the prefork server."""

    def __init__(self, command: Command, process: Any) -> None:  # pyright: ignore[reportMissingSuperCall] - it would start another process
        self.command = command
        self.process = process
        self._stop_requested = False


async def _open_store() -> None:
    """Load the description of S3, which takes a process longer than anything else of its start. Nothing is connected to."""
    from db.settings import StateSettings
    from db.stores.objects import ObjectStore

    async with ObjectStore.open(StateSettings(s3_endpoint_url="http://127.0.0.1:1")):
        pass


def _main() -> None:
    with importing():
        for name in PRELOADED_MODULES:
            importlib.import_module(name)
        asyncio.run(_open_store())
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    exit_codes: dict[int, int] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "ended" in request:
            child_pid = request["ended"]
            if child_pid not in exit_codes:  # two threads may ask about the same process
                pid, status = os.waitpid(child_pid, os.WNOHANG)
                if pid:
                    exit_codes[child_pid] = os.waitstatus_to_exitcode(status)
            reply = exit_codes.get(child_pid)
        elif "signalled" in request:
            reply = None
            if request["signalled"] not in exit_codes:
                os.kill(request["signalled"], request["signal"])
        else:
            set_death_signal = die_with_parent(signal.SIGKILL)
            reply = os.fork()
            exit_codes.pop(reply, None)  # the pid may be reused
            if not reply:
                set_death_signal()
                replies.close()
                _run_forked(request)
        print(json.dumps(reply), file=replies, flush=True)


def _run_forked(request: dict[str, Any]) -> None:
    """Set up what a fresh interpreter would have, run the module, and exit."""
    os.setpgid(0, 0)
    os.chdir(request["folder"])
    stdin = os.open(request["stdin"], os.O_RDONLY)
    log, errors = (os.open(request[name], os.O_WRONLY | os.O_APPEND) for name in ("log", "errors"))
    for descriptor, target in ((stdin, 0), (log, 1), (errors, 2)):
        os.dup2(descriptor, target)
    sys.stdin = os.fdopen(0, closefd=False)
    os.environ.clear()
    os.environ.update(request["environment"])
    from db.settings import state_settings
    from server.cli import app
    from server.settings import server_settings
    from workers.settings import worker_settings

    for settings in (state_settings, server_settings, worker_settings):
        settings.cache_clear()
    _, _, module, *arguments = request["argv"]  # python -m
    code: object = None
    try:
        if module != "server.cli":
            sys.argv[1:] = arguments
            runpy.run_module(module, run_name="__main__")
        else:
            if "worker" in arguments:
                hooks.install()
            if "api" in arguments:
                report_unplanned()
            app(arguments, prog_name="trellis")
    except SystemExit as end:
        code = end.code
    _exit(code)


def _exit(code: object) -> NoReturn:
    """Do what the interpreter does at its end, but do not take apart hundreds of imported modules: that is most of the CPU time of a command."""
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue] - waits for threads
    atexit._run_exitfuncs()
    gc.collect()  # what is left open says so
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    _main()
