"""Owners take turns, and queues do, however few slots become free at a time; and only waiting makes a job older."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest
from sqlalchemy import func, select, update

from db.core.viewer import SYSTEM
from db.queries import jobs as looked
from db.services import jobs
from db.services.jobs import Claim
from db.tables import Job, OwnerTurn, Worker
from tests.jobs.desk import LEASE, QUEUE, Desk

Pick = Callable[[], Awaitable[Claim]]


class Queued:
    """The next job of a worker with one slot, in each of the two ways in which it comes to it."""

    def __init__(self, desk: Desk, *queues: str) -> None:
        self.desk = desk
        self.queues = queues
        self._rung: list[UUID] = []

    async def _begun(self, job_id: UUID) -> Claim:
        (row,) = await self.desk.database.rows(select(Job.attempt).where(Job.id == job_id))
        return Claim(job_id, row.attempt, self.desk.worker_id)

    async def taken(self) -> Claim:
        async with self.desk.database.work(SYSTEM) as work:
            (job,) = await jobs.claim_waiting(work, self.queues, 1, self.desk.worker_id, "desk", LEASE)
        return await self._begun(job.id)

    async def rung(self) -> Claim:
        async with self.desk.database.work(SYSTEM) as work:
            self._rung += [ring.job_id for ring in await jobs.dispatch(work, self.queues, 60.0)]
        claim = await self.desk.claim(self._rung.pop(0))
        assert claim is not None
        return claim


async def slots(desk: Desk, count: int, *queues: str) -> None:
    async with desk.database.work(SYSTEM) as work:
        await work.run(update(Worker).where(Worker.id == desk.worker_id).values(slots=count, queues=list(queues)))


@pytest.mark.parametrize("way", ["taken", "rung"])
async def test_with_one_slot_three_owners_take_turns_to_the_end(desk: Desk, way: str) -> None:
    await slots(desk, 1, QUEUE)
    names = {await desk.other(name): name for name in "abc"}
    for owner_id in names:
        for _ in range(6):
            await desk.submit(owner_id=owner_id)
    queued, order = Queued(desk, QUEUE), ""
    for _ in range(18):
        claim = await getattr(queued, way)()
        order += names[(await desk.job(claim.job_id)).owner_id]
        await desk.complete(claim)
    assert order == "abc" * 6


async def test_what_runs_counts_as_a_turn_that_its_owner_has_had(desk: Desk) -> None:
    busy, idle = await desk.other("busy"), await desk.other("idle")
    for _ in range(2):
        await desk.claimed(owner_id=busy)
    first = [(await desk.submit(owner_id=busy)).id for _ in range(2)]
    second = [(await desk.submit(owner_id=idle)).id for _ in range(3)]
    places = await looked.waiting(desk.database, SYSTEM, [*first, *second])
    assert [places[job_id].position for job_id in second] == [1, 2, 3]
    assert [places[job_id].position for job_id in first] == [4, 5]
    async with desk.database.work(SYSTEM) as work:
        taken = await jobs.claim_waiting(work, [QUEUE], 5, desk.worker_id, "desk", LEASE)
    assert [places[job.id].position for job in taken] == [1, 2, 3, 4, 5]


async def test_with_one_slot_queues_take_turns_also_without_redis(desk: Desk) -> None:
    queues = ("a", "b", "z")
    for queue in queues:
        for _ in range(3):
            await desk.submit(queue=queue)
    queued, order = Queued(desk, *queues), ""
    for _ in range(9):
        claim = await queued.taken()
        order += (await desk.job(claim.job_id)).queue
        await desk.complete(claim)
    assert order == "abz" * 3


async def test_claims_of_many_owners_at_once_wait_for_no_turn_to_be_written(desk: Desk) -> None:
    owners = [await desk.other(name) for name in "ab"]
    for owner_id in owners:
        await desk.complete(await desk.claimed(owner_id=owner_id))
    first, second = [(await desk.submit(owner_id=owner_id)).id for owner_id in owners]
    async with desk.database.work(SYSTEM) as work:
        await work.all(select(OwnerTurn.queue).with_for_update())
        assert [await desk.claim(job_id, lease=2.0) is not None for job_id in (second, first)] == [True, True]


async def test_only_waiting_makes_a_job_older(desk: Desk) -> None:
    """A job of two hours of which it waited none stands behind an urgent one."""
    claim = await desk.claimed(priority=1)
    async with desk.database.work(SYSTEM) as work:
        long_ago = func.now() - func.make_interval(0, 0, 0, 0, 2)
        await work.run(update(Job).where(Job.id == claim.job_id).values(created_at=long_ago, waiting_since=long_ago))
    async with desk.database.work(SYSTEM) as work:
        await jobs.give_back(work, claim)
    urgent = (await desk.submit(priority=10)).id
    places = await looked.waiting(desk.database, SYSTEM, [claim.job_id, urgent])
    assert [places[job_id].position for job_id in (urgent, claim.job_id)] == [1, 2]


async def test_the_pause_before_a_retry_makes_no_job_older(desk: Desk) -> None:
    paused, other = (await desk.submit(priority=5)).id, (await desk.submit(priority=6)).id
    ago = [func.now() - func.make_interval(0, 0, 0, 0, 0, minutes) for minutes in (16, 1)]
    async with desk.database.work(SYSTEM) as work:
        await work.run(update(Job).where(Job.id == paused).values(waiting_since=ago[0], run_after=ago[1]))
    places = await looked.waiting(desk.database, SYSTEM, [paused, other])
    assert [places[job_id].position for job_id in (other, paused)] == [1, 2]


async def test_what_is_rung_for_are_the_first_places_that_people_are_shown(desk: Desk) -> None:
    """The dispatcher places no more of each owner than it may ring for, and arrives at the same order."""
    await slots(desk, 6, QUEUE)
    owners = [await desk.other(name) for name in "abcd"]
    await desk.claimed(owner_id=owners[0])
    spread = [(owners[place % 4 if place % 3 else 0], 4 + place * 7 % 4) for place in range(40)]
    waiting = [(await desk.submit(owner_id=owner_id, priority=priority)).id for owner_id, priority in spread]
    places = await looked.waiting(desk.database, SYSTEM, waiting)
    in_order = sorted(waiting, key=lambda job_id: places[job_id].position)
    async with desk.database.work(SYSTEM) as work:
        assert [ring.job_id for ring in await jobs.dispatch(work, [QUEUE], 5.0)] == in_order[:10]
        taken = await jobs.claim_waiting(work, [QUEUE], 5, desk.worker_id, "desk", LEASE)
    assert [job.id for job in taken] == in_order[:5]
