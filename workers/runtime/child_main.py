"""The child process: runs a body, sends its reports to the worker, and exits, or runs another body of the same kind and account."""

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
from workers.runtime import error_classification, frames, process_tree, sandbox

SEND_INTERVAL = 0.05  # seconds between report messages
FLUSH_THREAD = "reports"
REUSABLE_MEMORY = 256 * 1024**2  # bytes that a process may have kept from its bodies to be used for another one
CPU_KILL_MARGIN = 10  # CPU seconds between SIGXCPU (soft limit) and SIGKILL (hard limit)
NOISY_LOGGERS = ("PIL",)  # libraries whose INFO records are of no use in a job's log


class PipeReporter:
    """Collects a body's reports and sends them at most every 50 ms; a thread sends what is pending when the body reports nothing more.

    Once closed it sends nothing: a thread that a body left behind cannot report for the next one, nor ask. The answer to a question is the next message
    that comes, so a process whose body ended before its answer runs no other body.
    """

    def __init__(self, connection: socket.socket, folder: Path) -> None:
        self._connection = connection
        self._folder = folder
        self._lock = threading.Lock()
        self._pending: dict[str, Any] = {}
        self._sent_at = 0.0
        self._has_pending = threading.Event()
        self._is_closed = False
        self._flush_thread: threading.Thread | None = None
        self._step: str | None = None
        self._running_node: str | None = None
        self._question_lock = threading.Lock()
        self.is_waiting = False  # for an answer

    def progress(self, percent: float, step: str) -> None:
        with self._lock:
            self._step = step
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
            if status == "running":
                self._running_node = key
            elif key == self._running_node:
                self._running_node = None
            self._pending.setdefault("nodes", []).append([key, status, progress, output, error])
        self._schedule_flush()

    def metric(self, key: str, step: int, value: float) -> None:
        with self._lock:
            # The value as text, because JSON has no NaN; with what reports it, since the message does not keep the order of points and nodes.
            part = self._running_node or self._step
            self._pending.setdefault("points", []).append([key, int(step), repr(float(value)), part, time.time()])
        self._schedule_flush()

    def checkpoint(self, name: str, position: int, state: dict[str, Any], file: Path | None = None, *, disposable: bool = False) -> None:
        with self._lock:
            path = None if file is None else str(self._folder / file)
            self._pending.setdefault("checkpoints", []).append([name, position, state, path, disposable])
        self.flush()  # so that later points are not part of it

    def resumed(self, name: str, message: str) -> None:
        with self._lock:
            self._pending["resumed"] = [name, message]
        self.flush()

    def restarted(self, name: str, message: str) -> None:
        with self._lock:
            self._pending["restarted"] = [name, message]
        self.flush()

    def log(self, message: str) -> None:
        # The same stream as printed output, which keeps the order of lines.
        sys.stderr.write(f"{message}\n")

    def ask(self, question: str, arguments: dict[str, Any]) -> Any:
        with self._question_lock:
            with self._lock:
                if self._is_closed:
                    raise RuntimeError("The body has ended; nothing answers.")
                message = frames.encode({"question": [question, arguments]})
                self.is_waiting = True
                self._send_pending()  # the worker knows what was reported before
                self._connection.sendall(message)
            answer = frames.receive(self._connection)
            self.is_waiting = False
        if answer is None:
            raise ConnectionError("The worker closed the connection.")
        return answer["answer"]

    def flush(self) -> None:
        """Send the pending reports."""
        with self._lock:
            self._send_pending()

    def close(self) -> None:
        """Send the pending reports, the last ones."""
        with self._lock:
            self._send_pending()
            self._is_closed = True
        self._has_pending.set()  # ends the thread

    def _send_pending(self) -> None:
        if self._pending and not self._is_closed:
            self._connection.sendall(frames.encode({"report": self._pending}))
        self._pending = {}
        self._sent_at = time.monotonic()

    def _schedule_flush(self) -> None:
        if time.monotonic() - self._sent_at >= SEND_INTERVAL:
            self.flush()
            return
        if self._flush_thread is None:
            self._flush_thread = threading.Thread(target=self._flush_loop, name=FLUSH_THREAD, daemon=True)
            self._flush_thread.start()
        self._has_pending.set()

    def _flush_loop(self) -> None:
        with contextlib.suppress(OSError):  # the worker has died; this process will soon
            while not self._is_closed:
                self._has_pending.wait()
                self._has_pending.clear()
                time.sleep(SEND_INTERVAL)
                self.flush()


def main(connection: socket.socket) -> int:
    """Run one request after another, each with its response, until the worker closes the socket. Return the exit status."""
    body_sandbox = sandbox.Sandbox()
    is_set_up = False
    memory_at_start = _anonymous_memory()
    while (request := frames.receive(connection)) is not None:
        os.chdir(request["folder"])
        os.environ["TMPDIR"] = tempfile.tempdir = request["folder"]
        if not is_set_up:
            _set_limits(request["limits"])
            process_tree.lower_priority(request["niceness"])
            _set_up_output()
            # Before the body's code is imported, since a library may start threads, which would remain unrestricted.
            body_sandbox.enter(request["target"], request["paths"])
            is_set_up = True
        reporter = PipeReporter(connection, Path(request["folder"]))
        # The worker may have been frozen since its claim. All processes of a machine share the monotonic clock.
        response = _run(request, reporter) if time.monotonic() < request["deadline"] else {"expired": True}
        is_reusable = request["is_shared"] and "result" in response and not reporter.is_waiting and _is_reusable(memory_at_start)
        try:
            _flush_output()  # before the response: on receiving it, the worker kills this process, unless it can be used again
            if is_reusable:
                os.write(1, request["end_of_output"].encode())
            reporter.close()
            connection.sendall(frames.encode({**response, "is_reusable": True} if is_reusable else response))
        except OSError:
            return 1
        if not is_reusable:
            break
    return 0


def _is_reusable(memory_at_start: int) -> bool:
    """Whether another body would find this process as this one found it: without processes and threads of Python's, its memory and CPU time
    hardly used. The limit of CPU time, which counts all bodies of a process, is a hundred times as high."""
    soft_limit = resource.getrlimit(resource.RLIMIT_CPU)[0]
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return (
        (soft_limit == resource.RLIM_INFINITY or usage.ru_utime + usage.ru_stime <= soft_limit / 100)
        and not any(thread.name != FLUSH_THREAD and thread is not threading.main_thread() for thread in threading.enumerate())
        and not process_tree.children()
        and _anonymous_memory() - memory_at_start <= REUSABLE_MEMORY
    )


def _anonymous_memory() -> int:
    return process_tree.memory_upper_bound([os.getpid()])


def _run(request: dict[str, Any], reporter: PipeReporter) -> dict[str, Any]:
    oom_kills_before = process_tree.oom_kills() or 0
    try:
        module, _, name = request["target"].partition(":")
        with warnings.catch_warnings():  # also forgets what an earlier body was warned of
            result = getattr(importlib.import_module(module), name)(request["spec"], reporter)
        response = {"result": result}
        frames.encode(response)  # a result that cannot be encoded is the body's failure
    except BaseException as error:  # noqa: BLE001 - whatever a body raises is its response; panics of native code are no `Exception`
        return error_classification.error_response(error, oom_kills=(process_tree.oom_kills() or 0) - oom_kills_before)
    return response


def _set_limits(limits: dict[str, int]) -> None:
    for name, value in limits.items():
        rlimit = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(rlimit)[1]
        soft_limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # At the soft CPU limit comes SIGXCPU, which tells the reason; at the hard limit SIGKILL, which does not.
        hard_limit = soft_limit + CPU_KILL_MARGIN if name == "CPU" and hard == resource.RLIM_INFINITY else soft_limit
        resource.setrlimit(rlimit, (soft_limit, hard_limit))


def _set_up_output() -> None:
    """Send printed text, log records and warnings line by line, any characters included; dump the traceback on a crash."""
    # New streams: those of the forkserver have cached whether its output was a seekable file.
    sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115 - not a path; stays open
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115 - as above
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s", force=True)
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.showwarning = _show_warning
    faulthandler.enable()


def _flush_output() -> None:
    """Flush Python's streams and those of C, which native libraries use."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # a body may have closed or replaced it
            stream.flush()
    ctypes.CDLL(None).fflush(None)


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None, line: str | None = None
) -> None:
    del file, line  # the module's name suffices; paths of the machine are not disclosed
    logging.getLogger(Path(filename).stem).warning("%s: %s (line %d)", category.__name__, message, lineno)
