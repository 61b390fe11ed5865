"""The forkserver: a process between a worker and its bodies that forks child processes from preloaded libraries and enforces their limits.

It runs no body and has no threads, so no body and no worker can delay its clock: if the worker is frozen or cut off, it stops renewing
deadlines, and its bodies are killed before another worker may start their jobs.
"""

from __future__ import annotations

import contextlib
import gc
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

# Bodies import this one module of `db`, whose files they may not read: they find it loaded.
import db.core.formulas  # noqa: F401 # pyright: ignore[reportUnusedImport]
from workers.ml import preloading
from workers.runtime import child_main, process_tree, sandbox

SAMPLE_INTERVAL = 0.1  # seconds between memory samples
FAST_SAMPLE_INTERVAL = 0.02  # the same once a body uses half of its limit; a core fills some GB a second
DESCENDANTS_INTERVAL = 0.5  # seconds between scans for descendants of bodies
MAX_PROCESSES = 512  # per body; pools use one a core, a fork bomb would exhaust the machine
ORPHAN_TIMEOUT = 2.0  # seconds to wait until the descendants of a dead body have died
ORPHAN_POLL_INTERVAL = 0.02


@dataclass
class ChildProcess:
    """A child process and its limits. `deadline` is on the monotonic clock, which all processes of a machine share."""

    pid: int
    deadline: float | None = None
    memory_limit: int | None = None
    kill_at: float | None = None
    reason: str | None = None
    descendants: list[int] = field(default_factory=list[int])
    oom_kills_before: int | None = None


@dataclass
class ExitedChild:
    """A child that has exited. Its exit is reported once its descendants have died, at `report_deadline` at the latest."""

    number: int
    status: int
    reason: str | None
    report_deadline: float


def main(descriptor: int, *, preload: bool) -> None:
    """Serve the worker at the other end of the socket `descriptor` until it closes it."""
    process_tree.set_dumpable(value=False)
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)  # the worker stops this process over the socket
    process_tree.become_subreaper()  # orphans of bodies are reparented to us, and killed
    if preload:
        _preload_modules()
    if sandbox.landlock_abi():
        sandbox.library_paths()  # cached for all children
    Forkserver(socket.socket(fileno=descriptor)).serve()


def _preload_modules() -> None:
    """Import the heavy libraries while there is no child: an import may take seconds, in which no deadline is enforced."""
    gc.disable()  # an import makes hardly any garbage, and its collector would walk through all that is imported again and again
    preloading.preload()
    gc.freeze()
    gc.enable()


class Forkserver:
    """Forks child processes for the worker at the other end of `control`, kills them at their limits, and reports their exits."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: dict[int, ChildProcess] = {}
        self._buffer = b""
        self._descriptors: list[int] = []
        self._exited: list[ExitedChild] = []
        self._sample_at = 0.0
        self._descendants_at = 0.0
        self._wake_reader, wake_writer = os.pipe()
        for end in (self._wake_reader, wake_writer):
            os.set_blocking(end, False)
        self._wake_writer = wake_writer
        signal.signal(signal.SIGCHLD, _ignore_signal)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)

    def serve(self) -> None:
        self._send({"ready": True})
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake_reader, select.POLLIN)
        while True:
            ready = dict(poll.poll(self._poll_timeout()))
            if self._wake_reader in ready:
                os.read(self._wake_reader, 4096)
            if self._control.fileno() in ready and not self._receive():
                break
            self._reap()
            self._enforce_limits()
        for child in self._children.values():
            self._kill(child, signal.SIGKILL)
        deadline = time.monotonic() + ORPHAN_TIMEOUT / 2
        while time.monotonic() < deadline and (self._children or self._exited):
            time.sleep(ORPHAN_POLL_INTERVAL)
            self._reap()

    def _poll_timeout(self) -> float | None:
        """Milliseconds until the next deadline or sample; None if there is none."""
        due = [at for child in self._children.values() for at in (child.deadline, child.kill_at) if at is not None]
        if any(child.memory_limit is not None for child in self._children.values()):
            due.append(self._sample_at)
        if self._exited:
            due.append(time.monotonic() + ORPHAN_POLL_INTERVAL)
        return max(0.0, min(due) - time.monotonic()) * 1000 + 1 if due else None

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # the worker has died; the next read returns EOF
            self._control.sendall(json.dumps(message).encode() + b"\n")

    def _receive(self) -> bool:
        try:
            chunk, descriptors, _, _ = socket.recv_fds(self._control, 65_536, 8)
        except OSError:
            return False
        if not chunk:
            return False
        self._descriptors += descriptors
        *lines, self._buffer = (self._buffer + chunk).split(b"\n")
        for line in lines:
            self._handle_command(json.loads(line))
        return True

    def _handle_command(self, command: dict[str, Any]) -> None:
        number = command["id"]
        if command["do"] == "spawn":
            self._spawn(number)
        elif number in self._children:
            child = self._children[number]
            if command["do"] == "set_limits":
                if child.memory_limit is None and command["memory_limit"] is not None:
                    child.oom_kills_before = process_tree.oom_kills()
                child.deadline = command["deadline"]
                child.memory_limit = command["memory_limit"]
            else:
                child.reason = child.reason or command["reason"]
                if command["grace"] > 0:
                    self._kill(child, signal.SIGTERM)
                    child.kill_at = time.monotonic() + command["grace"]
                else:
                    self._kill(child, signal.SIGKILL)

    def _spawn(self, number: int) -> None:
        """Fork a child. If that fails, because the machine has no room for one more process, the other children live on."""
        descriptors, self._descriptors = self._descriptors, []
        parent = os.getpid()
        try:
            connection, output = descriptors  # fewer than two arrive if this process has too many open files
            pid = os.fork()
            if pid == 0:
                self._child_main(connection, output, parent)
        except (OSError, ValueError) as error:
            self._send({"spawn_failed": number, "reason": str(error)})
            return
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        self._children[number] = ChildProcess(pid)
        self._send({"spawned": number, "pid": pid})

    def _child_main(self, connection: int, output: int, parent: int) -> None:
        """Run in the child; never returns."""
        status = 1
        try:
            os.setsid()
            process_tree.set_dumpable(
                value=True
            )  # the forkserver must read its memory's size, and has no secret that it could have inherited
            process_tree.die_with_parent()
            process_tree.become_subreaper()  # a daemonized process stays a descendant of the body and counts for its memory
            if os.getppid() != parent:
                os._exit(1)
            signal.set_wakeup_fd(-1)
            for signum in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
                signal.signal(signum, signal.SIG_DFL)
            self._control.close()
            os.close(self._wake_reader)
            os.close(self._wake_writer)
            devnull = os.open(os.devnull, os.O_RDONLY)
            os.dup2(devnull, 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.close(devnull)
            os.close(output)
            _raise_oom_score()
            status = child_main.main(socket.socket(fileno=connection))
        except BaseException:  # noqa: BLE001 - a child must never return into the forkserver's code
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)  # skips exit handlers of libraries and does not wait for a body's threads

    def _reap(self) -> None:
        while (pid := process_tree.exited_child()) is not None:
            for number, child in list(self._children.items()):
                if child.pid == pid:
                    self._kill(child, signal.SIGKILL)  # the rest of its process group
                    del self._children[number]
                    exit_code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                    self._exited.append(ExitedChild(number, exit_code, _exit_reason(child, exit_code), time.monotonic() + ORPHAN_TIMEOUT))
                    break
            else:  # a descendant of a dead body
                os.waitpid(pid, 0)
        if self._exited:
            # Descendants of a dead body were reparented to us.
            has_orphans = process_tree.kill_orphans({child.pid for child in self._children.values()})
            for exited in self._exited[:]:
                if not has_orphans or time.monotonic() >= exited.report_deadline:
                    self._exited.remove(exited)
                    self._send({"exited": exited.number, "status": exited.status, "reason": exited.reason})

    def _enforce_limits(self) -> None:
        now = time.monotonic()
        for child in self._children.values():
            if child.deadline is not None and now >= child.deadline:
                child.reason = child.reason or "lease"
                self._kill(child, signal.SIGKILL)
                child.deadline = now + 1.0
            if child.kill_at is not None and now >= child.kill_at:
                self._kill(child, signal.SIGKILL)
                child.kill_at = now + 1.0
        if now >= self._sample_at:
            self._sample_memory(now)

    def _sample_memory(self, now: float) -> None:
        refresh_descendants = now >= self._descendants_at
        if refresh_descendants:
            self._descendants_at = now + DESCENDANTS_INTERVAL
        pause = SAMPLE_INTERVAL
        for child in self._children.values():
            if child.memory_limit is None:
                continue
            if refresh_descendants:
                child.descendants = process_tree.descendants(child.pid)
            members = [child.pid, *child.descendants]
            if len(members) > MAX_PROCESSES:  # first: it takes long to measure so many
                child.reason = child.reason or "processes"
                self._kill(child, signal.SIGKILL)
            elif process_tree.memory_upper_bound(members) > child.memory_limit / 2:
                pause = FAST_SAMPLE_INTERVAL
                if process_tree.exceeds_memory(members, child.memory_limit):
                    child.reason = child.reason or "memory"
                    self._kill(child, signal.SIGKILL)
        self._sample_at = now + pause

    def _kill(self, child: ChildProcess, signum: int) -> None:
        """Signal the body's process group; before it has created one, the body alone."""
        process_tree.restore_priority(child.pid)
        try:
            os.killpg(child.pid, signum)
        except OSError:  # it has no group yet, or runs as another user
            with contextlib.suppress(OSError):
                os.kill(child.pid, signum)


def _ignore_signal(_number: int, _frame: FrameType | None) -> None:
    """A handler must be set for the signal to write to the wakeup descriptor; `_reap` does the work."""


def _exit_reason(child: ChildProcess, exit_code: int) -> str | None:
    """Return why we killed the child; for another's SIGKILL, whether the kernel's OOM killer has killed meanwhile."""
    if child.reason is None and exit_code == -signal.SIGKILL and child.oom_kills_before is not None:
        return "machine memory" if (process_tree.oom_kills() or 0) > child.oom_kills_before else None
    return child.reason


def _raise_oom_score() -> None:
    """Make Linux's OOM killer choose the body, not the worker or a database beside it."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:  # noqa: PTH123 - a kernel file
        score.write("800")


if __name__ == "__main__":
    main(int(sys.argv[1]), preload=sys.argv[2] == "preload")
