"""A worker's loops: notices, polls, heartbeats and shutdown."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import text

from db.core.viewer import SYSTEM
from db.settings import StateSettings
from db.stores.redis import connect
from db.streams.notices import DISPATCH_CHANNEL
from db.tables.jobstates import JobStatus
from tests.workers.in_process_worker import RunningWorker, no_effects
from tests.workers.worker_harness import WorkerHarness
from workers.runtime import engine
from workers.runtime.attempt import Attempt, Effects
from workers.runtime.engine import MAX_POLL_PAUSE, Engine

CHEAP_POLL = 0.005  # seconds; sorting a long queue takes longer on any machine
CLOCK_RESOLUTION = 0.005  # seconds; the loop wakes who sleeps up to so much early


async def quick(_attempt: Attempt) -> Effects:
    return no_effects


async def test_whatever_is_published_to_workers_they_go_on_hearing(
    harness: WorkerHarness, running_worker: RunningWorker, settings: StateSettings
) -> None:
    """Polls are rare here, so that only a notice can be in time."""
    async with running_worker(quick, poll_interval=30.0):
        await harness.wait_for_status(await harness.submit("none"), JobStatus.COMPLETED)
        redis = connect(settings.redis_url)
        async with redis:
            for payload in (b"\xff\xfe", b"cancelled:\xff:\xff", b"", b"rung:"):
                await redis.execute_command("PUBLISH", DISPATCH_CHANNEL, payload)  # pyright: ignore[reportUnknownMemberType] - redis leaves it untyped
        await harness.wait_for_status(await harness.submit("none"), JobStatus.COMPLETED)


@pytest.mark.exhaustive
async def test_notices_in_a_crowd_make_a_worker_sort_a_long_queue_a_few_times_a_second(
    harness: WorkerHarness,
    running_worker: RunningWorker,
    settings: StateSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 30,000 jobs eight run, the limit of their owner; the other slots stay free, so each notice is a reason to poll.

    How many polls that makes depends on the machine: after each the worker pauses four times as long as it took beyond `CHEAP_POLL`.
    """
    polls: list[tuple[float, float]] = []
    poll = Engine._poll

    async def timed_poll(self: Engine, *, notified: bool) -> None:
        started_at = time.monotonic()
        await poll(self, notified=notified)
        polls.append((started_at, time.monotonic()))

    monkeypatch.setattr(Engine, "_poll", timed_poll)
    monkeypatch.setattr(engine, "CHEAP_POLL", CHEAP_POLL)

    async def task(_attempt: Attempt) -> Effects:
        await asyncio.sleep(60)
        return no_effects

    insert_jobs = (
        "INSERT INTO jobs (owner_id, kind, status, queue) SELECT :owner, 'export', 'pending', :queue FROM generate_series(1, 30000)"
    )
    async with harness.database.work(SYSTEM) as work:
        await work.run(text(insert_jobs), {"owner": harness.owner_id, "queue": harness.queue})
    async with harness.database.session() as connection:
        await connection.exec_driver_sql("ANALYZE jobs")
    redis: Any = connect(settings.redis_url)
    async with redis, running_worker(task, slots=20):
        first_id = await harness.submit("none")
        await harness.wait_for_status(first_id, JobStatus.PENDING)
        polls.clear()
        deadline = time.monotonic() + 2.0
        while time.monotonic() < deadline:
            await redis.publish(DISPATCH_CHANNEL, "ended")
            await asyncio.sleep(0.005)
    assert len(polls) >= 2
    for (started_at, ended_at), (next_started_at, _) in pairwise(polls):
        pause = min(4 * (ended_at - started_at - CHEAP_POLL), MAX_POLL_PAUSE)
        assert next_started_at - ended_at >= pause - CLOCK_RESOLUTION


@pytest.mark.exhaustive
async def test_a_claim_that_took_long_has_its_lease_renewed_at_once(harness: WorkerHarness, running_worker: RunningWorker) -> None:
    """Heartbeats are rare here: without an early one the job would only have the rest of its lease."""
    done = asyncio.Event()

    async def task(_attempt: Attempt) -> Effects:
        await done.wait()
        return no_effects

    create_function = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(2.5); RETURN NEW; END $$"
    async with harness.database.work(SYSTEM) as work:
        await work.run(text(create_function))
        await work.run(text("CREATE TRIGGER slow BEFORE INSERT ON job_attempts FOR EACH ROW EXECUTE FUNCTION slow()"))
    try:
        async with running_worker(task, heartbeat_interval=30.0, lease=4.0):
            job_id = await harness.submit("none")
            job = await harness.wait_for_status(job_id, JobStatus.RUNNING)
            await asyncio.sleep(0.5)
            lease_remaining = (await harness.job(job_id)).lease_until - job.started_at
            done.set()
            await harness.wait_for_status(job_id, JobStatus.COMPLETED)
    finally:
        async with harness.database.work(SYSTEM) as work:
            await work.run(text("DROP FUNCTION slow CASCADE"))
    assert lease_remaining.total_seconds() > 6.0


@pytest.mark.exhaustive
async def test_a_job_that_is_not_done_is_given_back_within_the_grace_time(harness: WorkerHarness) -> None:
    worker = await harness.start_worker(GRACE="3", LEASE="10", HEARTBEAT_INTERVAL="1")
    job_id = await harness.submit("long")
    await harness.wait_for_starts(job_id)
    worker.terminate()
    terminated_at = time.monotonic()
    await harness.wait_for_status(job_id, JobStatus.PENDING)
    assert time.monotonic() - terminated_at > 1.5  # a shorter body would have finished in the grace period
    assert await asyncio.to_thread(worker.wait, 60) == 0
    assert await harness.outcomes(job_id) == ["given_back"]
