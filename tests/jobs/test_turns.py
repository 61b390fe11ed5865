"""Owners take turns, and so do queues, even if slots become free one at a time; a job ages only while it waits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest
from sqlalchemy import func, select, update

from db.core.viewer import SYSTEM
from db.queries import jobs as job_queries
from db.services import jobs
from db.services.jobs import Claim
from db.tables import Job, OwnerTurn, Worker
from tests.jobs.job_driver import LEASE, QUEUE, JobDriver

Pick = Callable[[], Awaitable[Claim]]


class SingleSlotWorker:
    """The next job of a worker with one slot, by polling and by dispatch notice."""

    def __init__(self, job_driver: JobDriver, *queues: str) -> None:
        self.job_driver = job_driver
        self.queues = queues
        self._dispatched: list[UUID] = []

    async def _claim_of(self, job_id: UUID) -> Claim:
        (row,) = await self.job_driver.database.rows(select(Job.attempt).where(Job.id == job_id))
        return Claim(job_id, row.attempt, self.job_driver.worker_id)

    async def claim_waiting(self) -> Claim:
        async with self.job_driver.database.work(SYSTEM) as work:
            (job,) = await jobs.claim_waiting(work, self.queues, 1, self.job_driver.worker_id, "test-worker", LEASE)
        return await self._claim_of(job.id)

    async def claim_dispatched(self) -> Claim:
        async with self.job_driver.database.work(SYSTEM) as work:
            self._dispatched += [notice.job_id for notice in await jobs.dispatch(work, self.queues, 60.0)]
        claim = await self.job_driver.claim(self._dispatched.pop(0))
        assert claim is not None
        return claim


async def set_slots(job_driver: JobDriver, count: int, *queues: str) -> None:
    async with job_driver.database.work(SYSTEM) as work:
        await work.run(update(Worker).where(Worker.id == job_driver.worker_id).values(slots=count, queues=list(queues)))


@pytest.mark.parametrize("way", ["claim_waiting", "claim_dispatched"])
async def test_with_one_slot_three_owners_take_turns_to_the_end(job_driver: JobDriver, way: str) -> None:
    await set_slots(job_driver, 1, QUEUE)
    names = {await job_driver.add_owner(name): name for name in "abc"}
    for owner_id in names:
        for _ in range(6):
            await job_driver.submit(owner_id=owner_id)
    worker, order = SingleSlotWorker(job_driver, QUEUE), ""
    for _ in range(18):
        claim = await getattr(worker, way)()
        order += names[(await job_driver.job(claim.job_id)).owner_id]
        await job_driver.complete(claim)
    assert order == "abc" * 6


async def test_what_runs_counts_as_a_turn_that_its_owner_has_had(job_driver: JobDriver) -> None:
    busy, idle = await job_driver.add_owner("busy"), await job_driver.add_owner("idle")
    for _ in range(2):
        await job_driver.submit_and_claim(owner_id=busy)
    first = [(await job_driver.submit(owner_id=busy)).id for _ in range(2)]
    second = [(await job_driver.submit(owner_id=idle)).id for _ in range(3)]
    places = await job_queries.wait_info(job_driver.database, SYSTEM, [*first, *second])
    assert [places[job_id].position for job_id in second] == [1, 2, 3]
    assert [places[job_id].position for job_id in first] == [4, 5]
    async with job_driver.database.work(SYSTEM) as work:
        claimed = await jobs.claim_waiting(work, [QUEUE], 5, job_driver.worker_id, "test-worker", LEASE)
    assert [places[job.id].position for job in claimed] == [1, 2, 3, 4, 5]


async def test_with_one_slot_queues_take_turns_also_without_redis(job_driver: JobDriver) -> None:
    queues = ("a", "b", "z")
    for queue in queues:
        for _ in range(3):
            await job_driver.submit(queue=queue)
    worker, order = SingleSlotWorker(job_driver, *queues), ""
    for _ in range(9):
        claim = await worker.claim_waiting()
        order += (await job_driver.job(claim.job_id)).queue
        await job_driver.complete(claim)
    assert order == "abz" * 3


async def test_claims_of_many_owners_at_once_wait_for_no_turn_to_be_written(job_driver: JobDriver) -> None:
    owners = [await job_driver.add_owner(name) for name in "ab"]
    for owner_id in owners:
        await job_driver.complete(await job_driver.submit_and_claim(owner_id=owner_id))
    first, second = [(await job_driver.submit(owner_id=owner_id)).id for owner_id in owners]
    async with job_driver.database.work(SYSTEM) as work:
        await work.all(select(OwnerTurn.queue).with_for_update())
        assert [await job_driver.claim(job_id, lease=2.0) is not None for job_id in (second, first)] == [True, True]


async def test_only_waiting_makes_a_job_older(job_driver: JobDriver) -> None:
    """A job created two hours ago that has not waited at all ranks behind an urgent one."""
    claim = await job_driver.submit_and_claim(priority=1)
    async with job_driver.database.work(SYSTEM) as work:
        long_ago = func.now() - func.make_interval(0, 0, 0, 0, 2)
        await work.run(update(Job).where(Job.id == claim.job_id).values(created_at=long_ago, waiting_since=long_ago))
    async with job_driver.database.work(SYSTEM) as work:
        await jobs.give_back(work, claim)
    urgent = (await job_driver.submit(priority=10)).id
    places = await job_queries.wait_info(job_driver.database, SYSTEM, [claim.job_id, urgent])
    assert [places[job_id].position for job_id in (urgent, claim.job_id)] == [1, 2]


async def test_the_pause_before_a_retry_makes_no_job_older(job_driver: JobDriver) -> None:
    paused, other = (await job_driver.submit(priority=5)).id, (await job_driver.submit(priority=6)).id
    ago = [func.now() - func.make_interval(0, 0, 0, 0, 0, minutes) for minutes in (16, 1)]
    async with job_driver.database.work(SYSTEM) as work:
        await work.run(update(Job).where(Job.id == paused).values(waiting_since=ago[0], run_after=ago[1]))
    places = await job_queries.wait_info(job_driver.database, SYSTEM, [paused, other])
    assert [places[job_id].position for job_id in (other, paused)] == [1, 2]


async def test_the_dispatched_jobs_are_those_with_the_first_positions(job_driver: JobDriver) -> None:
    """The dispatcher ranks only as many jobs of each owner as it may dispatch, and arrives at the same order."""
    await set_slots(job_driver, 6, QUEUE)
    owners = [await job_driver.add_owner(name) for name in "abcd"]
    await job_driver.submit_and_claim(owner_id=owners[0])
    spread = [(owners[place % 4 if place % 3 else 0], 4 + place * 7 % 4) for place in range(40)]
    waiting = [(await job_driver.submit(owner_id=owner_id, priority=priority)).id for owner_id, priority in spread]
    places = await job_queries.wait_info(job_driver.database, SYSTEM, waiting)
    in_order = sorted(waiting, key=lambda job_id: places[job_id].position)
    async with job_driver.database.work(SYSTEM) as work:
        assert [notice.job_id for notice in await jobs.dispatch(work, [QUEUE], 5.0)] == in_order[:10]
        claimed = await jobs.claim_waiting(work, [QUEUE], 5, job_driver.worker_id, "test-worker", LEASE)
    assert [job.id for job in claimed] == in_order[:5]
