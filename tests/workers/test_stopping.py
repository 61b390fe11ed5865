"""A worker, a task or a settle that is broken off at an awkward moment: what stops then, what stays, and what is told."""

from __future__ import annotations

import asyncio
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
from tests.workers.stage import LEASE, Stage
from tests.workers.working import Working, nothing
from workers.runtime import ending
from workers.runtime.attempt import Attempt, Effects
from workers.runtime.bodies import Bodies, BodyFailed, LeaseRanOut
from workers.runtime.checkpoints import Checkpoints
from workers.runtime.child import Nursery
from workers.runtime.reports import Reports
from workers.settings import WorkerSettings


async def test_a_stop_that_comes_when_a_body_has_just_ended_stops_the_bodies_after_it(stage: Stage, tmp_path: Path) -> None:
    claim = Claim(uuid4(), 1, uuid4())
    reports = Reports(stage.database, claim, events_per_second=5, log_events=0)
    trace = tmp_path / "trace"
    async with Nursery(preload=False) as nursery, ObjectStore.open(StateSettings()) as objects:
        checkpoints = Checkpoints(stage.database, objects, claim, reports)
        bodies = Bodies(nursery, WorkerSettings(), reports, checkpoints, time.monotonic() + 60)

        async def two() -> None:
            for _ in range(2):
                await bodies.run("tests.workers.bodies:quick", {"trace": str(trace)}, tmp_path, span=(0, 100))

        task = asyncio.create_task(two())
        for state in (True, False):
            while bodies.is_running is not state:
                await asyncio.sleep(0)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert len(trace.read_text().splitlines()) == 1


async def test_no_body_is_ordered_once_the_lease_has_run_out(stage: Stage, tmp_path: Path) -> None:
    claim = Claim(uuid4(), 1, uuid4())
    reports = Reports(stage.database, claim, events_per_second=5, log_events=0)
    trace = tmp_path / "trace"
    ordered: list[bool] = []
    async with Nursery(preload=False) as nursery, ObjectStore.open(StateSettings()) as objects:
        checkpoints = Checkpoints(stage.database, objects, claim, reports)
        bodies = Bodies(nursery, WorkerSettings(), reports, checkpoints, time.monotonic() - 0.001)
        bodies.ordered = lambda: ordered.append(True)
        with pytest.raises(LeaseRanOut):
            await bodies.run("tests.workers.bodies:quick", {"trace": str(trace)}, tmp_path, span=(0, 100))
    assert (ordered, trace.exists()) == ([], False)


async def test_what_cannot_be_written_fails_the_job_and_is_no_vanished_worker(stage: Stage, working: Working) -> None:
    async def task(_attempt: Attempt) -> Effects:
        async def effects(work: Work, _job: Row[Any]) -> Sequence[str]:
            await work.run(text("SELECT 1 / 0"))
            return []

        return effects

    async with working(task):
        job = await stage.reach(await stage.submit("none", max_tries=1), JobStatus.FAILED)
    assert (job.error["code"], job.attempt, job.losses) == ("WORKER_ERROR", 1, 0)
    assert "division by zero" in job.error["message"]


async def test_objects_stay_where_nobody_knows_whether_the_settle_was_committed(
    stage: Stage, working: Working, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "PERSIST", 0.2)
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

    async with working(task) as objects:
        job = await stage.reach(await stage.submit("none"), JobStatus.COMPLETED)
        assert (job.attempt, job.losses, job.tries) == (2, 1, 0)
        assert [await objects.head(key) is not None for key in keys] == [True, True]


async def test_a_pulse_that_postgres_breaks_off_each_time_lets_the_leases_end(stage: Stage, working: Working) -> None:
    """The whole table is locked, so no row of it can be passed over."""
    began, ended = asyncio.Event(), asyncio.Event()

    async def task(_attempt: Attempt) -> Effects:
        began.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.set()
            raise
        return nothing

    async with working(task, statement_timeout=0.3, lease=LEASE):
        job_id = await stage.submit("none")
        await asyncio.wait_for(began.wait(), 10)
        async with stage.database.work(SYSTEM) as work:
            await work.run(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            await work.run(text("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE"))
            await asyncio.wait_for(ended.wait(), 5 * LEASE)
        async with stage.database.work(SYSTEM) as work:
            assert await jobs.cancel(work, job_id) in {JobStatus.CANCELLED, JobStatus.CANCELLING}
        await stage.reach(job_id, JobStatus.CANCELLED)


@pytest.mark.parametrize(("is_cancelled", "stays"), [(True, True), (False, False)])
async def test_a_file_that_a_retry_may_still_read_goes_only_when_the_job_fails(
    stage: Stage, working: Working, settings: StateSettings, is_cancelled: bool, stays: bool
) -> None:
    key = f"uploads/{stage.owner_id}/{uuid4()}"

    async def task(attempt: Attempt) -> Effects:
        await attempt.objects.write(key, b"not what was announced", "text/plain")
        attempt.forsake(key)
        if is_cancelled:
            async with stage.database.work(SYSTEM) as work:
                await jobs.cancel(work, attempt.job.id)
        raise BodyFailed(Failure("UPLOAD_MISMATCH", "It is not what was announced.", retryable=False))

    async with working(task):
        job_id = await stage.submit("none")
        await stage.reach(job_id, JobStatus.CANCELLED if is_cancelled else JobStatus.FAILED)
    async with ObjectStore.open(settings) as objects:
        assert (await objects.head(key) is not None) is stays
