"""The forkserver: what it survives, and what becomes of bodies when it dies."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import select

from db.core.viewer import SYSTEM
from db.services import jobs
from db.tables import JobAttempt
from db.tables.jobstates import JobStatus
from tests.forked_forkserver import MAX_PROCESSES
from tests.workers.worker_harness import WorkerHarness, alive, eventually
from workers.runtime import forkserver_client
from workers.runtime.process_pool import ChildHandle, ForkserverUnavailable, ProcessPool

MEMORY_LIMIT = 1 << 32
FAILING_FORKS = """
import os, sys
if any("workers.runtime.forkserver" in word for word in sys.orig_argv):
    fork, made = os.fork, [0]
    def fails_third():
        made[0] += 1
        if made[0] == 3:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return fork()
    os.fork = fails_third
"""
WATCHED_KILLS = """
import os, sys
if any("workers.runtime.forkserver" in word for word in sys.orig_argv):
    killpg = os.killpg
    def watched(pid, signum):
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            state = "ours"
        except ChildProcessError:
            state = "reaped"
        with open({path!r}, "a") as log:
            log.write(state + "\\n")
        killpg(pid, signum)
    os.killpg = watched
"""
SLOW_LIBRARIES = """
import importlib, sys, time
if "preload" in sys.orig_argv:
    real = importlib.import_module
    def slow(name, *rest):
        if sys._getframe(1).f_globals["__name__"] == "__main__":  # not what libraries import by themselves
            time.sleep(0.25)
        return real(name, *rest)
    importlib.import_module = slow
"""


async def start_body(child: ChildHandle, folder: Path, body: str, deadline: float | None = None, **spec: Any) -> Path:
    """Start a body, by default with a deadline of a minute; return its trace file."""
    deadline = time.monotonic() + 60 if deadline is None else deadline
    trace = folder / f"{time.monotonic_ns()}.trace"
    child.set_limits(deadline, MEMORY_LIMIT)
    body_spec = {"trace": str(trace), **spec}
    await child.send_request(
        {
            "target": f"tests.workers.bodies:{body}",
            "spec": body_spec,
            "folder": str(folder),
            "limits": {},
            "niceness": 0,
            "paths": [str(folder)],
            "deadline": deadline,
            "is_shared": False,
            "end_of_output": "",
        }
    )
    return trace


async def wait_for_start(trace: Path) -> int:
    """Return the process id of the body."""

    async def trace_text() -> str | None:
        return trace.read_text() if trace.exists() and trace.read_text().endswith("\n") else None

    return int((await eventually(trace_text)).split()[0])


async def wait_for_death(pid: int) -> None:
    async def is_dead() -> bool:
        return not alive(pid)

    await eventually(is_dead)


def install_sitecustomize(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install code that every Python process started from here on runs first."""
    (folder / "sitecustomize.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(folder))


async def test_a_body_does_not_begin_once_its_lease_has_run_out(tmp_path: Path) -> None:
    traces: list[Path] = []
    async with ProcessPool(preload=False) as process_pool:
        for _ in range(20):
            child = await process_pool.acquire()
            traces.append(await start_body(child, tmp_path, "quick", time.monotonic() - 0.001))
            await child.exited
            child.close()
    assert [trace for trace in traces if trace.exists()] == []


async def test_a_fork_that_fails_costs_one_child_and_no_body(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_sitecustomize(tmp_path, FAILING_FORKS, monkeypatch)
    async with ProcessPool(preload=False) as process_pool:
        first, second = await process_pool.acquire(), await process_pool.acquire()
        bodies = [await wait_for_start(await start_body(child, tmp_path, "long")) for child in (first, second)]
        await asyncio.sleep(2 * 0.05)  # meanwhile the pool tries a spare child, the third
        third = await process_pool.acquire()
        await wait_for_start(await start_body(third, tmp_path, "quick"))
        assert (await third.exited).status == 0
        assert [alive(pid) for pid in bodies] == [True, True]
        for child in (first, second, third):
            child.close()


async def test_no_process_is_killed_whose_pid_another_may_have_got(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "kills"
    install_sitecustomize(tmp_path, WATCHED_KILLS.format(path=str(log)), monkeypatch)
    async with ProcessPool(preload=False) as process_pool:
        for body in ("quick", "fork_and_crash"):
            child = await process_pool.acquire()
            trace = await start_body(child, tmp_path, body)
            await child.exited
            child.close()
        forked = int(trace.read_text().split()[0])
        assert not alive(forked)
    assert set(log.read_text().split()) == {"ours"}


async def test_a_forkserver_is_reaped_in_the_thread_that_kills_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two threads, the pid could become another's after one has reaped and before the other kills."""
    threads: set[int] = set()
    waitpid = os.waitpid

    def recorded(pid: int, options: int) -> tuple[int, int]:
        threads.add(threading.get_ident())
        return waitpid(pid, options)

    monkeypatch.setattr(os, "waitpid", recorded)
    async with ProcessPool(preload=False) as process_pool:
        child = await process_pool.acquire()
        await wait_for_start(await start_body(child, tmp_path, "quick"))
        child.close()
    assert threads == {threading.get_ident()}


@pytest.mark.exhaustive
async def test_a_forkserver_that_stands_still_is_given_up_and_the_job_begins_elsewhere(
    harness: WorkerHarness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(forkserver_client, "RESPONSE_TIMEOUT", 0.5)
    async with ProcessPool(preload=False) as process_pool:
        first = await process_pool.acquire()
        body = await wait_for_start(await start_body(first, tmp_path, "long"))
        await asyncio.sleep(0.3)
        spare = await process_pool.acquire()
        assert process_pool.pid is not None
        os.kill(process_pool.pid, signal.SIGSTOP)
        with pytest.raises(ForkserverUnavailable):
            await process_pool.acquire()
        assert (await first.exited) == (-signal.SIGKILL, "forkserver")
        await wait_for_death(body)  # this pool is no subreaper, so the kernel kills the body, a moment after its forkserver
        replacement = await process_pool.acquire()
        await wait_for_start(await start_body(replacement, tmp_path, "quick"))
        for child in (first, spare, replacement):
            child.close()


@pytest.mark.exhaustive
async def test_a_job_whose_forkserver_dies_runs_again_without_a_try_and_nothing_of_it_is_left(harness: WorkerHarness) -> None:
    worker = await harness.start_worker(BACKOFF_BASE="0.1", BACKOFF_FACTOR="1", CANCEL_GRACE="0.5")
    job_id = await harness.submit("fork_descendants")
    descendants = [pid for pid, _ in await harness.wait_for_starts(job_id, 3)]
    (forkserver,) = psutil.Process(worker.pid).children()
    forkserver.kill()
    await harness.wait_for_starts(job_id, 6)
    assert [pid for pid in descendants if alive(pid)] == []
    job = await harness.job(job_id)
    assert (job.attempt, job.tries, job.losses) == (2, 0, 1)
    (lost_attempt,) = await harness.database.rows(select(JobAttempt.error).where(JobAttempt.job_id == job_id, JobAttempt.number == 1))
    assert lost_attempt.error["message"] == "The worker lost the job's process. Its forkserver died."
    async with harness.database.work(SYSTEM) as work:
        await jobs.cancel(work, job_id)
    await harness.wait_for_status(job_id, JobStatus.CANCELLED)


@pytest.mark.exhaustive
async def test_deadlines_hold_while_libraries_are_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_sitecustomize(tmp_path, SLOW_LIBRARIES, monkeypatch)
    delays: list[float] = []
    async with ProcessPool(preload=True) as process_pool:
        unpreloaded = await process_pool.acquire()
        first_pid = process_pool.pid
        for _ in range(4):
            child = await process_pool.acquire()
            deadline = time.monotonic() + 0.3
            await start_body(child, tmp_path, "spin_cpu", deadline)
            await child.exited
            delays.append(time.monotonic() - deadline)
            child.close()
        assert process_pool.pid == first_pid  # the preloading forkserver is still importing
        assert max(delays) < 0.3

        async def is_preloaded() -> bool:
            return process_pool.pid != first_pid

        await eventually(is_preloaded)
        assert first_pid is not None
        assert alive(first_pid)  # it still has a child
        assert (await process_pool.acquire()).pid != 0
        unpreloaded.close()

        async def has_exited() -> bool:
            return not alive(first_pid)

        await eventually(has_exited)


@pytest.mark.exhaustive
@pytest.mark.parametrize("changed", [{MAX_PROCESSES: "32"}, {"PRELOAD": "false"}], ids=["few", "as many as it may"])
async def test_a_body_that_forks_without_end_is_stopped(harness: WorkerHarness, changed: dict[str, str]) -> None:
    worker = await harness.start_worker(**changed)
    job = await harness.wait_for_status(await harness.submit("fork_bomb"), JobStatus.FAILED)
    message = "The job started too many processes. Use fewer at a time."
    assert (job.error["code"], job.error["message"], job.attempt) == ("PROCESS_LIMIT", message, 1)
    assert len(psutil.Process(worker.pid).children(recursive=True)) < 5


@pytest.mark.parametrize("pool_too", [True, pytest.param(False, marks=pytest.mark.exhaustive)])
def test_a_python_that_is_no_worker_keeps_its_children(pool_too: bool) -> None:
    """Only a worker process, which has no other children, is a subreaper and kills orphans."""
    program = "import asyncio\nfrom workers.runtime.process_pool import ProcessPool\nasync def main():\n  async with ProcessPool(preload=False): pass\n"
    program = (
        f"import subprocess\nother = subprocess.Popen(['sleep', '60'])\n{program}asyncio.run(main())\nprint(other.poll())\nother.kill()"
    )
    if pool_too:
        program = program.replace("preload=False", "preload=False, is_subreaper=True")
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout == "None\n"
