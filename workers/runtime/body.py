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
from workers.runtime import family, frames, verdict

QUIET = 0.05  # seconds between two messages of reports
LAST_CPU = 10  # seconds
TALKATIVE = ("matplotlib", "PIL", "fontTools")  # libraries that log at INFO what is of use to nobody


class PipeReporter:
    """Collects what a body reports and sends it at most every 50 ms; a thread sends what a silent body left behind."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._pending: dict[str, Any] = {}
        self._sent_at = 0.0
        self._something = threading.Event()
        self._flusher: threading.Thread | None = None

    def progress(self, percent: float, step: str) -> None:
        with self._lock:
            self._pending["progress"] = [float(percent), step]
        self._reported()

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
        self._reported()

    def metric(self, key: str, step: int, value: float) -> None:
        with self._lock:
            # As text: JSON has no NaN, and here it must arrive.
            self._pending.setdefault("points", []).append([key, int(step), repr(float(value))])
        self._reported()

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

    def _reported(self) -> None:
        if time.monotonic() - self._sent_at >= QUIET:
            self.flush()
            return
        if self._flusher is None:
            self._flusher = threading.Thread(target=self._keep_flushing, daemon=True)
            self._flusher.start()
        self._something.set()

    def _keep_flushing(self) -> None:
        with contextlib.suppress(OSError):  # the worker has gone, and this process will soon
            while True:
                self._something.wait()
                self._something.clear()
                time.sleep(QUIET)
                self.flush()


def serve(connection: socket.socket) -> int:
    """Wait for one order, run it, answer; the exit status."""
    order = frames.receive(connection)
    if order is None:
        return 0
    _settle_in(order["folder"], order["limits"])
    family.give_way(order["niceness"])
    _speak_up()
    reporter = PipeReporter(connection)
    # The worker may have stood still between its claim and this: on the clock of the machine, which all its processes share.
    answer = _run(order, reporter) if time.monotonic() < order["until"] else {"late": True}
    try:
        _finish_speaking()  # with the answer, the worker has heard enough and kills what is left
        reporter.flush()
        connection.sendall(frames.encode(answer))
    except OSError:
        return 1
    return 0


def _run(order: dict[str, Any], reporter: PipeReporter) -> dict[str, Any]:
    kills_before = family.kills_for_memory() or 0
    try:
        module, _, name = order["target"].partition(":")
        result = getattr(importlib.import_module(module), name)(order["spec"], reporter)
        answer = {"result": result}
        frames.encode(answer)  # a result that is no JSON is the body's failure, to be told as such
    except BaseException as error:  # noqa: BLE001 - whatever a body raises is an answer to its worker; native panics are no `Exception`
        return verdict.answer(error, kills=(family.kills_for_memory() or 0) - kills_before)
    return answer


def _settle_in(folder: str, limits: dict[str, int]) -> None:
    os.chdir(folder)
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    for name, value in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        ceiling = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # Past the hard limit of CPU comes SIGKILL, which says nothing; past the soft one SIGXCPU.
        last = ceiling + LAST_CPU if name == "CPU" and hard == resource.RLIM_INFINITY else ceiling
        resource.setrlimit(kind, (ceiling, last))


def _speak_up() -> None:
    """What the body prints, logs and warns of leaves line by line, whatever characters it has; a crash says where it was."""
    # Anew: the nursery's own streams remember whether its output was a file, in which one can seek, and cannot be told otherwise.
    sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115 - not a path; stays open
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115 - as above
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s", force=True)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.showwarning = _show_warning
    faulthandler.enable()


def _finish_speaking() -> None:
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
