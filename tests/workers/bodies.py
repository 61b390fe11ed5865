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
from workers.runtime import process_tree


def record_start(spec: dict[str, Any], _report: Reporter) -> None:
    """Say where this attempt runs: a line a start in the file that the test reads."""
    with Path(spec["trace"]).open("a") as trace:
        trace.write(f"{os.getpid()} {time.time()}\n")


def quick(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    record_start(spec, reporter)
    return {}


def long(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """The first start stays for a minute, the next ones are quick."""
    record_start(spec, reporter)
    if len(Path(spec["trace"]).read_text().splitlines()) == 1:
        time.sleep(60)
    return {}


def ignore_sigterm(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Does not obey SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    record_start(spec, reporter)
    time.sleep(60)
    return {}


def exit_after_sigterm(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Asked to end, does so after `seconds`, with a word."""

    def handle_sigterm(_number: int, _frame: object) -> None:
        time.sleep(spec["seconds"])
        print("farewell")
        os._exit(0)

    signal.signal(signal.SIGTERM, handle_sigterm)
    record_start(spec, reporter)
    time.sleep(60)
    return {}


def hold_gil(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Holds the interpreter's lock for `seconds`: no thread of this process moves meanwhile."""
    record_start(spec, reporter)
    ctypes.PyDLL(None).usleep(int(spec["seconds"] * 1_000_000))
    return {}


def leak_memory(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    record_start(spec, reporter)
    blocks: list[bytearray] = []
    while True:
        blocks.append(bytearray(8 * 1024**2))


def report_and_print_much(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Reports and prints far more than anybody reads."""
    record_start(spec, reporter)
    for number in range(20_000):
        reporter.progress(number / 200, f"step {number}")
        reporter.metric("loss", number, 1.0 / (number + 1))
        print(f"line {number} " + "x" * 500)
    return {}


def fork_and_crash(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Leaves a process behind that has a session of its own, and dies badly."""
    forked = subprocess.Popen(["sleep", "61"], start_new_session=True)
    with Path(spec["trace"]).open("a") as trace:
        trace.write(f"{forked.pid} {time.time()}\n")
    os.kill(os.getpid(), signal.SIGSEGV)
    return {}


def raise_bad_input(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    record_start(spec, reporter)
    raise BadInput("TOO_ODD", "The input is too odd. Send an even one.", row=7, column="a\x00b")


def raise_value_error(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    record_start(spec, reporter)
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


def fail(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    record_start(spec, reporter)
    failure = FAILURES[spec["failure"]]
    raise failure()


def fill_disk(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Writes to a disk that is full."""
    record_start(spec, reporter)
    Path("/dev/full").write_bytes(b"x" * 1024**2)
    return {}


def fail_with_cause(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """A library's own exception, raised from what the system said."""
    record_start(spec, reporter)
    raise RuntimeError("The library could not do it.") from ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")


def print_everywhere(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Says something in every way there is."""
    record_start(spec, reporter)
    print("printed")
    print("an error", file=sys.stderr)
    logging.getLogger("model").info("fitted %d trees", 3)
    logging.getLogger("model").debug("nobody needs this")
    warnings.warn("this is deprecated", UserWarning, stacklevel=1)
    reporter.log("reported")
    subprocess.run(["echo", "from a subprocess"], check=True)
    print("10 %\r50 %\r100 %")
    sys.stdout.flush()
    os.write(1, b"bad \xff\xfe and \x00 bytes\n")
    print("a lone \ud800 surrogate")
    sys.stdout.write("no end")
    return {}


def print_lines(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """A line each `pause` seconds, `lines` of them; the first `failures` starts then fail in a way that may pass."""
    record_start(spec, reporter)
    for number in range(spec["lines"]):
        print(f"line {number}")
        time.sleep(spec.get("pause", 0.0))
    if len(Path(spec["trace"]).read_text().splitlines()) <= spec.get("failures", 0):
        raise Transient("The tide was out.")
    return {}


def print_and_sleep(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Says where it is, then stays for a minute; the second start says so and ends."""
    record_start(spec, reporter)
    starts = len(Path(spec["trace"]).read_text().splitlines())
    print(f"start {starts}")
    if starts == 1:
        time.sleep(60)
    return {}


def print_gigabytes(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Prints a gigabyte between its first and its last line, then fails."""
    record_start(spec, reporter)
    print("the first line")
    block = b"".join(b"%07d " % number + b"x" * 55 + b"\n" for number in range(16_384))  # a MiB
    for _ in range(spec["mebibytes"]):
        unwritten = memoryview(block)
        while unwritten:
            unwritten = unwritten[os.write(1, unwritten) :]
    print("the last line")
    raise ValueError("That was all.")


def print_without_newlines(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    record_start(spec, reporter)
    block = b"x" * 1024**2
    for _ in range(spec["mebibytes"]):
        unwritten = memoryview(block)
        while unwritten:
            unwritten = unwritten[os.write(2, unwritten) :]
    return {}


def report_in_loop(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Reports as fast as it can for `seconds`; how often is its last line."""
    record_start(spec, reporter)
    deadline = time.monotonic() + spec["seconds"]
    count = 0
    while time.monotonic() < deadline:
        for _ in range(1_000):
            count += 1
            reporter.progress(count / 1_000_000, f"report {count}")
    reporter.log(f"reported {count}")
    return {}


def report_percents(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Goes through `percents`, one each `pause` seconds, back and forth as they say, then stays as long as told."""
    record_start(spec, reporter)
    for percent in spec["percents"]:
        reporter.progress(percent, f"at {percent}")
        time.sleep(spec["pause"])
    time.sleep(spec.get("stay", 0.0))
    return {}


def fork_descendants(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Forks a daemon twice over, into a session of its own, which forks a child; none of them obeys SIGTERM, nor does the body."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.fork()
            record_start(spec, reporter)
            time.sleep(60)
        os._exit(0)
    os.wait()
    while len(Path(spec["trace"]).read_text().splitlines() if Path(spec["trace"]).exists() else []) < 2:
        time.sleep(0.01)
    record_start(spec, reporter)
    time.sleep(spec.get("stay", 60.0))
    return {}


def allocate_memory(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Takes `mebibytes` at once and writes to every page."""
    record_start(spec, reporter)
    memory = bytearray(b"x") * (spec["mebibytes"] * 1024**2)
    time.sleep(60)
    return {"size": len(memory)}


def allocate_in_daemon(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """The same in a process that was forked twice over and has a session of its own."""
    record_start(spec, reporter)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            allocate_memory(spec, reporter)
        os._exit(0)
    time.sleep(60)
    return {}


def share_memory(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Takes `mebibytes` and forks ten processes that share them."""
    record_start(spec, reporter)
    memory = bytearray(b"x") * (spec["mebibytes"] * 1024**2)
    for _ in range(10):
        if os.fork() == 0:
            time.sleep(60)
    time.sleep(spec["stay"])
    return {"size": len(memory)}


def spin_cpu(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Uses a core until it is stopped, in a thread so that no handler of Python gets in the way."""
    record_start(spec, reporter)

    def loop_forever() -> None:
        while True:
            pass

    threading.Thread(target=loop_forever, daemon=True).start()
    time.sleep(60)
    return {}


def write_large_file(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    record_start(spec, reporter)
    with Path("much").open("wb") as file:
        file.writelines(b"x" * 1024**2 for _ in range(spec["mebibytes"]))
    return {}


def fork_bomb(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Forks processes that stay, a hundred a second, up to a thousand."""
    record_start(spec, reporter)
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


def print_buffered(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """What it prints is still held back when it returns: by Python, and by C, as native libraries do."""
    record_start(spec, reporter)
    ctypes.CDLL(None).printf(b"from a library\n")
    sys.stdout = _SlowToFlush()
    print("the last line")
    return {}


def print_and_crash(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Prints what no text column keeps, and dies by a signal."""
    record_start(spec, reporter)
    os.write(1, b"before \x00 after\nalone \xed\xa0\x80\n")
    faulthandler.disable()
    os.kill(os.getpid(), signal.SIGSEGV)
    return {}


def return_large_result(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    record_start(spec, reporter)
    return {"much": "x" * (spec["mebibytes"] * 1024**2)}


def break_process_pool(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """One process of its pool is killed, while the kernel's counter, as this process reads it, grows by `kills`."""
    record_start(spec, reporter)
    kills_before = process_tree.oom_kills() or 0
    process_tree.oom_kills = lambda: kills_before + spec["kills"]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        pool.submit(os.kill, os.getpid(), 0).result()
        pool.submit(signal.raise_signal, signal.SIGKILL).result()
    return {}
