"""The small process between a worker and its bodies: it forks them from libraries imported once, and kills them when their time is over.

It runs no body and holds no thread, so nothing that a body or its worker does keeps it from looking at the clock: a worker that is frozen
or cut off stops renewing deadlines, and its bodies are dead before another worker may start their jobs.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import psutil

from workers.runtime import body

SAMPLE = 0.1  # seconds between looks at the memory of bodies
FAMILY_EVERY = 10  # of those looks, one in so many counts what a body forked too
HEAVY = (
    "numpy",
    "polars",
    "pyarrow.parquet",
    "pyarrow.csv",
    "sklearn.compose",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.pipeline",
    "lightgbm",
    "workers.ml.ingest",
    "workers.ml.training",
    "workers.ml.artifacts",
)

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


@dataclass
class Infant:
    """A child, and when it is to die. `until` is on the monotonic clock, which all processes of a machine share."""

    pid: int
    until: float | None = None
    memory: int | None = None
    kill_at: float | None = None
    reason: str | None = None


def main(descriptor: int, *, preload: bool) -> None:
    """Serve the worker at the other end of `descriptor` until it goes away."""
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)  # stopping is the worker's word, said over the socket
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # what bodies leave behind comes to us, and is killed
    Nursery(socket.socket(fileno=descriptor), HEAVY if preload else ()).serve()


class Nursery:
    """`heavy` is imported one by one while there is nothing else to do, so that a job at once after the start need not wait for all."""

    def __init__(self, control: socket.socket, heavy: Sequence[str]) -> None:
        self._control = control
        self._heavy = list(heavy)
        self._infants: dict[int, Infant] = {}
        self._buffer = b""
        self._descriptors: list[int] = []
        self._sampled_at = 0.0
        self._samples = 0
        self._wake, wake = os.pipe()
        for end in (self._wake, wake):
            os.set_blocking(end, False)
        self._wake_end = wake
        signal.signal(signal.SIGCHLD, _nothing)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def serve(self) -> None:
        self._say({"ready": True})
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            ready = dict(poll.poll(0 if self._heavy else self._patience()))
            if self._wake in ready:
                os.read(self._wake, 4096)
            if self._control.fileno() in ready and not self._listen():
                break
            self._reap()
            self._watch()
            if self._heavy and not ready:
                self._import(self._heavy.pop(0))
        for infant in self._infants.values():
            self._kill(infant, signal.SIGKILL)

    def _import(self, name: str) -> None:
        try:
            importlib.import_module(name)
        except ImportError:
            traceback.print_exc()  # the body that needs it says so again, as its own failure
        if not self._heavy:
            gc.collect()
            gc.freeze()
            self._say({"warm": True})

    def _patience(self) -> float | None:
        """Milliseconds until something is due; None when nothing is."""
        due = [at for infant in self._infants.values() for at in (infant.until, infant.kill_at) if at is not None]
        if any(infant.memory is not None for infant in self._infants.values()):
            due.append(self._sampled_at + SAMPLE)
        return max(0.0, min(due) - time.monotonic()) * 1000 + 1 if due else None

    def _say(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # the worker has gone; the next read tells
            self._control.sendall(json.dumps(message).encode() + b"\n")

    def _listen(self) -> bool:
        try:
            part, descriptors, _, _ = socket.recv_fds(self._control, 65_536, 8)
        except OSError:
            return False
        if not part:
            return False
        self._descriptors += descriptors
        *lines, self._buffer = (self._buffer + part).split(b"\n")
        for line in lines:
            self._obey(json.loads(line))
        return True

    def _obey(self, order: dict[str, Any]) -> None:
        number = order["id"]
        if order["do"] == "spawn":
            self._spawn(number)
        elif number in self._infants:
            infant = self._infants[number]
            if order["do"] == "arm":
                infant.until = order["until"]
                infant.memory = order["memory"]
            else:
                infant.reason = infant.reason or order["reason"]
                if order["patience"] > 0:
                    self._kill(infant, signal.SIGTERM)
                    infant.kill_at = time.monotonic() + order["patience"]
                else:
                    self._kill(infant, signal.SIGKILL)

    def _spawn(self, number: int) -> None:
        connection, output = self._descriptors[:2]
        del self._descriptors[:2]
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._be_born(connection, output, parent)
        os.close(connection)
        os.close(output)
        self._infants[number] = Infant(pid)
        self._say({"spawned": number, "pid": pid})

    def _be_born(self, connection: int, output: int, parent: int) -> None:
        """In the child; never returns."""
        status = 1
        try:
            os.setsid()
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
            signal.set_wakeup_fd(-1)
            for name in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
                signal.signal(name, signal.SIG_DFL)
            self._control.close()
            os.close(self._wake)
            os.close(self._wake_end)
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.close(nothing)
            os.close(output)
            _die_first()
            status = body.serve(socket.socket(fileno=connection))
        except BaseException:  # noqa: BLE001 - a child never goes on in the nursery's code
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)  # no exit handler of a library, and no thread of a body, holds the process back

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for number, infant in list(self._infants.items()):
                if infant.pid == pid:
                    self._kill(infant, signal.SIGKILL)  # what it forked dies with it
                    del self._infants[number]
                    self._say({"ended": number, "status": os.waitstatus_to_exitcode(status), "reason": infant.reason})
                    self._kill_orphans()

    def _kill_orphans(self) -> None:
        known = {infant.pid for infant in self._infants.values()}
        for process in psutil.Process().children():
            if process.pid not in known:
                with contextlib.suppress(psutil.Error):
                    process.kill()

    def _watch(self) -> None:
        now = time.monotonic()
        for infant in self._infants.values():
            if infant.until is not None and now >= infant.until:
                infant.reason = infant.reason or "lease"
                self._kill(infant, signal.SIGKILL)
                infant.until = now + 1.0
            if infant.kill_at is not None and now >= infant.kill_at:
                self._kill(infant, signal.SIGKILL)
                infant.kill_at = now + 1.0
        if now - self._sampled_at >= SAMPLE:
            self._sampled_at = now
            self._samples += 1
            for infant in self._infants.values():
                if infant.memory is not None and _used(infant.pid, family=self._samples % FAMILY_EVERY == 0) > infant.memory:
                    infant.reason = infant.reason or "memory"
                    self._kill(infant, signal.SIGKILL)

    def _kill(self, infant: Infant, number: int) -> None:
        """The body and its group; before it has made a group of its own, the body alone."""
        try:
            os.killpg(infant.pid, number)
        except ProcessLookupError:
            with contextlib.suppress(ProcessLookupError):
                os.kill(infant.pid, number)


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """A handler, so that the signal wakes the loop; what it means is found by `waitpid`."""


def _used(pid: int, *, family: bool) -> int:
    """Bytes that are the process's own: mapped files can be dropped at any time, so they do not count."""
    try:
        process = psutil.Process(pid)
        members = [process, *process.children(recursive=True)] if family else [process]
        memories = [member.memory_info() for member in members]
    except psutil.Error:
        return 0
    return sum(memory.rss - getattr(memory, "shared", 0) for memory in memories)


def _die_first() -> None:
    """When the machine runs out of memory, Linux is to choose the body, not the worker or a database beside it."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:  # noqa: PTH123 - a file of the kernel
        score.write("800")


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    main(int(sys.argv[1]), preload=sys.argv[2] == "preload")
