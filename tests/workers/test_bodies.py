"""Limits and failures of bodies, and which of them are retried."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Self
from uuid import uuid4

import psutil
import pytest
from sqlalchemy import insert

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services import jobs
from db.settings import StateSettings, state_settings
from db.tables import Artifact, StoredObject
from db.tables.jobs import JobEventType
from db.tables.jobstates import JobStatus
from tests.exhaustive import exhaustive
from tests.prefork import ForkedProcess
from tests.workers.worker_harness import (
    LEASE,
    SHARED_WORKER_SETTINGS,
    WorkerHarness,
    alive,
    eventually,
    launch_worker,
    wait_registered,
)
from workers.runtime import process_tree

MIB = 1024**2


@pytest.mark.parametrize(
    ("failure", "code", "message"),
    [
        exhaustive("key", "BODY_FAILED", "KeyError: 'colour'"),
        exhaustive("type", "BODY_FAILED", "TypeError: a number is no name"),
        exhaustive("assertion", "BODY_FAILED", "AssertionError: never"),
        exhaustive("exit", "BODY_EXITED", "The job's process exited. SystemExit: 3"),
        exhaustive("memory", "OUT_OF_MEMORY", "The job needed more memory than is available. Give it fewer rows or columns."),
        exhaustive("told memory", "OUT_OF_MEMORY", "The job needed more memory than is available. Give it fewer rows or columns."),
        exhaustive("system memory", "OUT_OF_MEMORY", "The job needed more memory than is available. Give it fewer rows or columns."),
    ],
)
async def test_what_would_fail_again_is_not_tried_again(harness_with_worker: WorkerHarness, failure: str, code: str, message: str) -> None:
    job = await harness_with_worker.wait_for_status(await harness_with_worker.submit("fail", failure=failure), JobStatus.FAILED)
    assert (job.error["code"], job.error["message"], job.error["retryable"]) == (code, message, False)
    assert (job.attempt, job.tries) == (1, 1)


DISK_FULL_MESSAGE = "The worker had no disk space left for the files of the job. Free some, or give the job less to write. "


@pytest.mark.parametrize(
    ("failure", "code", "message"),
    [
        ("transient", "BODY_FAILED", "Transient: The tide was out."),
        exhaustive("connection", "BODY_FAILED", "ConnectionResetError: [Errno 104] Connection reset by peer"),
        exhaustive("timeout", "BODY_FAILED", "TimeoutError: nobody answered"),
        ("disk", "DISK_FULL", DISK_FULL_MESSAGE + "OSError: [Errno 28] No space left on device"),
        exhaustive("told disk", "DISK_FULL", DISK_FULL_MESSAGE + "RuntimeError: polars: No space left on device (os error 28)"),
    ],
)
async def test_what_may_pass_is_tried_again_until_the_tries_are_used_up(
    harness_with_worker: WorkerHarness, failure: str, code: str, message: str
) -> None:
    job_id = await harness_with_worker.submit("fail", max_tries=2, failure=failure)
    job = await harness_with_worker.wait_for_status(job_id, JobStatus.FAILED)
    assert (job.error["code"], job.error["message"], job.error["retryable"]) == (code, message, True)
    assert (job.attempt, job.tries) == (2, 2)
    assert await harness_with_worker.outcomes(job_id) == ["retrying", "failed"]


async def test_a_failure_is_judged_by_what_it_was_raised_from(harness_with_worker: WorkerHarness) -> None:
    job = await harness_with_worker.wait_for_status(await harness_with_worker.submit("fail_with_cause", max_tries=2), JobStatus.FAILED)
    assert (job.error["message"], job.error["retryable"], job.tries) == ("RuntimeError: The library could not do it.", True, 2)


@pytest.mark.exhaustive
async def test_a_body_past_its_cpu_seconds_ends_with_cpu_limit(harness: WorkerHarness) -> None:
    await harness.start_worker(CPU_SECONDS="1")
    job = await harness.wait_for_status(await harness.submit("spin_cpu"), JobStatus.FAILED)
    message = "The job exceeded its limit of 1 CPU seconds. Give it less to do."
    assert (job.error["code"], job.error["message"], job.attempt) == ("CPU_LIMIT", message, 1)


async def test_a_body_past_its_file_size_ends_with_file_limit_and_its_files_are_gone(harness: WorkerHarness) -> None:
    await harness.start_worker(FILE_BYTES=str(10 * MIB))
    job = await harness.wait_for_status(await harness.submit("write_large_file", mebibytes=11), JobStatus.FAILED)
    message = "The job wrote a file larger than its limit of 10 MiB. Give it fewer rows or columns."
    assert (job.error["code"], job.error["message"], job.attempt) == ("FILE_LIMIT", message, 1)
    scratch = harness.folder / "scratch"
    assert [path.name for root in scratch.iterdir() for path in root.iterdir()] == ["lock"]


async def test_a_full_disk_is_told_and_tried_again(harness_with_worker: WorkerHarness) -> None:
    job = await harness_with_worker.wait_for_status(await harness_with_worker.submit("fill_disk", max_tries=2), JobStatus.FAILED)
    assert (job.error["code"], job.error["message"]) == ("DISK_FULL", DISK_FULL_MESSAGE + "OSError: [Errno 28] No space left on device")
    assert (job.attempt, job.tries) == (2, 2)


@pytest.mark.exhaustive
async def test_kinds_have_times_of_their_own(harness: WorkerHarness) -> None:
    await harness.start_worker(JOB_TIMEOUT="60", JOB_TIMEOUTS='{"EXPORT": 0.5}')
    job = await harness.wait_for_status(await harness.submit("long"), JobStatus.FAILED)
    assert (job.error["code"], job.error["message"]) == (
        "TIMEOUT",
        "The job exceeded its timeout of 0.5 s. Give it less to do or a higher timeout.",
    )


@pytest.mark.parametrize(("changed", "by"), [({}, 5), exhaustive({"NICENESS": "3"}, 3)])
async def test_bodies_give_way_to_all_else_on_the_machine(harness: WorkerHarness, changed: dict[str, str], by: int) -> None:
    worker = psutil.Process((await harness.start_worker(**changed)).pid)
    ((pid, _),) = await harness.wait_for_starts(await harness.submit("long"))
    body, forkserver = psutil.Process(pid), psutil.Process(pid).parent()
    assert forkserver is not None
    assert forkserver.nice() == worker.nice(), "whoever keeps the time gives way to nobody"
    assert body.nice() == min(worker.nice() + by, 19)
    autogroup = Path(f"/proc/{pid}/autogroup")
    if autogroup.exists() and os.geteuid() == 0:  # the kernel refuses an unprivileged process more than ten changes a second
        assert autogroup.read_text().split()[-1] == str(body.nice())


@pytest.mark.skipif(os.geteuid() != 0, reason="who gives way once may be hurried by root alone")
async def test_a_body_that_is_to_end_gives_way_no_more(harness: WorkerHarness) -> None:
    worker = psutil.Process((await harness.start_worker(CANCEL_GRACE="30")).pid)
    job_id = await harness.submit("ignore_sigterm")
    ((pid, _),) = await harness.wait_for_starts(job_id)
    body = psutil.Process(pid)
    assert body.nice() > worker.nice()
    async with harness.database.work(SYSTEM) as work:
        await jobs.cancel(work, job_id)

    async def is_priority_restored() -> bool:
        return body.nice() == worker.nice()

    await eventually(is_priority_restored)
    assert alive(pid)


class PeakMemory:
    """Samples the peak memory of a process and its descendants."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.peak = 0

    def _sample(self) -> None:
        while not self._stop.is_set():
            self.peak = max(self.peak, process_tree.memory_used([self._pid, *process_tree.descendants(self._pid)]))
            time.sleep(0.01)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture(scope="module")
async def limited_worker(
    settings: StateSettings, database: Database, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[tuple[str, ForkedProcess]]:
    """The queue and the process of a worker whose bodies may have 400 MiB; it starts as in production, which takes seconds."""
    queue = f"test-{uuid4()}"
    worker = launch_worker(queue, tmp_path_factory.mktemp("limited"), {**SHARED_WORKER_SETTINGS, "MEMORY_BYTES": str(400 * MIB)})
    await wait_registered(database, worker)
    yield queue, worker
    assert worker.poll() is None
    worker.terminate()
    assert await asyncio.to_thread(worker.wait, 60) == 0


@pytest.fixture
def harness_with_limits(harness: WorkerHarness, limited_worker: tuple[str, ForkedProcess]) -> WorkerHarness:
    """A harness on the queue of that worker."""
    harness.queue, _ = limited_worker
    return harness


@pytest.mark.exhaustive
async def test_three_gigabytes_at_once_are_stopped_on_the_way(
    harness_with_limits: WorkerHarness, limited_worker: tuple[str, ForkedProcess]
) -> None:
    harness, (_, worker) = harness_with_limits, limited_worker
    with PeakMemory(worker.pid) as peak_memory:
        job = await harness.wait_for_status(await harness.submit("allocate_memory", mebibytes=3 * 1024), JobStatus.FAILED)
    message = "The job needed more memory than its limit of 400 MiB. Give it fewer rows or columns."
    assert (job.error["code"], job.error["message"], job.attempt) == ("OUT_OF_MEMORY", message, 1)
    assert peak_memory.peak < 2 * 1024 * MIB
    await harness.wait_for_status(await harness.submit("quick"), JobStatus.COMPLETED)
    assert worker.poll() is None


@pytest.mark.exhaustive
async def test_memory_that_a_daemon_of_the_body_takes_is_the_bodys(harness_with_limits: WorkerHarness) -> None:
    harness = harness_with_limits
    job_id = await harness.submit("allocate_in_daemon", mebibytes=600)
    job = await harness.wait_for_status(job_id, JobStatus.FAILED)
    assert job.error["code"] == "OUT_OF_MEMORY"
    assert not any(alive(pid) for pid, _ in await harness.wait_for_starts(job_id, 2))


@pytest.mark.exhaustive
async def test_memory_that_processes_share_counts_once(harness_with_limits: WorkerHarness) -> None:
    job_id = await harness_with_limits.submit("share_memory", mebibytes=200, stay=2.0)
    job = await harness_with_limits.wait_for_status(job_id, JobStatus.COMPLETED, JobStatus.FAILED)
    assert job.error is None


async def test_a_kill_by_the_kernel_for_want_of_memory_is_told_from_any_other(tmp_path: Path) -> None:
    kills_before = process_tree.oom_kills()
    assert kills_before is not None
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        cgroup = tmp_path / ("memory" if "memory" in controllers else "") / path.lstrip("/")
        if controllers in {"", "memory"}:
            cgroup.mkdir(parents=True, exist_ok=True)
            (cgroup / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 4\noom_kill 3\n")
            (cgroup / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
    assert process_tree.oom_kills(tmp_path) == 3


@pytest.mark.parametrize("stays", [60.0, exhaustive(0.0)])
async def test_nothing_that_a_body_bred_outlives_it(harness_with_worker: WorkerHarness, stays: float) -> None:
    job_id = await harness_with_worker.submit("fork_descendants", stay=stays)
    processes = [pid for pid, _ in await harness_with_worker.wait_for_starts(job_id, 3)]
    if stays:
        async with harness_with_worker.database.work(SYSTEM) as work:
            await jobs.cancel(work, job_id)
    await harness_with_worker.wait_for_status(job_id, JobStatus.CANCELLED if stays else JobStatus.COMPLETED)
    assert [pid for pid in processes if alive(pid)] == []


@pytest.mark.exhaustive
async def test_a_body_past_its_time_ends_with_all_that_it_bred(harness_with_worker: WorkerHarness) -> None:
    job_id = await harness_with_worker.submit("fork_descendants", timeout=2.0)
    processes = [pid for pid, _ in await harness_with_worker.wait_for_starts(job_id, 3)]
    job = await harness_with_worker.wait_for_status(job_id, JobStatus.FAILED)
    assert (job.error["code"], job.attempt) == ("TIMEOUT", 1)
    assert [pid for pid in processes if alive(pid)] == []


@pytest.mark.exhaustive
async def test_nothing_that_a_body_bred_outlives_its_worker(harness: WorkerHarness) -> None:
    worker = await harness.start_worker()
    job_id = await harness.submit("fork_descendants")
    processes = [pid for pid, _ in await harness.wait_for_starts(job_id, 3)]
    worker.kill()

    async def all_exited() -> bool:
        return not any(alive(pid) for pid in processes)

    await eventually(all_exited)


@pytest.mark.exhaustive
async def test_what_one_body_bred_lives_while_another_body_ends(harness_with_worker: WorkerHarness) -> None:
    first = await harness_with_worker.submit("fork_descendants", stay=3.0)
    processes = [pid for pid, _ in await harness_with_worker.wait_for_starts(first, 3)]
    second = await harness_with_worker.submit("fork_descendants", stay=0.0)
    await harness_with_worker.wait_for_status(second, JobStatus.COMPLETED)
    assert all(alive(pid) for pid in processes)
    await harness_with_worker.wait_for_status(first, JobStatus.COMPLETED)
    assert not any(alive(pid) for pid in processes)


@pytest.mark.exhaustive
async def test_a_thousand_reports_in_a_millisecond_leave_the_worker_as_it_was(harness: WorkerHarness) -> None:
    worker = await harness.start_worker()
    await harness.wait_for_status(await harness.submit("report_in_loop", seconds=0.5), JobStatus.COMPLETED)
    memory_before = psutil.Process(worker.pid).memory_info().rss
    job_id = await harness.submit("report_in_loop", seconds=2.5)
    job = await harness.wait_for_status(job_id, JobStatus.COMPLETED)
    assert psutil.Process(worker.pid).memory_info().rss - memory_before < 30 * MIB
    events = await harness.events(job_id)
    count = next(int(event.message.split()[1]) for event in events if event.message and event.message.startswith("reported"))
    timestamps = [event.created_at.timestamp() for event in events if event.type.name in {"PROGRESS", "LOG"}]
    assert count > 100 * len(timestamps)
    assert len(timestamps) > 5
    assert all(
        sum(at <= other < at + 1.0 for other in timestamps[:-2]) <= 6 for at in timestamps
    )  # the last ones are written at the end, outside the rate limit
    assert job.progress == 100


@pytest.mark.exhaustive
async def test_a_body_that_is_asked_to_end_has_its_time_for_it_however_short_the_lease(harness: WorkerHarness) -> None:
    await harness.start_worker(CANCEL_GRACE="30")
    job_id = await harness.submit("exit_after_sigterm", seconds=2 * LEASE)
    await harness.wait_for_starts(job_id)
    async with harness.database.work(SYSTEM) as work:
        await jobs.cancel(work, job_id)
    await harness.wait_for_status(job_id, JobStatus.CANCELLED)
    assert [event.message for event in await harness.events(job_id) if event.type is JobEventType.LOG] == ["farewell"]


async def test_a_job_of_a_kind_without_outputs_completes_whatever_its_owner_stores(harness_with_worker: WorkerHarness) -> None:
    """Else a job that only removes could not help an owner whose limit was lowered."""
    owner_id, job_id = harness_with_worker.owner_id, await harness_with_worker.submit("quick")
    await harness_with_worker.wait_for_status(job_id, JobStatus.COMPLETED)
    async with harness_with_worker.database.work(SYSTEM) as work:
        values = {
            "owner_id": owner_id,
            "object_key": "models/x",
            "sha256": "0" * 64,
            "size_bytes": 2 * state_settings().storage_quota_bytes,
        }
        object_id = await work.scalar(insert(StoredObject).values(values).returning(StoredObject.id))
        file = {
            "role": "LOG",
            "filename": "x",
            "content_type": "text/plain",
            "job_id": job_id,
        }  # maintenance removes what nothing refers to
        await work.run(insert(Artifact).values(owner_id=owner_id, object_id=object_id, **file))
    await harness_with_worker.wait_for_status(await harness_with_worker.submit("quick"), JobStatus.COMPLETED)
