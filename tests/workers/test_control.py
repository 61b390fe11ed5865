"""A worker's own loops: what it hears, how often it looks, when it beats, and how it says goodbye."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import text

from db.core.viewer import SYSTEM
from db.settings import StateSettings
from db.stores.events import BELLS, connect
from db.tables.jobstates import JobStatus
from tests.workers.stage import Stage
from tests.workers.working import Working, nothing
from workers.runtime.attempt import Attempt, Effects


async def quick(_attempt: Attempt) -> Effects:
    return nothing


async def test_whatever_is_published_to_workers_they_go_on_hearing(stage: Stage, working: Working, settings: StateSettings) -> None:
    """Looks are rare here, so that only what is heard can be in time."""
    async with working(quick, look=30.0):
        await stage.reach(await stage.submit("none"), JobStatus.COMPLETED, within=5.0)
        redis = connect(settings.redis_url)
        async with redis:
            for strange in (b"\xff\xfe", b"cancelled:\xff:\xff", b"", b"rung:"):
                await redis.execute_command("PUBLISH", BELLS, strange)  # pyright: ignore[reportUnknownMemberType] - redis leaves it untyped
        await stage.reach(await stage.submit("none"), JobStatus.COMPLETED, within=5.0)


async def test_nudges_in_a_crowd_make_a_worker_sort_a_long_line_a_few_times_a_second(
    stage: Stage, working: Working, settings: StateSettings, statements: Callable[[], AbstractContextManager[list[str]]]
) -> None:
    """Of 30,000 jobs eight run, which is all that their owner may; the other slots stay free, and each nudge is a reason to look."""

    async def task(_attempt: Attempt) -> Effects:
        await asyncio.sleep(60)
        return nothing

    many = "INSERT INTO jobs (owner_id, kind, status, queue) SELECT :owner, 'export', 'pending', :queue FROM generate_series(1, 30000)"
    async with stage.database.work(SYSTEM) as work:
        await work.run(text(many), {"owner": stage.owner_id, "queue": stage.queue})
    async with stage.database.session() as connection:
        await connection.exec_driver_sql("ANALYZE jobs")
    redis: Any = connect(settings.redis_url)
    async with redis, working(task, slots=20):
        first = await stage.submit("none")
        await stage.reach(first, JobStatus.PENDING)
        with statements() as sent:
            until = time.monotonic() + 2.0
            while time.monotonic() < until:
                await redis.publish(BELLS, "ended")
                await asyncio.sleep(0.005)
    looks = [statement for statement in sent if "FOR UPDATE OF jobs SKIP LOCKED" in statement]
    assert 2 <= len(looks) <= 20


async def test_a_claim_that_took_long_has_its_lease_renewed_at_once(stage: Stage, working: Working) -> None:
    """Pulses are rare here: without one of its own the job would have what the claim has left of its lease."""
    done = asyncio.Event()

    async def task(_attempt: Attempt) -> Effects:
        await done.wait()
        return nothing

    slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(2.5); RETURN NEW; END $$"
    async with stage.database.work(SYSTEM) as work:
        await work.run(text(slow))
        await work.run(text("CREATE TRIGGER slow BEFORE INSERT ON job_attempts FOR EACH ROW EXECUTE FUNCTION slow()"))
    try:
        async with working(task, pulse=30.0, lease=4.0):
            job_id = await stage.submit("none")
            job = await stage.reach(job_id, JobStatus.RUNNING)
            await asyncio.sleep(0.5)
            left = (await stage.job(job_id)).lease_until - job.started_at
            done.set()
            await stage.reach(job_id, JobStatus.COMPLETED)
    finally:
        async with stage.database.work(SYSTEM) as work:
            await work.run(text("DROP FUNCTION slow CASCADE"))
    assert left.total_seconds() > 6.0


async def test_a_job_that_is_not_done_is_given_back_within_the_grace_time(stage: Stage) -> None:
    worker = await stage.start(GRACE="3", LEASE="10", PULSE="1")
    job_id = await stage.submit("long")
    await stage.begun(job_id)
    worker.terminate()
    told = time.monotonic()
    await stage.reach(job_id, JobStatus.PENDING, within=3.0)
    assert time.monotonic() - told > 1.5  # a shorter body would have had its time
    assert await asyncio.to_thread(worker.wait, 10) == 0
    assert await stage.outcomes(job_id) == ["given_back"]
