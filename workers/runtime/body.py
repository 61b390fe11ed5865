"""Inside the child: one body runs, what it reports goes up the pipe, and the process ends."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import resource
import socket
import tempfile
import threading
import time
import traceback
from typing import Any

from workers.ml.errors import BadInput
from workers.ml.reporting import NodeStatus
from workers.runtime import frames

QUIET = 0.05  # seconds between two messages of reports
LINE = 2_000


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

    def log(self, message: str) -> None:
        with self._lock:
            self._pending.setdefault("lines", []).append(message[:LINE])
        self._reported()

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
    reporter = PipeReporter(connection)
    answer = _run(order, reporter)
    try:
        reporter.flush()
        connection.sendall(frames.encode(answer))
    except OSError:
        return 1
    return 0


def _run(order: dict[str, Any], reporter: PipeReporter) -> dict[str, Any]:
    try:
        module, _, name = order["target"].partition(":")
        result = getattr(importlib.import_module(module), name)(order["spec"], reporter)
        answer = {"result": result}
        frames.encode(answer)  # a result that is no JSON is the body's failure, to be told as such
    except BadInput as error:
        return {"bad": {"code": error.code, "message": error.message, "row": error.row, "column": error.column, "path": error.path}}
    except MemoryError:
        return {"memory": True}
    except Exception as error:  # noqa: BLE001 - whatever a body raises is an answer to its worker
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            return {"memory": True}
        return {"error": {"message": f"{type(error).__name__}: {error}"[:LINE], "traceback": traceback.format_exc()[-20_000:]}}
    return answer


def _settle_in(folder: str, limits: dict[str, int]) -> None:
    os.chdir(folder)
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    for name, value in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        ceiling = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (ceiling, ceiling))
