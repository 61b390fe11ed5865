"""A worker, task or settle that is interrupted at an awkward moment: what stops, what stays, and what is reported."""

from __future__ import annotations

import asyncio
import errno
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Row, func, select, text

from db.core.viewer import SYSTEM
from db.core.work import Work
from db.services import jobs
from db.services.jobs import Claim, Failure
from db.settings import StateSettings
from db.stores.objects import ObjectStore
from db.tables.jobstates import JobStatus
from tests.workers.in_process_worker import RunningWorker, no_effects
from tests.workers.worker_harness import LEASE, WorkerHarness
from workers.runtime import settlement
from workers.runtime.attempt import Attempt, Effects
from workers.runtime.body_runner import BodyFailed, BodyRunner, LeaseExpired
from workers.runtime.checkpoints import Checkpoints
from workers.runtime.process_pool import ChildHandle, ProcessPool
from workers.runtime.reports import Reports
from workers.settings import WorkerSettings


async def test_a_stop_that_comes_when_a_body_has_just_ended_stops_the_bodies_after_it(harness: WorkerHarness, tmp_path: Path) -> None:
    claim = Claim(uuid4(), 1, uuid4())
    reports = Reports(harness.database, claim, events_per_second=5, log_events=0)
    trace = tmp_path / "trace"
    async with ProcessPool(preload=False) as process_pool, ObjectStore.open(StateSettings()) as objects:
        checkpoints = Checkpoints(harness.database, objects, claim, reports)
        body_runner = BodyRunner(process_pool, WorkerSettings(), reports, checkpoints, time.monotonic() + 60)

        async def run_twice() -> None:
            for _ in range(2):
                await body_runner.run("tests.workers.bodies:quick", {"trace": str(trace)}, tmp_path, span=(0, 100))

        task = asyncio.create_task(run_twice())
        for state in (True, False):
            while body_runner.is_running is not state:
                await asyncio.sleep(0)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert len(trace.read_text().splitlines()) == 1


async def test_no_body_is_ordered_once_the_lease_has_run_out(harness: WorkerHarness, tmp_path: Path) -> None:
    claim = Claim(uuid4(), 1, uuid4())
    reports = Reports(harness.database, claim, events_per_second=5, log_events=0)
    trace = tmp_path / "trace"
    started: list[bool] = []
    async with ProcessPool(preload=False) as process_pool, ObjectStore.open(StateSettings()) as objects:
        checkpoints = Checkpoints(harness.database, objects, claim, reports)
        body_runner = BodyRunner(process_pool, WorkerSettings(), reports, checkpoints, time.monotonic() - 0.001)
        body_runner.on_started = lambda: started.append(True)
        with pytest.raises(LeaseExpired):
            await body_runner.run("tests.workers.bodies:quick", {"trace": str(trace)}, tmp_path, span=(0, 100))
    assert (started, trace.exists()) == ([], False)


@pytest.mark.parametrize("what", ["home", "link"])
async def test_a_process_whose_folder_cannot_be_made_ends(
    harness: WorkerHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    reports = Reports(harness.database, Claim(uuid4(), 1, uuid4()), events_per_second=5, log_events=0)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "data").touch()

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with ProcessPool(preload=False, max_kept=1) as process_pool, ObjectStore.open(StateSettings()) as objects:
        checkpoints = Checkpoints(harness.database, objects, Claim(uuid4(), 1, uuid4()), reports)
        body_runner = BodyRunner(process_pool, WorkerSettings(body_paths=[tmp_path]), reports, checkpoints, time.monotonic() + 60)

        async def run() -> int:
            trace = tmp_path / "trace"
            await body_runner.run("tests.workers.bodies:quick", {"trace": str(trace)}, folder, span=(0, 100), shared_by="ada")
            return int(trace.read_text().split()[-2])

        acquired = await process_pool.acquire()
        acquired_pid = acquired.pid

        async def acquire() -> ChildHandle:
            return acquired

        with monkeypatch.context() as patches:
            patches.setattr(process_pool, "acquire", acquire)
            patches.setattr(*((tempfile, "mkdtemp") if what == "home" else (Path, "symlink_to")), fail)
            with pytest.raises(OSError, match="No space left"):
                await run()
        assert not body_runner.is_running
        await acquired.exited
        assert [path.name for path in folder.iterdir()] == ["data"]
        assert await run() == await run() != acquired_pid
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "trace"]


async def test_what_cannot_be_written_fails_the_job_and_is_no_vanished_worker(
    harness: WorkerHarness, running_worker: RunningWorker
) -> None:
    async def task(_attempt: Attempt) -> Effects:
        async def effects(work: Work, _job: Row[Any]) -> Sequence[str]:
            await work.run(text("SELECT 1 / 0"))
            return []

        return effects

    async with running_worker(task):
        job = await harness.wait_for_status(await harness.submit("none", max_tries=1), JobStatus.FAILED)
    assert (job.error["code"], job.attempt, job.losses) == ("WORKER_ERROR", 1, 0)
    assert "division by zero" in job.error["message"]


@pytest.mark.exhaustive
async def test_objects_stay_where_nobody_knows_whether_the_settle_was_committed(
    harness: WorkerHarness, running_worker: RunningWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlement, "RETRY_TIMEOUT", 0.2)
    keys: list[str] = []

    async def task(attempt: Attempt) -> Effects:
        path = attempt.folder / "file"
        path.write_bytes(b"made")
        keys.append((await attempt.upload(path, f"jobs/{attempt.key}", "ANY", "file", "text/plain")).key)

        async def effects(work: Work, job: Row[Any]) -> Sequence[str]:
            if job.attempt == 1:
                await work.scalar(select(func.pg_terminate_backend(func.pg_backend_pid())))
            return []

        return effects

    async with running_worker(task, lease=5.0) as objects:  # the second attempt begins when it has run out
        job = await harness.wait_for_status(await harness.submit("none"), JobStatus.COMPLETED)
        assert (job.attempt, job.losses, job.tries) == (2, 1, 0)
        assert [await objects.head(key) is not None for key in keys] == [True, True]


@pytest.mark.exhaustive
async def test_a_heartbeat_that_postgres_breaks_off_each_time_lets_the_leases_end(
    harness: WorkerHarness, running_worker: RunningWorker
) -> None:
    """The whole table is locked, so that SKIP LOCKED does not help."""
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def task(_attempt: Attempt) -> Effects:
        started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return no_effects

    async with running_worker(task, statement_timeout=0.3, lease=LEASE):
        job_id = await harness.submit("none")
        await asyncio.wait_for(started.wait(), 10)
        async with harness.database.work(SYSTEM) as work:
            await work.run(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            await work.run(text("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE"))
            await asyncio.wait_for(cancelled.wait(), 5 * LEASE)
        async with harness.database.work(SYSTEM) as work:
            assert await jobs.cancel(work, job_id) in {JobStatus.CANCELLED, JobStatus.CANCELLING}
        await harness.wait_for_status(job_id, JobStatus.CANCELLED)


@pytest.mark.parametrize(("is_cancelled", "stays"), [(True, True), (False, False)])
async def test_a_file_that_a_retry_may_still_read_goes_only_when_the_job_fails(
    harness: WorkerHarness, running_worker: RunningWorker, settings: StateSettings, is_cancelled: bool, stays: bool
) -> None:
    key = f"uploads/{harness.owner_id}/{uuid4()}"

    async def task(attempt: Attempt) -> Effects:
        await attempt.objects.write(key, b"not what was announced", "text/plain")
        attempt.delete_on_failure(key)
        if is_cancelled:
            async with harness.database.work(SYSTEM) as work:
                await jobs.cancel(work, attempt.job.id)
        raise BodyFailed(Failure("UPLOAD_MISMATCH", "It is not what was announced.", retryable=False))

    async with running_worker(task):
        job_id = await harness.submit("none")
        await harness.wait_for_status(job_id, JobStatus.CANCELLED if is_cancelled else JobStatus.FAILED)
    async with ObjectStore.open(settings) as objects:
        assert (await objects.head(key) is not None) is stays
