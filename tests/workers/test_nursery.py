"""The process between a worker and its bodies: what it survives, and what becomes of bodies when it does not."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
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
from tests.workers.stage import Stage, alive, eventually
from workers.runtime import house
from workers.runtime.child import Child, Nursery, NurseryLost

MEMORY = 1 << 32
FAILING_FORKS = """
import os, sys
if any("workers.runtime.nursery" in word for word in sys.orig_argv):
    fork, made = os.fork, [0]
    def fails_third():
        made[0] += 1
        if made[0] == 3:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return fork()
    os.fork = fails_third
"""
SLOW_LIBRARIES = """
import importlib, sys, time
if "preload" in sys.orig_argv:
    real = importlib.import_module
    def slow(name, *rest):
        if sys._getframe(1).f_globals["__name__"] == "__main__":  # not what libraries import by themselves
            time.sleep(0.4)
        return real(name, *rest)
    importlib.import_module = slow
"""


async def begin(child: Child, folder: Path, body: str, until: float | None = None, **spec: Any) -> Path:
    """The file in which the body leaves its trace; it may live for a minute."""
    until = time.monotonic() + 60 if until is None else until
    trace = folder / f"{time.monotonic_ns()}.trace"
    child.arm(until, MEMORY)
    told = {"trace": str(trace), **spec}
    await child.order(
        {"target": f"tests.workers.bodies:{body}", "spec": told, "folder": str(folder), "limits": {}, "niceness": 0, "until": until}
    )
    return trace


async def begun(trace: Path) -> int:
    """The body's process."""

    async def there() -> str | None:
        return trace.read_text() if trace.exists() and trace.read_text().endswith("\n") else None

    return int((await eventually(there)).split()[0])


def site(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What every Python that is started from here on runs first."""
    (folder / "sitecustomize.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(folder))


async def test_a_body_does_not_begin_once_its_lease_has_run_out(tmp_path: Path) -> None:
    traces: list[Path] = []
    async with Nursery(preload=False) as nursery:
        for _ in range(20):
            child = await nursery.take()
            traces.append(await begin(child, tmp_path, "quick", time.monotonic() - 0.001))
            await child.ended
            child.close()
    assert [trace for trace in traces if trace.exists()] == []


async def test_a_fork_that_fails_costs_one_child_and_no_body(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site(tmp_path, FAILING_FORKS, monkeypatch)
    async with Nursery(preload=False) as nursery:
        first, second = await nursery.take(), await nursery.take()
        bodies = [await begun(await begin(child, tmp_path, "long")) for child in (first, second)]
        await asyncio.sleep(2 * 0.05)  # a spare one is tried for, which is the third
        third = await nursery.take()
        await begun(await begin(third, tmp_path, "quick"))
        assert (await third.ended).status == 0
        assert [alive(pid) for pid in bodies] == [True, True]
        for child in (first, second, third):
            child.close()


async def test_a_nursery_that_stands_still_is_given_up_and_the_job_begins_elsewhere(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(house, "ANSWER", 0.5)
    async with Nursery(preload=False) as nursery:
        first = await nursery.take()
        body = await begun(await begin(first, tmp_path, "long"))
        await asyncio.sleep(0.3)
        spare = await nursery.take()
        assert nursery.pid is not None
        os.kill(nursery.pid, signal.SIGSTOP)
        with pytest.raises(NurseryLost):
            await nursery.take()
        assert (await first.ended) == (-signal.SIGKILL, "nursery")
        assert not alive(body)
        again = await nursery.take()
        await begun(await begin(again, tmp_path, "quick"))
        for child in (first, spare, again):
            child.close()


async def test_a_job_whose_nursery_dies_runs_again_without_a_try_and_nothing_of_it_is_left(stage: Stage) -> None:
    worker = await stage.start()
    job_id = await stage.submit("breed")
    bred = [pid for pid, _ in await stage.begun(job_id, 3)]
    (nursery,) = [child for child in psutil.Process(worker.pid).children() if "workers.runtime.nursery" in child.cmdline()]
    nursery.kill()
    await stage.begun(job_id, 6)
    assert [pid for pid in bred if alive(pid)] == []
    job = await stage.job(job_id)
    assert (job.attempt, job.tries, job.losses) == (2, 0, 1)
    (lost,) = await stage.database.rows(select(JobAttempt.error).where(JobAttempt.job_id == job_id, JobAttempt.number == 1))
    assert lost.error["message"] == "The worker could not keep the job's process. The process that looks after it died."
    async with stage.database.work(SYSTEM) as work:
        await jobs.cancel(work, job_id)
    await stage.reach(job_id, JobStatus.CANCELLED)


async def test_deadlines_hold_while_libraries_are_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site(tmp_path, SLOW_LIBRARIES, monkeypatch)
    late: list[float] = []
    async with Nursery(preload=True) as nursery:
        cold = await nursery.take()
        first = nursery.pid
        for _ in range(8):
            child = await nursery.take()
            until = time.monotonic() + 0.3
            await begin(child, tmp_path, "spin", until)
            await child.ended
            late.append(time.monotonic() - until)
            child.close()
        assert nursery.pid == first  # the other one is still importing
        assert max(late) < 0.3

        async def warm() -> bool:
            return nursery.pid != first

        await eventually(warm)
        assert first is not None
        assert alive(first)  # it has a child yet
        assert (await nursery.take()).pid != 0
        cold.close()

        async def gone() -> bool:
            return not alive(first)

        await eventually(gone, within=10.0)


async def test_a_body_that_forks_without_end_is_stopped(stage: Stage) -> None:
    worker = await stage.start()
    job = await stage.reach(await stage.submit("multiply"), JobStatus.FAILED)
    message = "The job started more processes than it may. Give it fewer at a time."
    assert (job.error["code"], job.error["message"], job.attempt) == ("PROCESS_LIMIT", message, 1)
    assert len(psutil.Process(worker.pid).children(recursive=True)) < 5


@pytest.mark.parametrize("pool_too", [False, True])
def test_a_python_that_is_no_worker_keeps_its_children(pool_too: bool) -> None:
    """Only a worker process, which has no children of its own, adopts and kills."""
    program = "import asyncio\nfrom workers.runtime.child import Nursery\nasync def main():\n  async with Nursery(preload=False): pass\n"
    program = (
        f"import subprocess\nother = subprocess.Popen(['sleep', '60'])\n{program}asyncio.run(main())\nprint(other.poll())\nother.kill()"
    )
    if pool_too:
        program = program.replace("preload=False", "preload=False, adopts=True")
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout == "None\n"
