"""What counts as a try, what counts as a loss, what as neither; and what a job shows of it while it waits, runs and has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Row, select, text, update

from db.core.viewer import SYSTEM
from db.core.work import Notice
from db.services import jobs
from db.services.jobs import Backoff, Claim, Failure
from db.tables import Job, JobAttempt, JobEvent
from db.tables.jobs import JobEventType
from db.tables.jobstates import JobStatus
from tests.jobs.job_driver import LEASE, QUEUE, JobDriver

UNAVAILABLE = Failure("UNAVAILABLE", "The store does not answer.", retryable=True, service_unavailable=True)
RETRYABLE = Failure("BROKEN", "It broke.", retryable=True)


async def claim_again(job_driver: JobDriver, job_id: UUID) -> Claim:
    """Claim the job again without waiting for its backoff."""
    async with job_driver.database.work(SYSTEM) as work:
        await work.run(update(Job).where(Job.id == job_id).values(run_after=None))
    claim = await job_driver.claim(job_id)
    assert claim is not None
    return claim


async def postpone(job_driver: JobDriver, claim: Claim) -> Row[Any]:
    count = (await job_driver.job(claim.job_id)).postponements + 1
    async with job_driver.database.work(SYSTEM) as work:
        job = await jobs.postpone(work, claim, UNAVAILABLE, count, Backoff())
    assert job is not None
    return job


def backoff_seconds(job: Row[Any]) -> float:
    return (job.run_after - job.updated_at).total_seconds()


@pytest.mark.exhaustive
async def test_a_service_that_is_away_costs_neither_try_nor_loss_however_long_it_takes(job_driver: JobDriver) -> None:
    claim = await job_driver.submit_and_claim()
    pauses: list[float] = []
    for _ in range(40):
        job = await postpone(job_driver, claim)
        assert (job.status, job.tries, job.losses) == (JobStatus.PENDING, 0, 0)
        pauses.append(backoff_seconds(job))
        claim = await claim_again(job_driver, claim.job_id)
    assert 1.5 <= pauses[0] <= 2.5
    assert max(pauses) <= 30.1
    assert min(pauses[4:]) > 20
    assert await job_driver.complete(claim) is not None
    events = await job_driver.database.rows(
        select(JobEvent.message, JobEvent.data)
        .where(JobEvent.job_id == claim.job_id, JobEvent.type == JobEventType.RETRYING)
        .order_by(JobEvent.sequence)
    )
    assert len(events) == 40
    assert events[0].message == "The store does not answer. No try was used; the job starts again in 2 s."
    assert events[0].data == {"error": {"code": "UNAVAILABLE", "message": "The store does not answer."}, "reason": "postponed"}


async def test_after_anything_else_the_pauses_begin_anew(job_driver: JobDriver) -> None:
    claim = await job_driver.submit_and_claim()
    for _ in range(5):
        await postpone(job_driver, claim)
        claim = await claim_again(job_driver, claim.job_id)
    await job_driver.fail(claim, RETRYABLE)
    assert backoff_seconds(await postpone(job_driver, await claim_again(job_driver, claim.job_id))) <= 2.6


async def test_a_job_shows_an_error_only_while_it_is_true(job_driver: JobDriver) -> None:
    claim = await job_driver.submit_and_claim()
    error_codes: list[str | None] = []

    async def read_status() -> JobStatus:
        job = await job_driver.job(claim.job_id)
        error_codes.append(None if job.error is None else job.error["code"])
        return job.status

    await job_driver.fail(claim, RETRYABLE)
    assert await read_status() is JobStatus.PENDING
    async with job_driver.database.work(SYSTEM) as work:
        await work.run(update(Job).where(Job.id == claim.job_id).values(run_after=None))
        assert len(await jobs.dispatch(work, [QUEUE], 5.0)) == 1
    assert await read_status() is JobStatus.QUEUED
    claim = await claim_again(job_driver, claim.job_id)
    assert await read_status() is JobStatus.RUNNING
    await postpone(job_driver, claim)
    assert await read_status() is JobStatus.PENDING
    await job_driver.cancel(claim.job_id)
    assert await read_status() is JobStatus.CANCELLED
    assert error_codes == ["BROKEN", "BROKEN", None, "UNAVAILABLE", None]
    attempt_errors = await job_driver.database.rows(
        select(JobAttempt.error["code"].astext).where(JobAttempt.job_id == claim.job_id).order_by(JobAttempt.number)
    )
    assert [row[0] for row in attempt_errors] == ["BROKEN", "UNAVAILABLE"]


async def test_after_a_crash_that_its_postmaster_survives_no_lease_is_taken_within_a_lease(job_driver: JobDriver) -> None:
    """Crash recovery truncates unlogged tables; nothing else reveals the crash to an ordinary role."""
    (kind,) = await job_driver.database.rows(text("SELECT relpersistence::text FROM pg_class WHERE oid = 'uptime'::regclass"))
    assert kind[0] == "u"
    claim = await job_driver.claim((await job_driver.submit()).id, lease=0.0)
    assert claim is not None
    async with job_driver.database.work(SYSTEM) as work:
        await work.run(text("DELETE FROM uptime"))

    async def sweep() -> list[UUID]:
        async with job_driver.database.work(SYSTEM) as work:
            return await jobs.reap(work, 0.5, 10)

    assert await sweep() == []
    await asyncio.sleep(0.3)
    assert await sweep() == []
    await asyncio.sleep(0.3)
    assert await sweep() == [claim.job_id]


async def test_a_heartbeat_notes_that_postgres_has_recovered(job_driver: JobDriver) -> None:
    async with job_driver.database.work(SYSTEM) as work:
        await work.run(text("DELETE FROM uptime"))
    for _ in range(2):
        await jobs.heartbeat(job_driver.database, job_driver.worker_id, [], LEASE)
    (count,) = await job_driver.database.rows(text("SELECT count(*) FROM uptime"))
    assert count[0] == 1


@asynccontextmanager
async def unwritable_attempts(job_driver: JobDriver, job_id: UUID) -> AsyncGenerator[None]:
    """Make every write to this job's attempts fail."""
    async with job_driver.database.work(SYSTEM) as work:
        refuses = "CREATE FUNCTION curse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'cursed'; END $$"
        await work.run(text(refuses))
        when = f"WHEN (NEW.job_id = '{job_id}')"
        await work.run(text(f"CREATE TRIGGER curse BEFORE INSERT OR UPDATE ON job_attempts FOR EACH ROW {when} EXECUTE FUNCTION curse()"))
    try:
        yield
    finally:
        async with job_driver.database.work(SYSTEM) as work:
            await work.run(text("DROP FUNCTION curse CASCADE"))


async def test_one_job_that_cannot_begin_keeps_no_other_from_it(job_driver: JobDriver) -> None:
    first, second, third = [(await job_driver.submit()).id for _ in range(3)]
    async with unwritable_attempts(job_driver, first), job_driver.database.work(SYSTEM) as work:
        claimed = await jobs.claim_waiting(work, [QUEUE], 3, job_driver.worker_id, "test-worker", LEASE)
        assert [job.id for job in claimed] == [second, third]
        assert set(work.notices) == {second, third}
    assert [(await job_driver.job(job_id)).status for job_id in (first, second)] == [JobStatus.PENDING, JobStatus.RUNNING]
    assert await job_driver.events(first) == [(1, "CREATED")]


async def test_one_job_that_cannot_be_swept_keeps_no_other_from_it(job_driver: JobDriver) -> None:
    first, second = (await job_driver.submit()).id, (await job_driver.submit()).id
    for job_id in (first, second):
        assert await job_driver.claim(job_id, lease=0.0) is not None
    async with unwritable_attempts(job_driver, first):
        assert await job_driver.sweep() == [second]
    assert [(await job_driver.job(job_id)).status for job_id in (first, second)] == [JobStatus.RUNNING, JobStatus.PENDING]
    assert await job_driver.outcomes(second) == ["lost"]


async def test_a_savepoint_of_a_work_that_fails_leaves_no_notice(job_driver: JobDriver) -> None:
    async with job_driver.database.work(SYSTEM) as work:
        work.notify(Notice(job_driver.worker_id, 1))
        with suppress(ZeroDivisionError):
            async with work.savepoint():
                work.notify(Notice(job_driver.worker_id, 2, "default"))
                work.revalidate_sessions(job_driver.owner.id)
                raise ZeroDivisionError
        assert (work.notices, work.revalidated) == ({job_driver.worker_id: Notice(job_driver.worker_id, 1)}, set())
