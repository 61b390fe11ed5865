"""The process tree of a body: its descendants, their memory, priority and orphans, and kills by the kernel's OOM killer."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

import psutil

_STATUS_MEMORY = re.compile(rb"^(?:RssAnon|RssShmem|VmSwap):\s+(\d+) kB", re.MULTILINE)
_PSS_MEMORY = re.compile(rb"^(?:Pss_Anon|Pss_Shmem|SwapPss):\s+(\d+) kB", re.MULTILINE)
_OOM_KILLS = re.compile(rb"^oom_kill (\d+)", re.MULTILINE)
_PROC = Path("/proc")
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36


def exited_child() -> int | None:
    """Return a child that has exited, which the caller must reap; None if there is none.

    Until it is reaped, no other process can get its pid, so its process group can be killed.
    """
    try:
        result = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if result is None else result.si_pid


def descendants(pid: int) -> list[int]:
    """Return the process's children, their children, and so on; empty if it has died."""
    return [process.pid for process in _descendants(pid)]


def children() -> list[int]:
    """Return the children of this process, zombies included.

    The kernel lists them by thread (proc(5), `children`), which costs a fiftieth of reading all processes. Its list may miss one only if another is
    reaped meanwhile, which this thread does not do; a kernel without CONFIG_PROC_CHILDREN has no list.
    """
    try:
        listed = [(task / "children").read_bytes() for task in (_PROC / "self" / "task").iterdir()]
    except OSError:
        return [process.pid for process in psutil.Process().children()]
    return [int(pid) for pids in listed for pid in pids.split()]


def become_subreaper() -> None:
    """Have orphaned descendants reparented to this process (PR_SET_CHILD_SUBREAPER)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Have this process killed when its parent dies (PR_SET_PDEATHSIG)."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def set_dumpable(value: bool) -> None:
    """Whether processes of the same user may read this one's environment, memory and descriptors (PR_SET_DUMPABLE); root always may.

    `exec` sets it, `fork` keeps it. A process that is not dumpable may not write its own files in /proc, unless it is root.
    """
    _prctl(_PR_SET_DUMPABLE, int(value))


def lower_priority(niceness: int) -> None:
    """Raise the niceness, so that the API and the worker's heartbeats come first.

    A kernel with autogroups, as on most desktops, schedules sessions first and then the processes of each, so the session's niceness must
    change too; a body has its own session. Not every kernel has autogroups, and writes may be refused.
    """
    value = os.nice(niceness)
    with contextlib.suppress(OSError):
        (_PROC / "self" / "autogroup").write_text(str(value))


def restore_priority(pid: int) -> None:
    """Set the process group's niceness to ours, so that it can die quickly; as far as the kernel permits."""
    value = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PGRP, pid, value)
    with contextlib.suppress(OSError):
        (_PROC / str(pid) / "autogroup").write_text(str(value))


def kill_orphans(excluded: Collection[int]) -> bool:
    """Kill all our children but `excluded`, with their descendants, and reap them. Return whether there were any."""
    orphans = [pid for pid in children() if pid not in excluded]
    for orphan in orphans:
        processes = _descendants(orphan)
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it may run as another user
            os.kill(orphan, signal.SIGKILL)
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.kill()  # unless it has died and another process has its pid
        with contextlib.suppress(ChildProcessError):
            os.waitpid(orphan, os.WNOHANG)
    return bool(orphans)


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def exceeds_memory(pids: Collection[int], limit: int) -> bool:
    """Whether the processes together use more than `limit` bytes of non-file memory."""
    if memory_upper_bound(pids) <= limit:
        return False
    proportional = memory_used(pids)
    return proportional > limit or proportional == 0  # 0: the kernel has no smaps_rollup, so the upper bound decides


def memory_upper_bound(pids: Iterable[int]) -> int:
    """Return the sum of anonymous and shared memory and swap in bytes; quick, but pages shared by several processes count several times.

    Mapped files do not count, because the kernel can drop their pages at any time.
    """
    return sum(_read_bytes(pid, "status", _STATUS_MEMORY) for pid in pids)


def memory_used(pids: Iterable[int]) -> int:
    """Return the proportional set size (PSS) without mapped files in bytes: each page is divided among the processes that share it, so
    copy-on-write pages of a fork cost little. Takes some milliseconds a gigabyte."""
    return sum(_read_bytes(pid, "smaps_rollup", _PSS_MEMORY) for pid in pids)


def oom_kills(cgroups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the number of OOM kills in our cgroup, or of the machine where the cgroup does not count them; None if unknown."""
    counters = [_PROC / "vmstat"]
    with contextlib.suppress(OSError):
        for line in (_PROC / "self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                counters.insert(0, cgroups / path.lstrip("/") / "memory.events")
            elif "memory" in controllers.split(","):
                counters.insert(0, cgroups / "memory" / path.lstrip("/") / "memory.oom_control")
    for counter in counters:
        with contextlib.suppress(OSError):
            if (match := _OOM_KILLS.search(counter.read_bytes())) is not None:
                return int(match[1])
    return None


def _read_bytes(pid: int, name: str, pattern: re.Pattern[bytes]) -> int:
    with contextlib.suppress(OSError):  # the process may have died
        sizes = pattern.findall((_PROC / str(pid) / name).read_bytes())
        return sum(int(kilobytes) for kilobytes in sizes) * 1024
    if not _PROC.is_dir():
        with contextlib.suppress(psutil.Error):
            return psutil.Process(pid).memory_info().rss
    return 0


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
