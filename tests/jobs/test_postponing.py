"""What costs a try, what costs a loss, what costs neither; and what a job shows of it while it waits, runs and has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select, text, update

from db.core.viewer import SYSTEM
from db.core.work import Notice
from db.services import jobs
from db.services.jobs import Backoff, Claim, Failure
from db.tables import Job, JobAttempt, JobEvent
from db.tables.jobs import JobEventType
from db.tables.jobstates import JobStatus
from tests.jobs.desk import LEASE, QUEUE, Desk

AWAY = Failure("UNAVAILABLE", "The store does not answer.", retryable=True, away=True)
PERHAPS = Failure("BROKEN", "It broke.", retryable=True)


async def again(desk: Desk, job_id: UUID) -> Claim:
    """The next claim, the pause passed over."""
    async with desk.database.work(SYSTEM) as work:
        await work.run(update(Job).where(Job.id == job_id).values(run_after=None))
    claim = await desk.claim(job_id)
    assert claim is not None
    return claim


async def postpone(desk: Desk, claim: Claim) -> Row[Any]:
    count = (await desk.job(claim.job_id)).postponements + 1
    async with desk.database.work(SYSTEM) as work:
        job = await jobs.postpone(work, claim, AWAY, count, Backoff())
    assert job is not None
    return job


def pause(job: Row[Any]) -> float:
    return (job.run_after - job.updated_at).total_seconds()


async def test_a_service_that_is_away_costs_neither_try_nor_loss_however_long_it_takes(desk: Desk) -> None:
    claim = await desk.claimed()
    pauses: list[float] = []
    for _ in range(40):
        job = await postpone(desk, claim)
        assert (job.status, job.tries, job.losses) == (JobStatus.PENDING, 0, 0)
        pauses.append(pause(job))
        claim = await again(desk, claim.job_id)
    assert 1.5 <= pauses[0] <= 2.5
    assert max(pauses) <= 30.1
    assert min(pauses[4:]) > 20
    assert await desk.complete(claim) is not None
    said = await desk.database.rows(
        select(JobEvent.message, JobEvent.data).where(JobEvent.job_id == claim.job_id, JobEvent.type == JobEventType.RETRYING)
    )
    assert len(said) == 40
    assert said[0].message == "The store does not answer. No try was used; the job starts again in 2 s."
    assert said[0].data == {"error": {"code": "UNAVAILABLE", "message": "The store does not answer."}, "reason": "postponed"}


async def test_after_anything_else_the_pauses_begin_anew(desk: Desk) -> None:
    claim = await desk.claimed()
    for _ in range(5):
        await postpone(desk, claim)
        claim = await again(desk, claim.job_id)
    await desk.fail(claim, PERHAPS)
    assert pause(await postpone(desk, await again(desk, claim.job_id))) <= 2.6


async def test_a_job_shows_an_error_only_while_it_is_true(desk: Desk) -> None:
    claim = await desk.claimed()
    shown: list[str | None] = []

    async def look() -> JobStatus:
        job = await desk.job(claim.job_id)
        shown.append(None if job.error is None else job.error["code"])
        return job.status

    await desk.fail(claim, PERHAPS)
    assert await look() is JobStatus.PENDING
    async with desk.database.work(SYSTEM) as work:
        await work.run(update(Job).where(Job.id == claim.job_id).values(run_after=None))
        assert len(await jobs.dispatch(work, [QUEUE], 5.0)) == 1
    assert await look() is JobStatus.QUEUED
    claim = await again(desk, claim.job_id)
    assert await look() is JobStatus.RUNNING
    await postpone(desk, claim)
    assert await look() is JobStatus.PENDING
    await desk.cancel(claim.job_id)
    assert await look() is JobStatus.CANCELLED
    assert shown == ["BROKEN", "BROKEN", None, "UNAVAILABLE", None]
    kept = await desk.database.rows(
        select(JobAttempt.error["code"].astext).where(JobAttempt.job_id == claim.job_id).order_by(JobAttempt.number)
    )
    assert [row[0] for row in kept] == ["BROKEN", "UNAVAILABLE"]


async def test_after_a_crash_that_its_postmaster_survives_no_lease_is_taken_within_a_lease(desk: Desk) -> None:
    """Recovery empties what is unlogged; nothing else tells an ordinary role of the crash."""
    (kind,) = await desk.database.rows(text("SELECT relpersistence::text FROM pg_class WHERE oid = 'uptime'::regclass"))
    assert kind[0] == "u"
    claim = await desk.claim((await desk.submit()).id, lease=0.0)
    assert claim is not None
    async with desk.database.work(SYSTEM) as work:
        await work.run(text("DELETE FROM uptime"))

    async def sweep() -> list[UUID]:
        async with desk.database.work(SYSTEM) as work:
            return await jobs.sweep(work, 0.5, 10)

    assert await sweep() == []
    await asyncio.sleep(0.3)
    assert await sweep() == []
    await asyncio.sleep(0.3)
    assert await sweep() == [claim.job_id]


async def test_a_pulse_notes_that_postgres_has_recovered(desk: Desk) -> None:
    async with desk.database.work(SYSTEM) as work:
        await work.run(text("DELETE FROM uptime"))
    for _ in range(2):
        await jobs.pulse(desk.database, desk.worker_id, [], LEASE)
    (count,) = await desk.database.rows(text("SELECT count(*) FROM uptime"))
    assert count[0] == 1


@asynccontextmanager
async def cursed(desk: Desk, job_id: UUID) -> AsyncGenerator[None]:
    """Nothing can be written of this job's attempts."""
    async with desk.database.work(SYSTEM) as work:
        refuses = "CREATE FUNCTION curse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'cursed'; END $$"
        await work.run(text(refuses))
        when = f"WHEN (NEW.job_id = '{job_id}')"
        await work.run(text(f"CREATE TRIGGER curse BEFORE INSERT OR UPDATE ON job_attempts FOR EACH ROW {when} EXECUTE FUNCTION curse()"))
    try:
        yield
    finally:
        async with desk.database.work(SYSTEM) as work:
            await work.run(text("DROP FUNCTION curse CASCADE"))


async def test_one_job_that_cannot_begin_keeps_no_other_from_it(desk: Desk) -> None:
    first, second, third = [(await desk.submit()).id for _ in range(3)]
    async with cursed(desk, first), desk.database.work(SYSTEM) as work:
        taken = await jobs.claim_waiting(work, [QUEUE], 3, desk.worker_id, "desk", LEASE)
        assert [job.id for job in taken] == [second, third]
        assert set(work.notices) == {second, third}
    assert [(await desk.job(job_id)).status for job_id in (first, second)] == [JobStatus.PENDING, JobStatus.RUNNING]
    assert await desk.events(first) == [(1, "CREATED")]


async def test_one_job_that_cannot_be_swept_keeps_no_other_from_it(desk: Desk) -> None:
    first, second = (await desk.submit()).id, (await desk.submit()).id
    for job_id in (first, second):
        assert await desk.claim(job_id, lease=0.0) is not None
    async with cursed(desk, first):
        assert await desk.sweep() == [second]
    assert [(await desk.job(job_id)).status for job_id in (first, second)] == [JobStatus.RUNNING, JobStatus.PENDING]
    assert await desk.outcomes(second) == ["lost"]


async def test_a_part_of_a_work_that_fails_leaves_no_notice(desk: Desk) -> None:
    async with desk.database.work(SYSTEM) as work:
        work.notify(Notice(desk.worker_id, 1))
        with suppress(ZeroDivisionError):
            async with work.part():
                work.notify(Notice(desk.worker_id, 2, "ring"))
                work.doubt(desk.owner.id)
                raise ZeroDivisionError
        assert (work.notices, work.doubted) == ({desk.worker_id: Notice(desk.worker_id, 1)}, set())
