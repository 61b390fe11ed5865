"""Inside the child: one body runs, what it reports goes up the pipe, and the process ends."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import importlib
import logging
import os
import resource
import socket
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any, TextIO

from workers.ml.reporting import NodeStatus
from workers.runtime import error_classification, frames, process_tree

SEND_INTERVAL = 0.05  # seconds between two messages of reports
CPU_KILL_MARGIN = 10  # seconds
NOISY_LOGGERS = ("matplotlib", "PIL", "fontTools")  # libraries that log at INFO what is of use to nobody


class PipeReporter:
    """Collects what a body reports and sends it at most every 50 ms; a thread sends what a silent body left behind."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._pending: dict[str, Any] = {}
        self._sent_at = 0.0
        self._has_pending = threading.Event()
        self._flush_thread: threading.Thread | None = None

    def progress(self, percent: float, step: str) -> None:
        with self._lock:
            self._pending["progress"] = [float(percent), step]
        self._schedule_flush()

    def node(
        self,
        key: str,
        status: NodeStatus,
        progress: int = 0,
        output: dict[str, Any] | None = None,
        error: dict[str, Any] | None = None,
    ) -> None:
        with self._lock:
            self._pending.setdefault("nodes", []).append([key, status, progress, output, error])
        self._schedule_flush()

    def metric(self, key: str, step: int, value: float) -> None:
        with self._lock:
            # As text: JSON has no NaN, and here it must arrive.
            self._pending.setdefault("points", []).append([key, int(step), repr(float(value))])
        self._schedule_flush()

    def checkpoint(self, name: str, position: int, state: dict[str, Any], file: Path | None = None, *, disposable: bool = False) -> None:
        with self._lock:
            path = None if file is None else str(file.absolute())
            self._pending.setdefault("checkpoints", []).append([name, position, state, path, disposable])
        self.flush()  # so that points told later are no part of it

    def resumed(self, name: str, message: str) -> None:
        with self._lock:
            self._pending["resumed"] = [name, message]
        self.flush()

    def restarted(self, name: str, message: str) -> None:
        with self._lock:
            self._pending["restarted"] = [name, message]
        self.flush()

    def log(self, message: str) -> None:
        # What is printed goes the same way, so that all lines stay in their order.
        sys.stderr.write(f"{message}\n")

    def flush(self) -> None:
        """Send what is pending."""
        with self._lock:
            if self._pending:
                self._connection.sendall(frames.encode({"report": self._pending}))
                self._pending = {}
            self._sent_at = time.monotonic()

    def _schedule_flush(self) -> None:
        if time.monotonic() - self._sent_at >= SEND_INTERVAL:
            self.flush()
            return
        if self._flush_thread is None:
            self._flush_thread = threading.Thread(target=self._flush_loop, daemon=True)
            self._flush_thread.start()
        self._has_pending.set()

    def _flush_loop(self) -> None:
        with contextlib.suppress(OSError):  # the worker has gone, and this process will soon
            while True:
                self._has_pending.wait()
                self._has_pending.clear()
                time.sleep(SEND_INTERVAL)
                self.flush()


def main(connection: socket.socket) -> int:
    """Wait for one order, run it, answer; the exit status."""
    request = frames.receive(connection)
    if request is None:
        return 0
    _set_up_process(request["folder"], request["limits"])
    process_tree.lower_priority(request["niceness"])
    _set_up_output()
    reporter = PipeReporter(connection)
    # The worker may have stood still between its claim and this: on the clock of the machine, which all its processes share.
    response = _run(request, reporter) if time.monotonic() < request["until"] else {"late": True}
    try:
        _flush_output()  # with the answer, the worker has heard enough and kills what is left
        reporter.flush()
        connection.sendall(frames.encode(response))
    except OSError:
        return 1
    return 0


def _run(request: dict[str, Any], reporter: PipeReporter) -> dict[str, Any]:
    oom_kills_before = process_tree.oom_kills() or 0
    try:
        module, _, name = request["target"].partition(":")
        result = getattr(importlib.import_module(module), name)(request["spec"], reporter)
        response = {"result": result}
        frames.encode(response)  # a result that is no JSON is the body's failure, to be told as such
    except BaseException as error:  # noqa: BLE001 - whatever a body raises is an answer to its worker; native panics are no `Exception`
        return error_classification.error_response(error, oom_kills=(process_tree.oom_kills() or 0) - oom_kills_before)
    return response


def _set_up_process(folder: str, limits: dict[str, int]) -> None:
    os.chdir(folder)
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    for name, value in limits.items():
        rlimit = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(rlimit)[1]
        soft_limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # Past the hard limit of CPU comes SIGKILL, which says nothing; past the soft one SIGXCPU.
        hard_limit = soft_limit + CPU_KILL_MARGIN if name == "CPU" and hard == resource.RLIM_INFINITY else soft_limit
        resource.setrlimit(rlimit, (soft_limit, hard_limit))


def _set_up_output() -> None:
    """What the body prints, logs and warns of leaves line by line, whatever characters it has; a crash says where it was."""
    # Anew: the nursery's own streams remember whether its output was a file, in which one can seek, and cannot be told otherwise.
    sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115 - not a path; stays open
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115 - as above
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s", force=True)
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.showwarning = _show_warning
    faulthandler.enable()


def _flush_output() -> None:
    """All that was printed is in the pipe, whoever holds it back: the streams of Python, or those of C, which native libraries use."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # a body may have closed it, or put something else in its place
            stream.flush()
    ctypes.CDLL(None).fflush(None)


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None, line: str | None = None
) -> None:
    del file, line  # the module says enough: where the machine keeps its files is nobody's business
    logging.getLogger(Path(filename).stem).warning("%s: %s (line %d)", category.__name__, message, lineno)
