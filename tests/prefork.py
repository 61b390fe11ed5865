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
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, cast

from server.embedded.processes import Command, ManagedProcess, die_with_parent
from server.importing import importing
from tests import forked_forkserver
from tests.faults import hooks
from tests.unplanned import report_unplanned

ROOT = Path(__file__).parents[1]
POLL_INTERVAL = 0.01  # seconds
SHARED_SERVER = "TESTS_PREFORK_SERVER"
"""The variable with the path of the socket of a server that all test processes of a run share."""
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
    """A connection to the prefork server of this run of tests, or to one of this process.

    Create it in the main thread: the server of a process and its forked processes die when the thread that created it ends.
    """

    def __init__(self) -> None:
        if path := os.environ.get(SHARED_SERVER):
            self._connection = socket.socket(socket.AF_UNIX)
            self._connection.connect(path)
        else:
            self._connection, theirs = socket.socketpair()
            with theirs:
                self._process = _start_server("serve", theirs)
        self._replies = self._connection.makefile("r")
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
        with self._lock:
            self._connection.sendall(json.dumps(request).encode() + b"\n")
            return json.loads(self._replies.readline())


def start_shared_server(folder: Path) -> subprocess.Popen[bytes]:
    """Start a server for all test processes that are started from here on. It imports nothing before it is asked for something."""
    os.environ[SHARED_SERVER] = str(folder / "prefork")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.environ[SHARED_SERVER])
        listener.listen()
        return _start_server("listen", listener)


def _start_server(mode: str, theirs: socket.socket) -> subprocess.Popen[bytes]:
    base_environment = {name: value for name, value in os.environ.items() if not name.startswith("TRELLIS_")}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.prefork", mode, str(theirs.fileno())],
        cwd=ROOT,
        env=base_environment,
        stdin=subprocess.DEVNULL,
        stdout=2,
        pass_fds=[theirs.fileno()],
        preexec_fn=die_with_parent(signal.SIGKILL),  # noqa: PLW1509 - makes two system calls only, loaded beforehand
    )


def runs_worker(argv: Sequence[str]) -> bool:
    """Whether the arguments of Python are those of a worker."""
    return "worker" in argv or "tests.workers.scripted_worker" in argv


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


class _Server:
    """Serves its connections in turn."""

    def __init__(self) -> None:
        self._sockets = selectors.DefaultSelector()
        self._exit_codes: dict[int, int] = {}
        self._owners: dict[int, socket.socket] = {}

    def serve(self, mode: str, first: socket.socket) -> None:
        """Serve a connection until it is closed, or all that a listening socket accepts."""
        self._sockets.register(first, selectors.EVENT_READ, self._accept if mode == "listen" else self._read)
        while self._sockets.get_map():
            for key, _ in self._sockets.select():
                key.data(key.fileobj)

    def _accept(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        self._sockets.register(connection, selectors.EVENT_READ, self._read)

    def _read(self, connection: socket.socket) -> None:
        """Answer one request; a client sends the next one when it has the answer. What a client started dies with it."""
        received = b""
        while not received.endswith(b"\n"):
            chunk = connection.recv(1 << 16)
            if not chunk:
                self._sockets.unregister(connection)
                connection.close()
                for pid, owner in [*self._owners.items()]:
                    if owner is connection and self._exit_code(pid) is None:
                        os.kill(pid, signal.SIGKILL)
                return
            received += chunk
        connection.sendall(json.dumps(self._answer(connection, json.loads(received))).encode() + b"\n")

    def _answer(self, connection: socket.socket, request: dict[str, Any]) -> int | None:
        if "ended" in request:
            return self._exit_code(request["ended"])
        if "signalled" in request:
            if self._exit_code(request["signalled"]) is None:
                os.kill(request["signalled"], request["signal"])
            return None
        _import_modules()
        if runs_worker(request["argv"]):
            forked_forkserver.import_libraries()
        set_death_signal = die_with_parent(signal.SIGKILL)
        pid = os.fork()
        if not pid:
            set_death_signal()
            ours = [key.fileobj for key in self._sockets.get_map().values()]
            self._sockets.close()
            for each in ours:
                cast("socket.socket", each).close()
            _run_forked(request)
        self._exit_codes.pop(pid, None)  # the pid may be reused
        self._owners[pid] = connection
        return pid

    def _exit_code(self, child_pid: int) -> int | None:
        if child_pid not in self._exit_codes:  # two threads may ask about the same process
            pid, status = os.waitpid(child_pid, os.WNOHANG)
            if pid:
                self._exit_codes[child_pid] = os.waitstatus_to_exitcode(status)
                del self._owners[child_pid]
        return self._exit_codes.get(child_pid)


@cache
def _import_modules() -> None:
    with importing():
        for name in PRELOADED_MODULES:
            importlib.import_module(name)
        asyncio.run(_open_store())


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
    if runs_worker(request["argv"]) and forked_forkserver.EXEC not in os.environ:
        forked_forkserver.install()
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
    _Server().serve(sys.argv[1], socket.socket(fileno=int(sys.argv[2])))
