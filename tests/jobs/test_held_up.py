"""What a hanging transaction of a frozen or disconnected process can block, and for how long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from db.core.database_errors import is_transient
from db.core.viewer import SYSTEM
from db.core.work import Database, Work
from db.errors import Unavailable
from db.services import jobs
from db.services.jobs import Claim, HeldJob
from db.settings import StateSettings
from db.tables import Job
from db.tables.jobstates import JobStatus
from tests.jobs.job_driver import LEASE, JobDriver
from tests.workers.worker_harness import WorkerHarness


@asynccontextmanager
async def uncommitted_work(database: Database) -> AsyncGenerator[Work]:
    """Begin a transaction that is rolled back at the end."""
    with suppress(ZeroDivisionError):
        async with database.work(SYSTEM) as work:
            yield work
            raise ZeroDivisionError


async def lock_job(work: Work, claim: Claim) -> None:
    await work.all(select(Job.id).where(Job.id == claim.job_id).with_for_update(key_share=True))


async def test_a_transaction_that_rests_for_too_long_is_ended_as_by_a_database_that_is_away(settings: StateSettings) -> None:
    async def hold_idle(database: Database, *, asks_again: bool) -> None:
        async with database.work(SYSTEM) as work:
            await work.scalar(text("SELECT 1"))
            await asyncio.sleep(0.5)
            if asks_again:
                await work.scalar(text("SELECT 1"))

    async with Database.open(settings, idle_timeout=0.2) as database:
        for asks_again in (True, False):
            with pytest.raises(Unavailable):
                await hold_idle(database, asks_again=asks_again)
        async with database.work(SYSTEM) as work:
            assert await work.scalar(text("SELECT 1")) == 1


async def test_the_lease_of_a_job_that_a_frozen_transaction_has_locked_still_runs_out(
    job_driver: JobDriver, settings: StateSettings
) -> None:
    claim = await job_driver.claim((await job_driver.submit()).id, lease=0.0)
    assert claim is not None
    async with Database.open(settings, idle_timeout=0.4) as freezing:
        with suppress(Unavailable):
            async with freezing.work(SYSTEM) as frozen:
                await lock_job(frozen, claim)
                assert await job_driver.sweep() == []
                await asyncio.sleep(0.7)
                assert await job_driver.sweep() == [claim.job_id]


async def test_nor_does_it_hold_its_locks_between_the_preparing_of_a_statement_and_its_execution(
    job_driver: JobDriver, settings: StateSettings
) -> None:
    """PostgreSQL then counts the transaction neither as idle nor as running a statement, so neither timeout applies."""
    claim = await job_driver.claim((await job_driver.submit()).id, lease=0.0)
    assert claim is not None
    async with Database.open(settings, statement_timeout=0.4, idle_timeout=0.2) as freezing:
        with suppress(Unavailable):
            async with freezing.work(SYSTEM) as frozen:
                await lock_job(frozen, claim)
                driver = (await frozen.connection.get_raw_connection()).driver_connection
                assert driver is not None
                await driver.prepare("SELECT 2")
                await asyncio.sleep(0.3)
                assert await job_driver.sweep() == []
                await asyncio.sleep(0.5)
                assert await job_driver.sweep() == [claim.job_id]


async def test_a_claim_waits_a_fifth_of_its_lease_for_another_of_the_same_owner_and_is_broken_off(job_driver: JobDriver) -> None:
    first, second = (await job_driver.submit()).id, (await job_driver.submit()).id
    async with uncommitted_work(job_driver.database) as frozen:
        assert await jobs.claim(frozen, first, job_driver.worker_id, "frozen", LEASE) is not None
        began = time.monotonic()
        with pytest.raises(DBAPIError) as error:
            await job_driver.claim(second, lease=2.0)
        assert 0.35 < time.monotonic() - began < 2.0
        assert is_transient(error.value)
    assert await job_driver.claim(second, lease=2.0) is not None


async def test_a_row_that_is_locked_costs_its_own_lease_and_no_other(job_driver: JobDriver) -> None:
    free, locked, stopping = await job_driver.submit_and_claim(), await job_driver.submit_and_claim(), await job_driver.submit_and_claim()
    await job_driver.cancel(stopping.job_id)
    before = [(await job_driver.job(claim.job_id)).lease_until for claim in (free, locked, stopping)]
    async with uncommitted_work(job_driver.database) as frozen:
        await lock_job(frozen, locked)
        await lock_job(frozen, stopping)
        answer = await asyncio.wait_for(jobs.heartbeat(job_driver.database, job_driver.worker_id, [free, locked, stopping], LEASE), 20.0)
    assert answer == {
        free.job_id: HeldJob(JobStatus.RUNNING, is_renewed=True),
        locked.job_id: HeldJob(JobStatus.RUNNING, is_renewed=False),
        stopping.job_id: HeldJob(JobStatus.CANCELLING, is_renewed=False),
    }
    after = [(await job_driver.job(claim.job_id)).lease_until for claim in (free, locked, stopping)]
    assert [was < now for was, now in zip(before, after, strict=True)] == [True, False, False]


async def test_a_heartbeat_never_queues_up_behind_other_reads(settings: StateSettings) -> None:
    small_pool = settings.model_copy(update={"database_pool_size": 2, "database_read_concurrency": 1})
    async with Database.open(small_pool) as database, database.dedicated_pool(1) as dedicated:
        slow = asyncio.create_task(database.rows(text("SELECT pg_sleep(60)")))
        await asyncio.sleep(0.1)
        assert list(await asyncio.wait_for(dedicated.rows(text("SELECT 1")), 20.0)) == [(1,)]
        assert not slow.done()
        slow.cancel()
        await asyncio.wait([slow])


@pytest.mark.exhaustive
async def test_while_a_claim_hangs_the_slots_serve_other_owners(
    harness: WorkerHarness, job_driver: JobDriver, settings: StateSettings
) -> None:
    """One worker with one slot; the hanging transaction locks the first owner."""
    blocked, free = harness.owner_id, job_driver.owner.id
    held = await harness.submit("quick")
    async with Database.open(settings, idle_timeout=60) as freezing, uncommitted_work(freezing) as frozen:
        assert await jobs.claim(frozen, held, job_driver.worker_id, "frozen", LEASE) is not None
        waiting = await harness.submit("quick")
        await harness.start_worker(SLOTS="1", DISPATCH_RETRY_INTERVAL="0.5")
        harness.owner_id = free
        theirs = await harness.submit("quick")
        await harness.wait_for_status(theirs, JobStatus.COMPLETED)
        assert (await harness.job(waiting)).status in {JobStatus.PENDING, JobStatus.QUEUED}
    harness.owner_id = blocked
    await harness.wait_for_status(waiting, JobStatus.COMPLETED)
