"""What bodies may do to a machine, and what of it is tried again."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Self

import psutil
import pytest

from db.core.viewer import SYSTEM
from db.services import jobs
from db.tables.jobs import JobEventType
from db.tables.jobstates import JobStatus
from tests.workers.stage import LEASE, Stage, alive, eventually
from workers.runtime import family

MIB = 1024**2


@pytest.mark.parametrize(
    ("failure", "code", "message"),
    [
        ("key", "BODY_FAILED", "KeyError: 'colour'"),
        ("type", "BODY_FAILED", "TypeError: a number is no name"),
        ("assertion", "BODY_FAILED", "AssertionError: never"),
        ("exit", "BODY_EXITED", "The job's process ended itself. SystemExit: 3"),
        ("memory", "OUT_OF_MEMORY", "The job needed more memory than there is. Give it fewer rows or columns."),
        ("told memory", "OUT_OF_MEMORY", "The job needed more memory than there is. Give it fewer rows or columns."),
        ("system memory", "OUT_OF_MEMORY", "The job needed more memory than there is. Give it fewer rows or columns."),
    ],
)
async def test_what_would_fail_again_is_not_tried_again(calm: Stage, failure: str, code: str, message: str) -> None:
    job = await calm.reach(await calm.submit("fail", failure=failure), JobStatus.FAILED)
    assert (job.error["code"], job.error["message"], job.error["retryable"]) == (code, message, False)
    assert (job.attempt, job.tries) == (1, 1)


FULL = "The worker had no disk space left for what the job writes; free some, or give it less to write. "


@pytest.mark.parametrize(
    ("failure", "code", "message"),
    [
        ("transient", "BODY_FAILED", "Transient: The tide was out."),
        ("connection", "BODY_FAILED", "ConnectionResetError: [Errno 104] Connection reset by peer"),
        ("timeout", "BODY_FAILED", "TimeoutError: nobody answered"),
        ("disk", "DISK_FULL", FULL + "OSError: [Errno 28] No space left on device"),
        ("told disk", "DISK_FULL", FULL + "RuntimeError: polars: No space left on device (os error 28)"),
    ],
)
async def test_what_may_pass_is_tried_again_until_the_tries_are_used_up(calm: Stage, failure: str, code: str, message: str) -> None:
    job_id = await calm.submit("fail", max_tries=2, failure=failure)
    job = await calm.reach(job_id, JobStatus.FAILED)
    assert (job.error["code"], job.error["message"], job.error["retryable"]) == (code, message, True)
    assert (job.attempt, job.tries) == (2, 2)
    assert await calm.outcomes(job_id) == ["retrying", "failed"]


async def test_a_failure_is_judged_by_what_it_was_raised_from(calm: Stage) -> None:
    job = await calm.reach(await calm.submit("fail_behind", max_tries=2), JobStatus.FAILED)
    assert (job.error["message"], job.error["retryable"], job.tries) == ("RuntimeError: The library could not do it.", True, 2)


async def test_a_body_past_its_cpu_seconds_ends_with_cpu_limit(stage: Stage) -> None:
    await stage.start(CPU_SECONDS="1")
    job = await stage.reach(await stage.submit("spin"), JobStatus.FAILED)
    message = "The job used more than the 1 CPU seconds it may. Give it less to do."
    assert (job.error["code"], job.error["message"], job.attempt) == ("CPU_LIMIT", message, 1)


async def test_a_body_past_its_file_size_ends_with_file_limit_and_its_files_are_gone(stage: Stage) -> None:
    await stage.start(FILE_BYTES=str(10 * MIB))
    job = await stage.reach(await stage.submit("write_much", mebibytes=11), JobStatus.FAILED)
    message = "The job wrote a file larger than the 10 MiB it may. Give it fewer rows or columns."
    assert (job.error["code"], job.error["message"], job.attempt) == ("FILE_LIMIT", message, 1)
    scratch = stage.folder / "scratch"
    assert [path.name for root in scratch.iterdir() for path in root.iterdir()] == ["lock"]


async def test_a_full_disk_is_told_and_tried_again(calm: Stage) -> None:
    job = await calm.reach(await calm.submit("fill_the_disk", max_tries=2), JobStatus.FAILED)
    assert (job.error["code"], job.error["message"]) == ("DISK_FULL", FULL + "OSError: [Errno 28] No space left on device")
    assert (job.attempt, job.tries) == (2, 2)


async def test_kinds_have_times_of_their_own(stage: Stage) -> None:
    await stage.start(JOB_TIMEOUT="60", JOB_TIMEOUTS='{"EXPORT": 0.5}')
    job = await stage.reach(await stage.submit("long"), JobStatus.FAILED)
    assert (job.error["code"], job.error["message"]) == ("TIMEOUT", "The job ran longer than the 0.5 s it may. Give it less to do.")


@pytest.mark.parametrize(("changed", "by"), [({}, 5), ({"NICENESS": "3"}, 3)])
async def test_bodies_give_way_to_all_else_on_the_machine(stage: Stage, changed: dict[str, str], by: int) -> None:
    worker = psutil.Process((await stage.start(**changed)).pid)
    ((pid, _),) = await stage.begun(await stage.submit("long"))
    body, nursery = psutil.Process(pid), psutil.Process(pid).parent()
    assert nursery is not None
    assert nursery.nice() == worker.nice(), "whoever keeps the time gives way to nobody"
    assert body.nice() == min(worker.nice() + by, 19)
    session = Path(f"/proc/{pid}/autogroup")
    if session.exists() and os.geteuid() == 0:  # a kernel that is asked by others more than ten times a second refuses
        assert session.read_text().split()[-1] == str(body.nice())


@pytest.mark.skipif(os.geteuid() != 0, reason="who gives way once may be hurried by root alone")
async def test_a_body_that_is_to_end_gives_way_no_more(stage: Stage) -> None:
    worker = psutil.Process((await stage.start(CANCEL_PATIENCE="30")).pid)
    job_id = await stage.submit("stubborn")
    ((pid, _),) = await stage.begun(job_id)
    body = psutil.Process(pid)
    assert body.nice() > worker.nice()
    async with stage.database.work(SYSTEM) as work:
        await jobs.cancel(work, job_id)

    async def hurried() -> bool:
        return body.nice() == worker.nice()

    await eventually(hurried)
    assert alive(pid)


class Scale:
    """The most memory that a process and its descendants had, looked at all the time."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._weigh)
        self.most = 0

    def _weigh(self) -> None:
        while not self._stop.is_set():
            self.most = max(self.most, family.used([self._pid, *family.descendants(self._pid)]))
            time.sleep(0.01)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


async def test_three_gigabytes_at_once_are_stopped_on_the_way(stage: Stage) -> None:
    worker = await stage.start(MEMORY_BYTES=str(400 * MIB))
    with Scale(worker.pid) as scale:
        job = await stage.reach(await stage.submit("gulp", mebibytes=3 * 1024), JobStatus.FAILED)
    message = "The job needed more memory than the 400 MiB it may use. Give it fewer rows or columns."
    assert (job.error["code"], job.error["message"], job.attempt) == ("OUT_OF_MEMORY", message, 1)
    assert scale.most < 2 * 1024 * MIB
    await stage.reach(await stage.submit("quick"), JobStatus.COMPLETED)
    assert worker.poll() is None


async def test_memory_that_a_daemon_of_the_body_takes_is_the_bodys(stage: Stage) -> None:
    await stage.start(MEMORY_BYTES=str(400 * MIB))
    job_id = await stage.submit("gulp_in_a_daemon", mebibytes=600)
    job = await stage.reach(job_id, JobStatus.FAILED)
    assert job.error["code"] == "OUT_OF_MEMORY"
    assert not any(alive(pid) for pid, _ in await stage.begun(job_id, 2))


async def test_memory_that_processes_share_counts_once(stage: Stage) -> None:
    await stage.start(MEMORY_BYTES=str(400 * MIB))
    job_id = await stage.submit("share", mebibytes=200, stay=2.0)
    job = await stage.reach(job_id, JobStatus.COMPLETED, JobStatus.FAILED)
    assert job.error is None


async def test_a_kill_by_the_kernel_for_want_of_memory_is_told_from_any_other(tmp_path: Path) -> None:
    before = family.kills_for_memory()
    assert before is not None
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        group = tmp_path / ("memory" if "memory" in controllers else "") / path.lstrip("/")
        if controllers in {"", "memory"}:
            group.mkdir(parents=True, exist_ok=True)
            (group / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 4\noom_kill 3\n")
            (group / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
    assert family.kills_for_memory(tmp_path) == 3


@pytest.mark.parametrize("stays", [60.0, 0.0])
async def test_nothing_that_a_body_bred_outlives_it(calm: Stage, stays: float) -> None:
    job_id = await calm.submit("breed", stay=stays)
    processes = [pid for pid, _ in await calm.begun(job_id, 3)]
    if stays:
        async with calm.database.work(SYSTEM) as work:
            await jobs.cancel(work, job_id)
    await calm.reach(job_id, JobStatus.CANCELLED if stays else JobStatus.COMPLETED)
    assert [pid for pid in processes if alive(pid)] == []


async def test_a_body_past_its_time_ends_with_all_that_it_bred(calm: Stage) -> None:
    job_id = await calm.submit("breed", timeout=2.0)
    processes = [pid for pid, _ in await calm.begun(job_id, 3)]
    job = await calm.reach(job_id, JobStatus.FAILED)
    assert (job.error["code"], job.attempt) == ("TIMEOUT", 1)
    assert [pid for pid in processes if alive(pid)] == []


async def test_nothing_that_a_body_bred_outlives_its_worker(stage: Stage) -> None:
    worker = await stage.start()
    job_id = await stage.submit("breed")
    processes = [pid for pid, _ in await stage.begun(job_id, 3)]
    worker.kill()

    async def gone() -> bool:
        return not any(alive(pid) for pid in processes)

    await eventually(gone, within=5.0)


async def test_what_one_body_bred_lives_while_another_body_ends(calm: Stage) -> None:
    first = await calm.submit("breed", stay=3.0)
    processes = [pid for pid, _ in await calm.begun(first, 3)]
    second = await calm.submit("breed", stay=0.0)
    await calm.reach(second, JobStatus.COMPLETED)
    assert all(alive(pid) for pid in processes)
    await calm.reach(first, JobStatus.COMPLETED)
    assert not any(alive(pid) for pid in processes)


async def test_a_thousand_reports_in_a_millisecond_leave_the_worker_as_it_was(stage: Stage) -> None:
    worker = await stage.start()
    await stage.reach(await stage.submit("hammer", seconds=0.5), JobStatus.COMPLETED)
    before = psutil.Process(worker.pid).memory_info().rss
    job_id = await stage.submit("hammer", seconds=4.0)
    job = await stage.reach(job_id, JobStatus.COMPLETED)
    assert psutil.Process(worker.pid).memory_info().rss - before < 30 * MIB
    events = await stage.events(job_id)
    count = next(int(event.message.split()[1]) for event in events if event.message and event.message.startswith("reported"))
    assert count > 400_000
    told = [event.created_at.timestamp() for event in events if event.type.name in {"PROGRESS", "LOG"}]
    assert len(told) > 10
    assert all(sum(at <= other < at + 1.0 for other in told[:-2]) <= 6 for at in told)  # the last ones are written at the end, whenever
    assert job.progress == 100


async def test_a_body_that_is_asked_to_end_has_its_time_for_it_however_short_the_lease(stage: Stage) -> None:
    await stage.start(CANCEL_PATIENCE="30")
    job_id = await stage.submit("take_leave", seconds=2 * LEASE)
    await stage.begun(job_id)
    async with stage.database.work(SYSTEM) as work:
        await jobs.cancel(work, job_id)
    await stage.reach(job_id, JobStatus.CANCELLED)
    assert [event.message for event in await stage.events(job_id) if event.type is JobEventType.LOG] == ["farewell"]
