"""Bodies that behave as bodies in the wild do; each runs in a real child."""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import io
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from workers.ml.errors import BadInput, Transient
from workers.ml.reporting import Reporter
from workers.runtime import family


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


def take_leave(spec: dict[str, Any], report: Reporter) -> dict[str, Any]:
    """Asked to end, does so after `seconds`, with a word."""

    def leave(_number: int, _frame: object) -> None:
        time.sleep(spec["seconds"])
        print("farewell")
        os._exit(0)

    signal.signal(signal.SIGTERM, leave)
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


FAILURES: dict[str, Callable[[], BaseException]] = {
    "key": lambda: KeyError("colour"),
    "type": lambda: TypeError("a number is no name"),
    "assertion": lambda: AssertionError("never"),
    "exit": lambda: SystemExit(3),
    "transient": lambda: Transient("The tide was out."),
    "connection": lambda: ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    "timeout": lambda: TimeoutError("nobody answered"),
    "disk": lambda: OSError(errno.ENOSPC, "No space left on device"),
    "told disk": lambda: RuntimeError("polars: No space left on device (os error 28)"),
    "memory": lambda: MemoryError("Unable to allocate 7.00 EiB"),
    "told memory": lambda: RuntimeError("lightgbm: std::bad_alloc"),
    "system memory": lambda: OSError(errno.ENOMEM, "Cannot allocate memory"),
}


def fail(spec: dict[str, Any], report: Reporter) -> dict[str, Any]:
    leave_pid(spec, report)
    failure = FAILURES[spec["failure"]]
    raise failure()


def fill_the_disk(spec: dict[str, Any], report: Reporter) -> dict[str, Any]:
    """Writes to a disk that is full."""
    leave_pid(spec, report)
    Path("/dev/full").write_bytes(b"x" * 1024**2)
    return {}


def fail_behind(spec: dict[str, Any], report: Reporter) -> dict[str, Any]:
    """A library's own exception, raised from what the system said."""
    leave_pid(spec, report)
    raise RuntimeError("The library could not do it.") from ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")


def speak(spec: dict[str, Any], report: Reporter) -> dict[str, Any]:
    """Says something in every way there is."""
    leave_pid(spec, report)
    print("printed")
    print("an error", file=sys.stderr)
    logging.getLogger("model").info("fitted %d trees", 3)
    logging.getLogger("model").debug("nobody needs this")
    warnings.warn("this is deprecated", UserWarning, stacklevel=1)
    report.log("reported")
    subprocess.run(["echo", "from a subprocess"], check=True)
    print("10 %\r50 %\r100 %")
    sys.stdout.flush()
    os.write(1, b"bad \xff\xfe and \x00 bytes\n")
    print("a lone \ud800 surrogate")
    sys.stdout.write("no end")
    return {}


def mutter(spec: dict[str, Any], report: Reporter) -> dict[str, Any]:
    """A line each `pause` seconds, `lines` of them; the first `failures` starts then fail in a way that may pass."""
    leave_pid(spec, report)
    for number in range(spec["lines"]):
        print(f"line {number}")
        time.sleep(spec.get("pause", 0.0))
    if len(Path(spec["trace"]).read_text().splitlines()) <= spec.get("failures", 0):
        raise Transient("The tide was out.")
    return {}


def mutter_and_stay(spec: dict[str, Any], report: Reporter) -> dict[str, Any]:
    """Says where it is, then stays for a minute; the second start says so and ends."""
    leave_pid(spec, report)
    starts = len(Path(spec["trace"]).read_text().splitlines())
    print(f"start {starts}")
    if starts == 1:
        time.sleep(60)
    return {}


def flood(spec: dict[str, Any], report: Reporter) -> dict[str, Any]:
    """Prints a gigabyte between its first and its last line, then fails."""
    leave_pid(spec, report)
    print("the first line")
    block = b"".join(b"%07d " % number + b"x" * 55 + b"\n" for number in range(16_384))  # a MiB
    for _ in range(spec["mebibytes"]):
        rest = memoryview(block)
        while rest:
            rest = rest[os.write(1, rest) :]
    print("the last line")
    raise ValueError("That was all.")


def flood_without_lines(spec: dict[str, Any], report: Reporter) -> dict[str, Any]:
    leave_pid(spec, report)
    block = b"x" * 1024**2
    for _ in range(spec["mebibytes"]):
        rest = memoryview(block)
        while rest:
            rest = rest[os.write(2, rest) :]
    return {}


def hammer(spec: dict[str, Any], report: Reporter) -> dict[str, Any]:
    """Reports as fast as it can for `seconds`; how often is its last line."""
    leave_pid(spec, report)
    until = time.monotonic() + spec["seconds"]
    count = 0
    while time.monotonic() < until:
        for _ in range(1_000):
            count += 1
            report.progress(count / 1_000_000, f"report {count}")
    report.log(f"reported {count}")
    return {}


def advance(spec: dict[str, Any], report: Reporter) -> dict[str, Any]:
    """Goes through `percents`, one each `pause` seconds, back and forth as they say, then stays as long as told."""
    leave_pid(spec, report)
    for percent in spec["percents"]:
        report.progress(percent, f"at {percent}")
        time.sleep(spec["pause"])
    time.sleep(spec.get("stay", 0.0))
    return {}


def breed(spec: dict[str, Any], report: Reporter) -> dict[str, Any]:
    """Forks a daemon twice over, into a session of its own, which forks a child; none of them obeys SIGTERM, nor does the body."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.fork()
            leave_pid(spec, report)
            time.sleep(60)
        os._exit(0)
    os.wait()
    while len(Path(spec["trace"]).read_text().splitlines() if Path(spec["trace"]).exists() else []) < 2:
        time.sleep(0.01)
    leave_pid(spec, report)
    time.sleep(spec.get("stay", 60.0))
    return {}


def gulp(spec: dict[str, Any], report: Reporter) -> dict[str, Any]:
    """Takes `mebibytes` at once and writes to every page."""
    leave_pid(spec, report)
    kept = bytearray(b"x") * (spec["mebibytes"] * 1024**2)
    time.sleep(60)
    return {"size": len(kept)}


def gulp_in_a_daemon(spec: dict[str, Any], report: Reporter) -> dict[str, Any]:
    """The same in a process that was forked twice over and has a session of its own."""
    leave_pid(spec, report)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            gulp(spec, report)
        os._exit(0)
    time.sleep(60)
    return {}


def share(spec: dict[str, Any], report: Reporter) -> dict[str, Any]:
    """Takes `mebibytes` and forks ten processes that share them."""
    leave_pid(spec, report)
    kept = bytearray(b"x") * (spec["mebibytes"] * 1024**2)
    for _ in range(10):
        if os.fork() == 0:
            time.sleep(60)
    time.sleep(spec["stay"])
    return {"size": len(kept)}


def spin(spec: dict[str, Any], report: Reporter) -> dict[str, Any]:
    """Uses a core until it is stopped, in a thread so that no handler of Python gets in the way."""
    leave_pid(spec, report)

    def turn() -> None:
        while True:
            pass

    threading.Thread(target=turn, daemon=True).start()
    time.sleep(60)
    return {}


def write_much(spec: dict[str, Any], report: Reporter) -> dict[str, Any]:
    leave_pid(spec, report)
    with Path("much").open("wb") as file:
        file.writelines(b"x" * 1024**2 for _ in range(spec["mebibytes"]))
    return {}


def multiply(spec: dict[str, Any], report: Reporter) -> dict[str, Any]:
    """Forks processes that stay, a hundred a second, up to a thousand."""
    leave_pid(spec, report)
    for _ in range(1_000):
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        time.sleep(0.005)
    time.sleep(60)
    return {}


class _SlowToFlush(io.StringIO):
    """Keeps what is printed, and takes its time to hand it on."""

    def flush(self) -> None:
        time.sleep(0.3)
        os.write(1, self.getvalue().encode())
        self.seek(0)
        self.truncate()


def speak_late(spec: dict[str, Any], report: Reporter) -> dict[str, Any]:
    """What it prints is still held back when it returns: by Python, and by C, as native libraries do."""
    leave_pid(spec, report)
    ctypes.CDLL(None).printf(b"from a library\n")
    sys.stdout = _SlowToFlush()
    print("the last line")
    return {}


def die_badly(spec: dict[str, Any], report: Reporter) -> dict[str, Any]:
    """Prints what no text column keeps, and dies by a signal."""
    leave_pid(spec, report)
    os.write(1, b"before \x00 after\nalone \xed\xa0\x80\n")
    faulthandler.disable()
    os.kill(os.getpid(), signal.SIGSEGV)
    return {}


def answer_much(spec: dict[str, Any], report: Reporter) -> dict[str, Any]:
    leave_pid(spec, report)
    return {"much": "x" * (spec["mebibytes"] * 1024**2)}


def break_a_pool(spec: dict[str, Any], report: Reporter) -> dict[str, Any]:
    """One process of its pool is killed, while the kernel's counter, as this process reads it, grows by `kills`."""
    leave_pid(spec, report)
    before = family.kills_for_memory() or 0
    family.kills_for_memory = lambda: before + spec["kills"]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        pool.submit(os.kill, os.getpid(), 0).result()
        pool.submit(signal.raise_signal, signal.SIGKILL).result()
    return {}
