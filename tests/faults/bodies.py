"""Wraps every body: traces its executions, and runs pipelines named "script ..." as scripts.

The number of rows of a script's output is its attempt, so that a result of the wrong attempt is detected.
"""

from __future__ import annotations

import ctypes
import fcntl
import importlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workers.ml.errors import BadInput
from workers.ml.reporting import Reporter

SCRIPT_PREFIX = "script "
JOB_VARIABLE = "FAULTS_JOB"
PROCESS = secrets.token_hex(8)  # names the process that has imported this, since numbers of processes come again
HOLD, HOLD_SECONDS = "hold", 60.0
"""While a file of this name is beside the traces, a body of a first attempt that has done all its work waits to be killed; with a text in the file, only
a body with this target."""
MIB = 1024**2


def run(request: dict[str, Any], reporter: Reporter) -> Any:
    """Run the body `target`, traced."""
    with _traced_execution(Path(request["folder"]), request["job"], request["attempt"], request["target"]):
        spec = request["spec"]
        name = spec.get("context", {}).get("pipeline_name") or ""
        if name.startswith(SCRIPT_PREFIX):
            os.environ[JOB_VARIABLE] = request["job"]  # marks all descendants of the body
            script_name, *values = name.removeprefix(SCRIPT_PREFIX).split()
            SCRIPTS[script_name](reporter, request["attempt"], *map(float, values))
            return _result(Path(spec["folder"]), request)
        module, _, function = request["target"].partition(":")
        result = getattr(importlib.import_module(module), function)(spec, reporter)
        if request["attempt"] == 1 and _is_held(Path(request["folder"]), request["target"]):
            _trace(Path(request["folder"]), request["job"], 1, "held", request["target"], alone=True)
            time.sleep(HOLD_SECONDS)
        return result


def _is_held(folder: Path, target: str) -> bool:
    try:
        return (folder / HOLD).read_text() in ("", target)
    except FileNotFoundError:
        return False


@contextmanager
def _traced_execution(folder: Path, job: str, attempt: int, target: str) -> Generator[None]:
    """Trace one execution under the job's lock, which the kernel releases however the process ends; a taken lock means overlap."""
    lock = os.open(folder / f"{job}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        alone = True
    except OSError:
        alone = False
    _trace(folder, job, attempt, "start", target, alone=alone)
    try:
        yield
    finally:
        _trace(folder, job, attempt, "end", target, alone=alone)
        os.close(lock)  # the process may run another body


def _trace(folder: Path, job: str, attempt: int, what: str, target: str, *, alone: bool) -> None:
    """Append one line with one O_APPEND write, so that lines of several processes do not mix."""
    record = {
        "job": job,
        "attempt": attempt,
        "what": what,
        "target": target,
        "process": PROCESS,
        "pid": os.getpid(),
        "at": time.monotonic(),
        "alone": alone,
    }
    descriptor = os.open(folder / "executions", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, json.dumps(record).encode() + b"\n")
    finally:
        os.close(descriptor)


def _result(folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    output = folder / "script.parquet"
    output.write_text(f"{request['job']} {request['attempt']} {secrets.token_hex(16)}")
    rows = request["attempt"]
    profile = {"profiler_version": "script", "generation_time": 0.0, "is_exact": True, "columns": [], "correlations": []}
    counts = {"row_count": rows, "duplicate_row_count": 0, "missing_cell_ratio": 0.0}
    table = {"row_count": rows, "column_count": 0, "columns": [], "preview": []}
    return {"kind": "dataset", "parquet": str(output), "profile": {**profile, **counts}, **table}


# The scripts; their arguments are the attempt and the numbers in the name.


def nap(reporter: Reporter, _attempt: int, seconds: float) -> None:
    """Sleep and report progress."""
    for part in range(4):
        reporter.progress(25 * part, f"nap {part + 1} of 4")
        time.sleep(seconds / 4)


def linger(reporter: Reporter, attempt: int, seconds: float, later: float = 0.05) -> None:
    """Sleep `seconds` in the first attempt, `later` seconds in the others."""
    nap(reporter, attempt, seconds if attempt == 1 else later)


def hold(_reporter: Reporter, attempt: int, seconds: float) -> None:
    """Hold the GIL, so that no other thread of this process runs."""
    if attempt == 1:
        ctypes.PyDLL(None).usleep(int(seconds * 1e6))


def stubborn(reporter: Reporter, attempt: int, seconds: float) -> None:
    """Ignore SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    nap(reporter, attempt, seconds)


def leak(_reporter: Reporter, _attempt: int) -> None:
    """Allocate memory until killed."""
    blocks: list[bytearray] = []
    while True:
        blocks.append(bytearray(8 * MIB))


def fork(reporter: Reporter, attempt: int, seconds: float) -> None:
    """Leave a process behind in its own session."""
    subprocess.Popen(["sleep", "3600.5"], start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    nap(reporter, attempt, seconds)


def chatter(_reporter: Reporter, _attempt: int, megabytes: float) -> None:
    """Print `megabytes` MB."""
    block = ("x" * 1023 + "\n") * 1024
    for _ in range(int(megabytes)):
        sys.stdout.write(block)
    sys.stdout.flush()


def fill(_reporter: Reporter, attempt: int, megabytes: float) -> None:
    """Write `megabytes` MB into the attempt's folder in the first attempt."""
    if attempt == 1:
        with Path("filling").open("wb") as file:
            file.writelines(b"x" * MIB for _ in range(int(megabytes)))


def refuse(_reporter: Reporter, _attempt: int) -> None:
    raise BadInput("TOO_ODD", "The input is too odd. Send an even one.")


def stumble(_reporter: Reporter, attempt: int) -> None:
    """Raise a transient error in the first attempt."""
    if attempt == 1:
        raise ConnectionResetError("Whoever it spoke with has gone.")


SCRIPTS: dict[str, Callable[..., None]] = {
    script.__name__: script for script in (nap, linger, hold, stubborn, leak, fork, chatter, fill, refuse, stumble)
}
