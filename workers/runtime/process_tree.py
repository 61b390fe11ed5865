"""The processes that a body is: itself and all that it forked, what they have in memory, and whether the kernel killed one for it."""

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
_PR_SET_CHILD_SUBREAPER = 36


def descendants(pid: int) -> list[int]:
    """The process's children, their children, and so on; none where it has gone."""
    try:
        return [process.pid for process in psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []


def children() -> list[int]:
    """Of this process; those that have ended and were not waited for are among them."""
    return [process.pid for process in psutil.Process().children()]


def become_subreaper() -> None:
    """From now on, what our descendants leave behind when they die comes to us."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Be killed when the process dies that forked this one."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def lower_priority(niceness: int) -> None:
    """Let whoever serves people on this machine come first, and the worker that must say in time that we live.

    Where the kernel shares the processors among sessions and only then among the processes of each ("autogroup", as on most desktops), it
    is the session that has to be nice, and a body is one of its own. Not every kernel has them, or takes it from everybody at any time.
    """
    value = os.nice(niceness)
    with contextlib.suppress(OSError):
        (_PROC / "self" / "autogroup").write_text(str(value))


def restore_priority(pid: int) -> None:
    """Let this process and its group give way no more than we do, that they may end; as far as the kernel takes it from us."""
    value = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PGRP, pid, value)
    with contextlib.suppress(OSError):
        (_PROC / str(pid) / "autogroup").write_text(str(value))


def kill_orphans(excluded: Collection[int]) -> bool:
    """Whether we have children that are none of these: they are killed with all that they forked, and waited for."""
    orphans = [pid for pid in children() if pid not in excluded]
    for orphan in orphans:
        for pid in (orphan, *descendants(orphan)):
            with contextlib.suppress(ProcessLookupError, PermissionError):  # one that is another user's now cannot be killed
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(orphan, os.WNOHANG)
    return bool(orphans)


def exceeds_memory(pids: Collection[int], limit: int) -> bool:
    """Whether the processes together have more than `limit` bytes of their own."""
    if memory_upper_bound(pids) <= limit:
        return False
    proportional = memory_used(pids)
    return proportional > limit or proportional == 0  # where the kernel tells no shares, the quick count stands


def memory_upper_bound(pids: Iterable[int]) -> int:
    """Bytes that the processes may have of their own, swapped out or not, quickly counted: what several share counts once for each.

    Mapped files do not count, for they can be dropped at any time; shared memory does.
    """
    return sum(_read_bytes(pid, "status", _STATUS_MEMORY) for pid in pids)


def memory_used(pids: Iterable[int]) -> int:
    """Bytes that the processes have of their own, each page divided among all that share it: what a fork has not yet written costs it
    little. Counting takes some milliseconds a gigabyte."""
    return sum(_read_bytes(pid, "smaps_rollup", _PSS_MEMORY) for pid in pids)


def oom_kills(cgroups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """How often the kernel has killed for lack of memory: in our cgroup where that counts, else on the whole machine."""
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
    with contextlib.suppress(OSError):  # it has just gone
        sizes = pattern.findall((_PROC / str(pid) / name).read_bytes())
        return sum(int(kilobytes) for kilobytes in sizes) * 1024
    if not _PROC.is_dir():
        with contextlib.suppress(psutil.Error):
            return psutil.Process(pid).memory_info().rss
    return 0


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
