"""Bodies that behave as bodies in the wild do; each runs in a real child."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from workers.ml.errors import BadInput
from workers.ml.reporting import Reporter


def leave_pid(spec: dict[str, Any], _report: Reporter) -> None:
    """Say where this attempt runs: a line a start in the file that the test reads."""
    with Path(spec["trace"]).open("a") as trace:
        trace.write(f"{os.getpid()} {time.time()}\n")


def quick(spec: dict[str, Any], report: Reporter) -> dict[str, Any]:
    leave_pid(spec, report)
    return {}


def long(spec: dict[str, Any], report: Reporter) -> dict[str, Any]:
    """The first start stays for a minute, the next ones are quick."""
    leave_pid(spec, report)
    if len(Path(spec["trace"]).read_text().splitlines()) == 1:
        time.sleep(60)
    return {}


def stubborn(spec: dict[str, Any], report: Reporter) -> dict[str, Any]:
    """Does not obey SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    leave_pid(spec, report)
    time.sleep(60)
    return {}


def hold_the_lock(spec: dict[str, Any], report: Reporter) -> dict[str, Any]:
    """Holds the interpreter's lock for `seconds`: no thread of this process moves meanwhile."""
    leave_pid(spec, report)
    ctypes.PyDLL(None).usleep(int(spec["seconds"] * 1_000_000))
    return {}


def leak(spec: dict[str, Any], report: Reporter) -> dict[str, Any]:
    leave_pid(spec, report)
    kept: list[bytearray] = []
    while True:
        kept.append(bytearray(8 * 1024**2))


def chatter(spec: dict[str, Any], report: Reporter) -> dict[str, Any]:
    """Reports and prints far more than anybody reads."""
    leave_pid(spec, report)
    for number in range(20_000):
        report.progress(number / 200, f"step {number}")
        report.metric("loss", number, 1.0 / (number + 1))
        print(f"line {number} " + "x" * 500)
    return {}


def fork(spec: dict[str, Any], report: Reporter) -> dict[str, Any]:
    """Leaves a process behind that has a session of its own, and dies badly."""
    left = subprocess.Popen(["sleep", "61"], start_new_session=True)
    with Path(spec["trace"]).open("a") as trace:
        trace.write(f"{left.pid} {time.time()}\n")
    os.kill(os.getpid(), signal.SIGSEGV)
    return {}


def refuse(spec: dict[str, Any], report: Reporter) -> dict[str, Any]:
    leave_pid(spec, report)
    raise BadInput("TOO_ODD", "The input is too odd. Send an even one.", row=7, column="a\x00b")


def stumble(spec: dict[str, Any], report: Reporter) -> dict[str, Any]:
    leave_pid(spec, report)
    raise ValueError("This was not foreseen.")
