"""Well- and ill-behaved bodies for tests; each runs in a real child process."""

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
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tests.workers.hostile_body import reach_out as reach_out  # noqa: PLC0414 - a body that jobs name
from workers.ml.errors import BadInput, Transient
from workers.ml.reporting import Reporter
from workers.runtime import process_tree
from workers.runtime.child_main import FLUSH_THREAD


def record_start(spec: dict[str, Any], _report: Reporter) -> None:
    """Append this start, its process id and time, to the trace file that the test reads."""
    with Path(spec["trace"]).open("a") as trace:
        trace.write(f"{os.getpid()} {time.time()}\n")


def quick(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    record_start(spec, reporter)
    return {}


_left_behind: list[object] = []


def leave(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Leave behind in this process what `what` names."""
    record_start(spec, reporter)
    match spec["what"]:
        case "thread":
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        case "process":
            _left_behind.append(subprocess.Popen(["sleep", "60"]))
        case "memory":
            _left_behind.append(bytearray(os.urandom(1024)) * 400_000)
        case "error":
            raise BadInput("BAD_FILE", "The file is bad.")
        case "late report":
            timer = threading.Timer(0.5, lambda: reporter.log("a late line") or reporter.progress(99, "Late"))
            timer.name = FLUSH_THREAD  # disguised as ours
            timer.daemon = True
            timer.start()
        case "reports":
            reporter.progress(10, "Early")
            time.sleep(1.0)
            reporter.progress(20, "Later")
        case _:
            pass
    return {}


def ask(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Ask `times` and check each answer; or leave a thread behind that still waits for one, or ask what nobody answers."""
    record_start(spec, reporter)
    how = spec.get("how")
    if how == "in another thread":
        thread = threading.Thread(target=reporter.ask, args=("wait", {}), daemon=True)
        thread.name = FLUSH_THREAD  # disguised as ours
        thread.start()
        time.sleep(2)  # until it has asked
    elif how is not None:
        reporter.ask(how, {})
    for number in range(spec.get("times", 0)):
        reporter.progress(number, f"Ask {number}")
        assert reporter.ask("add", {"number": number}) == {"sum": number + spec["salt"]}
    return {}


def name_file(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Return a path to upload: of `target`, or of a link that leads to it, or of a folder in the place of the body's own; or have it removed."""
    record_start(spec, reporter)
    here = Path(tempfile.gettempdir())
    match spec["how"]:
        case "link":
            (here / "report").symlink_to(spec["target"])
            return {"upload": str(here / "report")}
        case "linked folder":
            real = here.resolve()
            real.rename(real.with_name("moved"))
            real.symlink_to(Path(spec["target"]).parent)
            return {"upload": str(here / Path(spec["target"]).name)}
        case "pipe":
            os.mkfifo(here / "report")
            return {"upload": str(here / "report")}
        case "checkpoint":
            reporter.checkpoint("training", 1, {}, Path(spec["target"]), disposable=True)
            return {}
        case "own":
            (here / "report").write_text("mine")
            return {"upload": str(here / "report")}
        case _:
            return {"upload": spec["target"]}


def long(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Sleep for a minute at the first start; return at once at the next ones."""
    record_start(spec, reporter)
    if len(Path(spec["trace"]).read_text().splitlines()) == 1:
        time.sleep(60)
    return {}


def ignore_sigterm(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Ignore SIGTERM and sleep."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    record_start(spec, reporter)
    time.sleep(60)
    return {}


def exit_after_sigterm(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Exit `seconds` after SIGTERM, and print a last line."""

    def handle_sigterm(_number: int, _frame: object) -> None:
        time.sleep(spec["seconds"])
        print("farewell")
        os._exit(0)

    signal.signal(signal.SIGTERM, handle_sigterm)
    record_start(spec, reporter)
    time.sleep(60)
    return {}


def hold_gil(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Hold the GIL for `seconds`, so that no other thread of this process runs."""
    record_start(spec, reporter)
    ctypes.PyDLL(None).usleep(int(spec["seconds"] * 1_000_000))
    return {}


def leak_memory(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    record_start(spec, reporter)
    blocks: list[bytearray] = []
    while True:
        blocks.append(bytearray(8 * 1024**2))


def report_and_print_much(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Report and print far more than a worker keeps."""
    record_start(spec, reporter)
    for number in range(20_000):
        reporter.progress(number / 200, f"step {number}")
        reporter.metric("loss", number, 1.0 / (number + 1))
        print(f"line {number} " + "x" * 500)
    return {}


def fork_and_crash(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Start a process in its own session, then die by SIGSEGV."""
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
    """Write to a full disk."""
    record_start(spec, reporter)
    Path("/dev/full").write_bytes(b"x" * 1024**2)
    return {}


def fail_with_cause(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Raise a library's own exception from a system error."""
    record_start(spec, reporter)
    raise RuntimeError("The library could not do it.") from ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")


def print_everywhere(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Write output in every way: print, streams, logging, warnings, native code."""
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
    """Print `lines` lines, one each `pause` seconds; the first `failures` starts then raise a transient error."""
    record_start(spec, reporter)
    for number in range(spec["lines"]):
        print(f"line {number}")
        time.sleep(spec.get("pause", 0.0))
    if len(Path(spec["trace"]).read_text().splitlines()) <= spec.get("failures", 0):
        raise Transient("The tide was out.")
    return {}


def print_and_sleep(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Print the number of the start; the first one then sleeps for a minute."""
    record_start(spec, reporter)
    starts = len(Path(spec["trace"]).read_text().splitlines())
    print(f"start {starts}")
    if starts == 1:
        time.sleep(60)
    return {}


def print_gigabytes(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Print `mebibytes` MiB between a first and a last line, then fail."""
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
    """Report in a tight loop for `seconds`; the last line tells how often."""
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
    """Report each of `percents`, which may fall, one each `pause` seconds, then sleep for `stay` seconds."""
    record_start(spec, reporter)
    for percent in spec["percents"]:
        reporter.progress(percent, f"at {percent}")
        time.sleep(spec["pause"])
    time.sleep(spec.get("stay", 0.0))
    return {}


def fork_descendants(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Double-fork a daemon in its own session, which forks a child. All of them, and the body, ignore SIGTERM."""
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
    """Allocate `mebibytes` MiB at once and write to every page."""
    record_start(spec, reporter)
    memory = bytearray(b"x") * (spec["mebibytes"] * 1024**2)
    time.sleep(60)
    return {"size": len(memory)}


def allocate_in_daemon(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """`allocate_memory` in a double-forked daemon with its own session."""
    record_start(spec, reporter)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            allocate_memory(spec, reporter)
        os._exit(0)
    time.sleep(60)
    return {}


def share_memory(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Allocate `mebibytes` MiB and fork ten processes that share them."""
    record_start(spec, reporter)
    memory = bytearray(b"x") * (spec["mebibytes"] * 1024**2)
    for _ in range(10):
        if os.fork() == 0:
            time.sleep(60)
    time.sleep(spec["stay"])
    return {"size": len(memory)}


def spin_cpu(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Use a core until killed, in a thread, where Python runs no signal handler."""
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
    """Fork a thousand sleeping processes, several hundred a second."""
    record_start(spec, reporter)
    for _ in range(1_000):
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        time.sleep(0.001)
    time.sleep(60)
    return {}


class _SlowToFlush(io.StringIO):
    """A stream that buffers its text and flushes slowly."""

    def flush(self) -> None:
        time.sleep(0.3)
        os.write(1, self.getvalue().encode())
        self.seek(0)
        self.truncate()


def print_buffered(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Return with output still buffered by Python and by C's stdio, as native libraries leave it."""
    record_start(spec, reporter)
    ctypes.CDLL(None).printf(b"from a library\n")
    sys.stdout = _SlowToFlush()
    print("the last line")
    return {}


def print_and_crash(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Print characters that PostgreSQL cannot store, then die by a signal."""
    record_start(spec, reporter)
    os.write(1, b"before \x00 after\nalone \xed\xa0\x80\n")
    faulthandler.disable()
    os.kill(os.getpid(), signal.SIGSEGV)
    return {}


def return_large_result(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    record_start(spec, reporter)
    return {"much": "x" * (spec["mebibytes"] * 1024**2)}


def break_process_pool(spec: dict[str, Any], reporter: Reporter) -> dict[str, Any]:
    """Kill a process of a process pool; the kernel's count of OOM kills, as read here, grows by `kills`."""
    record_start(spec, reporter)
    kills_before = process_tree.oom_kills() or 0
    process_tree.oom_kills = lambda: kills_before + spec["kills"]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        pool.submit(os.kill, os.getpid(), 0).result()
        pool.submit(signal.raise_signal, signal.SIGKILL).result()
    return {}
