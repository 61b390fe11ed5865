"""The small process between a worker and its bodies: it forks them from libraries imported once, and kills them when their time is over.

It runs no body and holds no thread, so nothing that a body or its worker does keeps it from looking at the clock: a worker that is frozen
or cut off stops renewing deadlines, and its bodies are dead before another worker may start their jobs.
"""

from __future__ import annotations

import contextlib
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
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from workers.runtime import body, family

SAMPLE = 0.1  # seconds between looks at the memory of bodies
CLOSE_SAMPLE = 0.02  # the same once one has used half of what it may; a core fills some GB a second
FAMILY = 0.5  # seconds between looks at what bodies have forked
MOST_PROCESSES = 512  # of one body; pools have one for each core, and whoever forks without end takes the machine's last
MOURNING = 2.0  # seconds that what a dead body forked has to die too
AGAIN = 0.02
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


@dataclass
class Infant:
    """A child, and when it is to die. `until` is on the monotonic clock, which all processes of a machine share."""

    pid: int
    until: float | None = None
    memory: int | None = None
    kill_at: float | None = None
    reason: str | None = None
    family: list[int] = field(default_factory=list[int])
    kills_before: int | None = None


@dataclass
class Dead:
    """A child that has ended, and is not told of before what it forked has ended too."""

    number: int
    status: int
    reason: str | None
    until: float


def main(descriptor: int, *, preload: bool) -> None:
    """Serve the worker at the other end of `descriptor` until it goes away."""
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)  # stopping is the worker's word, said over the socket
    family.adopt()  # what bodies leave behind comes to us, and is killed
    if preload:
        _import_all()
    Nursery(socket.socket(fileno=descriptor)).serve()


def _import_all() -> None:
    """Before there is a child: while a library is imported, which may take seconds, nobody would look at the clock."""
    for name in HEAVY:
        try:
            importlib.import_module(name)
        except Exception:  # noqa: BLE001 - the body that needs it says so again, as its own failure
            traceback.print_exc()
    gc.collect()
    gc.freeze()


class Nursery:
    """Makes children for the worker at the other end of `control`."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._infants: dict[int, Infant] = {}
        self._buffer = b""
        self._descriptors: list[int] = []
        self._dead: list[Dead] = []
        self._sample_at = 0.0
        self._family_at = 0.0
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
            ready = dict(poll.poll(self._patience()))
            if self._wake in ready:
                os.read(self._wake, 4096)
            if self._control.fileno() in ready and not self._listen():
                break
            self._reap()
            self._watch()
        for infant in self._infants.values():
            self._kill(infant, signal.SIGKILL)
        until = time.monotonic() + MOURNING / 2
        while time.monotonic() < until and (self._infants or self._dead):
            time.sleep(AGAIN)
            self._reap()

    def _patience(self) -> float | None:
        """Milliseconds until something is due; None when nothing is."""
        due = [at for infant in self._infants.values() for at in (infant.until, infant.kill_at) if at is not None]
        if any(infant.memory is not None for infant in self._infants.values()):
            due.append(self._sample_at)
        if self._dead:
            due.append(time.monotonic() + AGAIN)
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
                if infant.memory is None:
                    infant.kills_before = family.kills_for_memory()
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
        """A machine that has no room for one more process costs the worker that one alone, not those that live."""
        descriptors, self._descriptors = self._descriptors, []
        parent = os.getpid()
        try:
            connection, output = descriptors  # fewer arrive where this process has too many open already
            pid = os.fork()
            if pid == 0:
                self._be_born(connection, output, parent)
        except (OSError, ValueError) as error:
            self._say({"unborn": number, "why": str(error)})
            return
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        self._infants[number] = Infant(pid)
        self._say({"spawned": number, "pid": pid})

    def _be_born(self, connection: int, output: int, parent: int) -> None:
        """In the child; never returns."""
        status = 1
        try:
            os.setsid()
            family.die_with_parent()
            family.adopt()  # a process that was forked twice is still the body's, and counts as its memory
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
                break
            if pid == 0:
                break
            for number, infant in list(self._infants.items()):
                if infant.pid == pid:
                    self._kill(infant, signal.SIGKILL)  # what it forked dies with it
                    del self._infants[number]
                    exit_code = os.waitstatus_to_exitcode(status)
                    self._dead.append(Dead(number, exit_code, _reason(infant, exit_code), time.monotonic() + MOURNING))
        if self._dead:
            # What a dead body forked has come to us.
            has_orphans = family.kill_orphans({infant.pid for infant in self._infants.values()})
            for dead in self._dead[:]:
                if not has_orphans or time.monotonic() >= dead.until:
                    self._dead.remove(dead)
                    self._say({"ended": dead.number, "status": dead.status, "reason": dead.reason})

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
        if now >= self._sample_at:
            self._weigh(now)

    def _weigh(self, now: float) -> None:
        looks_at_families = now >= self._family_at
        if looks_at_families:
            self._family_at = now + FAMILY
        pause = SAMPLE
        for infant in self._infants.values():
            if infant.memory is None:
                continue
            if looks_at_families:
                infant.family = family.descendants(infant.pid)
            members = [infant.pid, *infant.family]
            if family.at_most(members) > infant.memory / 2:
                pause = CLOSE_SAMPLE
                if family.exceed(members, infant.memory):
                    infant.reason = infant.reason or "memory"
                    self._kill(infant, signal.SIGKILL)
            if len(members) > MOST_PROCESSES:
                infant.reason = infant.reason or "processes"
                self._kill(infant, signal.SIGKILL)
        self._sample_at = now + pause

    def _kill(self, infant: Infant, number: int) -> None:
        """The body and its group; before it has made a group of its own, the body alone."""
        family.hurry(infant.pid)
        try:
            os.killpg(infant.pid, number)
        except OSError:  # it has none, or has made itself another user's
            with contextlib.suppress(OSError):
                os.kill(infant.pid, number)


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """A handler, so that the signal wakes the loop; what it means is found by `waitpid`."""


def _reason(infant: Infant, exit_code: int) -> str | None:
    """Who had it killed; of a SIGKILL that was not ours, whether it was the kernel for want of memory."""
    if infant.reason is None and exit_code == -signal.SIGKILL and infant.kills_before is not None:
        return "machine memory" if (family.kills_for_memory() or 0) > infant.kills_before else None
    return infant.reason


def _die_first() -> None:
    """When the machine runs out of memory, Linux is to choose the body, not the worker or a database beside it."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:  # noqa: PTH123 - a file of the kernel
        score.write("800")


if __name__ == "__main__":
    main(int(sys.argv[1]), preload=sys.argv[2] == "preload")
