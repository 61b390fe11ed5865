"""Jobs survive killed, frozen and misbehaving workers and bodies; with real processes."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from sqlalchemy import func, select

from db.core.viewer import SYSTEM
from db.services import jobs
from db.settings import StateSettings
from db.stores.redis import connect
from db.tables import Job
from db.tables.jobs import JobEventType
from db.tables.jobstates import JobStatus
from tests.exhaustive import exhaustive
from tests.workers.worker_harness import LEASE, WorkerHarness, alive, eventually


async def test_a_job_is_done_once_and_its_events_are_numbered_without_a_gap(harness_with_worker: WorkerHarness) -> None:
    job_id = await harness_with_worker.submit("quick")
    await harness_with_worker.wait_for_status(job_id, JobStatus.COMPLETED)
    assert await harness_with_worker.effects(job_id) == ["1"]
    events = await harness_with_worker.events(job_id)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    kinds = [event.type for event in events]
    if kinds[1] is JobEventType.QUEUED:  # else the worker took the job before it was sent to the queue
        del kinds[1]
    assert (kinds[:2], kinds[-1]) == ([JobEventType.CREATED, JobEventType.STARTED], JobEventType.COMPLETED)
    assert JobEventType.QUEUED not in kinds


@pytest.mark.exhaustive
async def test_a_killed_worker_loses_its_job_to_another(harness: WorkerHarness) -> None:
    await asyncio.gather(harness.start_worker(), harness.start_worker())
    job_id = await harness.submit("long")
    ((body, _),) = await harness.wait_for_starts(job_id)
    (await harness.worker_of(job_id)).kill()
    await harness.wait_for_starts(job_id, 2)
    assert not alive(body)
    job = await harness.wait_for_status(job_id, JobStatus.COMPLETED)
    assert (job.attempt, job.tries, job.losses) == (2, 0, 1)
    assert await harness.outcomes(job_id) == ["lost", "completed"]
    assert await harness.effects(job_id) == ["2"]


@pytest.mark.exhaustive
async def test_a_killed_body_uses_a_try_and_starts_again(harness_with_worker: WorkerHarness) -> None:
    job_id = await harness_with_worker.submit("long")
    ((body, _),) = await harness_with_worker.wait_for_starts(job_id)
    os.kill(body, signal.SIGKILL)
    job = await harness_with_worker.wait_for_status(job_id, JobStatus.COMPLETED)
    assert (job.attempt, job.tries, job.losses) == (2, 1, 0)
    assert await harness_with_worker.outcomes(job_id) == ["retrying", "completed"]


@pytest.mark.exhaustive
async def test_a_frozen_worker_has_no_body_alive_when_another_begins(harness: WorkerHarness) -> None:
    await asyncio.gather(harness.start_worker(), harness.start_worker())
    job_id = await harness.submit("long")
    ((body, _),) = await harness.wait_for_starts(job_id)
    worker = await harness.worker_of(job_id)
    worker.send_signal(signal.SIGSTOP)
    await harness.wait_for_starts(job_id, 2)
    assert not alive(body)
    await harness.wait_for_status(job_id, JobStatus.COMPLETED)
    worker.send_signal(signal.SIGCONT)
    await asyncio.sleep(0.5)
    assert await harness.effects(job_id) == ["2"]
    assert worker.poll() is None


@pytest.mark.exhaustive
async def test_the_body_of_a_frozen_worker_is_dead_before_its_lease_ends(harness: WorkerHarness) -> None:
    worker = await harness.start_worker(LEASE="6")
    job_id = await harness.submit("long")
    ((body, _),) = await harness.wait_for_starts(job_id)
    worker.send_signal(signal.SIGSTOP)

    async def is_dead() -> bool:
        return not alive(body)

    await eventually(is_dead)
    remaining_lease = select(func.extract("epoch", Job.lease_until - func.clock_timestamp()).label("seconds")).where(Job.id == job_id)
    (row,) = await harness.database.rows(remaining_lease)
    assert row.seconds > 0.1, "a body may take a moment to die, and another worker begins when the lease has ended"


async def test_sigterm_gives_the_job_back_without_using_a_try(harness: WorkerHarness) -> None:
    await asyncio.gather(harness.start_worker(), harness.start_worker())
    job_id = await harness.submit("long")
    ((body, _),) = await harness.wait_for_starts(job_id)
    worker = await harness.worker_of(job_id)
    worker.terminate()
    assert await asyncio.to_thread(worker.wait, 60) == 0
    assert not alive(body)
    job = await harness.wait_for_status(job_id, JobStatus.COMPLETED)
    assert (job.attempt, job.tries, job.losses) == (2, 0, 0)
    assert await harness.outcomes(job_id) == ["given_back", "completed"]


async def test_sigterm_lets_a_short_body_finish(harness: WorkerHarness) -> None:
    worker = await harness.start_worker(GRACE="5")
    job_id = await harness.submit("hold_gil", seconds=0.5)
    await harness.wait_for_starts(job_id)
    worker.terminate()
    assert await asyncio.to_thread(worker.wait, 60) == 0
    assert (await harness.job(job_id)).status is JobStatus.COMPLETED


@pytest.mark.parametrize("body", ["long", "ignore_sigterm"])
async def test_cancelling_kills_the_body_whether_it_obeys_or_not(harness_with_worker: WorkerHarness, body: str) -> None:
    job_id = await harness_with_worker.submit(body)
    ((process, _),) = await harness_with_worker.wait_for_starts(job_id)
    async with harness_with_worker.database.work(SYSTEM) as work:
        assert await jobs.cancel(work, job_id) is JobStatus.CANCELLING
    await harness_with_worker.wait_for_status(job_id, JobStatus.CANCELLED, within=2.0)
    assert not alive(process)
    assert await harness_with_worker.outcomes(job_id) == ["cancelled"]
    assert await harness_with_worker.effects(job_id) == []


@pytest.mark.exhaustive
async def test_a_body_that_holds_the_interpreter_past_the_lease_lives(harness_with_worker: WorkerHarness) -> None:
    job_id = await harness_with_worker.submit("hold_gil", seconds=2 * LEASE)
    job = await harness_with_worker.wait_for_status(job_id, JobStatus.COMPLETED)
    assert (job.attempt, job.tries, job.losses) == (1, 0, 0)


@pytest.mark.exhaustive
async def test_a_body_over_its_memory_ends_out_of_memory_and_the_worker_lives(harness: WorkerHarness) -> None:
    worker = await harness.start_worker(MEMORY_BYTES=str(300 * 1024**2))
    job = await harness.wait_for_status(await harness.submit("leak_memory"), JobStatus.FAILED)
    assert (job.error["code"], job.error["retryable"], job.attempt) == ("OUT_OF_MEMORY", False, 1)
    await harness.wait_for_status(await harness.submit("quick"), JobStatus.COMPLETED)
    assert worker.poll() is None


async def test_a_body_past_its_time_ends_with_timeout(harness_with_worker: WorkerHarness) -> None:
    job_id = await harness_with_worker.submit("long", timeout=2.0)
    job = await harness_with_worker.wait_for_status(job_id, JobStatus.FAILED)
    assert (job.error["code"], job.attempt) == ("TIMEOUT", 1)
    assert not alive((await harness_with_worker.wait_for_starts(job_id))[0][0])


async def test_what_a_body_forked_dies_with_it(harness_with_worker: WorkerHarness) -> None:
    job_id = await harness_with_worker.submit("fork_and_crash", max_tries=1)
    job = await harness_with_worker.wait_for_status(job_id, JobStatus.FAILED)
    assert (job.error["code"], job.error["message"]) == ("BODY_KILLED", "The job's process was killed by SIGSEGV.")
    ((forked_pid, _),) = await harness_with_worker.wait_for_starts(job_id)

    async def is_dead() -> bool:
        return not alive(forked_pid)

    await eventually(is_dead, within=2.0)


async def test_bad_input_is_never_tried_again(harness_with_worker: WorkerHarness) -> None:
    job = await harness_with_worker.wait_for_status(await harness_with_worker.submit("raise_bad_input"), JobStatus.FAILED)
    expected = {"code": "TOO_ODD", "message": "The input is too odd. Send an even one.", "retryable": False, "traceback": None}
    assert job.error == {**expected, "row": 7, "column": "a\ufffdb"}
    assert (job.attempt, job.tries) == (1, 1)


async def test_an_unforeseen_failure_is_final_and_says_where_it_happened(harness_with_worker: WorkerHarness) -> None:
    job_id = await harness_with_worker.submit("raise_value_error")
    job = await harness_with_worker.wait_for_status(job_id, JobStatus.FAILED)
    assert (job.error["code"], job.error["message"]) == ("BODY_FAILED", "ValueError: This was not foreseen.")
    assert 'raise ValueError("This was not foreseen.")' in job.error["traceback"]
    assert (job.attempt, job.tries, job.error["retryable"]) == (1, 1, False)
    assert await harness_with_worker.outcomes(job_id) == ["failed"]


@pytest.mark.exhaustive
async def test_however_fast_a_body_reports_its_job_writes_five_events_a_second(harness_with_worker: WorkerHarness) -> None:
    job_id = await harness_with_worker.submit("report_and_print_much")
    await harness_with_worker.wait_for_status(job_id, JobStatus.COMPLETED)
    reported_types = {JobEventType.PROGRESS, JobEventType.METRIC, JobEventType.LOG}
    events = [event for event in await harness_with_worker.events(job_id) if event.type in reported_types]
    seconds = (events[-1].created_at - events[0].created_at).total_seconds()
    assert len(events) <= 5 * (seconds + 1) + 3  # the last of each kind is written at the end, outside the rate limit
    assert any("lines were left out" in (event.message or "") for event in events)


@pytest.mark.parametrize("redis", ["", exhaustive("redis://127.0.0.1:1/0")])
async def test_a_job_that_stores_its_outputs_leaves_its_slot_to_another(harness: WorkerHarness, redis: str) -> None:
    await harness.start_worker(SLOTS="1", **({"TRELLIS_REDIS_URL": redis} if redis else {}))
    stored = [harness.folder / f"{number} is stored" for number in range(2)]
    first, second = [await harness.submit("quick", store_until=str(path)) for path in stored]
    await asyncio.gather(harness.wait_for_starts(first), harness.wait_for_starts(second))
    third = await harness.submit("quick")
    assert (await harness.job(first)).status is JobStatus.RUNNING
    await asyncio.sleep(1.0)  # several polls
    assert (await harness.job(third)).status is not JobStatus.RUNNING, "as many jobs store as there are slots, and another holds the slot"
    stored[0].touch()
    await harness.wait_for_status(third, JobStatus.COMPLETED)
    assert (await harness.job(second)).status is JobStatus.RUNNING
    stored[1].touch()
    for job_id in (first, second):
        await harness.wait_for_status(job_id, JobStatus.COMPLETED)
        assert await harness.effects(job_id) == ["1"]


@pytest.mark.exhaustive
async def test_jobs_are_done_without_redis(harness: WorkerHarness) -> None:
    await harness.start_worker(TRELLIS_REDIS_URL="redis://127.0.0.1:1/0")
    submitted = [await harness.submit("quick") for _ in range(5)]
    for job_id in submitted:
        await harness.wait_for_status(job_id, JobStatus.COMPLETED)
        assert await harness.effects(job_id) == ["1"]


@pytest.mark.exhaustive
async def test_jobs_are_done_when_redis_forgets_everything(harness: WorkerHarness, settings: StateSettings) -> None:
    submitted = [await harness.submit("quick") for _ in range(8)]
    await harness.start_worker(DISPATCH_RETRY_INTERVAL="0.5")
    redis = connect(settings.redis_url)
    for _ in range(10):
        await redis.execute_command("FLUSHDB")  # pyright: ignore[reportUnknownMemberType] - redis leaves it untyped
        await asyncio.sleep(0.05)
    await redis.aclose()
    for job_id in submitted:
        await harness.wait_for_status(job_id, JobStatus.COMPLETED)
        assert await harness.effects(job_id) == ["1"]
