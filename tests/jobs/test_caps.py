"""Only so many jobs of a user, and of a queue, run at once; whoever is held back by that holds nobody else back."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager
from uuid import UUID

import pytest
from sqlalchemy import delete, func, insert, select, update

from db.core.viewer import SYSTEM, UserTier
from db.core.work import Database
from db.services import jobs
from db.settings import StateSettings, state_settings
from db.tables import Job, User, Worker
from db.tables.jobs import JobKind
from db.tables.jobstates import ACTIVE, JobStatus
from tests.client import Client

QUEUE = "capped"  # the workers of the tests do not serve it
LINE = """query($id: ID!) { job(id: $id) { waitReason queuePosition } }"""


class Yard:
    """Jobs in a queue whose worker has as many slots as anybody could want, claimed by hand."""

    def __init__(self, database: Database, worker_id: UUID) -> None:
        self.database = database
        self.worker_id = worker_id
        self._crowd = asyncio.Semaphore(16)  # fewer than there are connections

    async def submit(self, owner_id: UUID, count: int = 1, priority: int = 5, queue: str = QUEUE) -> list[UUID]:
        async with self.database.work(SYSTEM) as work:
            return [(await jobs.submit(work, jobs.NewJob(owner_id, JobKind.EXPORT, queue, priority))).id for _ in range(count)]

    async def claim(self, job_id: UUID) -> bool:
        async with self._crowd, self.database.work(SYSTEM) as work:
            return await jobs.claim(work, job_id, self.worker_id, "yard", 30.0) is not None

    async def take(self, limit: int) -> list[UUID]:
        async with self._crowd, self.database.work(SYSTEM) as work:
            return [job.id for job in await jobs.claim_waiting(work, [QUEUE], limit, self.worker_id, "yard", 30.0)]

    async def rung(self) -> list[UUID]:
        async with self.database.work(SYSTEM) as work:
            return [ring.job_id for ring in await jobs.dispatch(work, [QUEUE], 5.0)]

    async def complete(self, job_id: UUID) -> None:
        async with self.database.work(SYSTEM) as work:
            assert await jobs.complete(work, jobs.Claim(job_id, 1, self.worker_id)) is not None

    async def running(self) -> Counter[UUID]:
        active = select(Job.owner_id, func.count().label("count")).where(Job.status.in_(ACTIVE)).group_by(Job.owner_id)
        return Counter({row.owner_id: row.count for row in await self.database.rows(active)})


@pytest.fixture
async def yard(database: Database, clean: None) -> AsyncGenerator[Yard]:
    async with database.work(SYSTEM) as work:
        worker_id = await work.scalar(insert(Worker).values(name="yard", queues=[QUEUE, "beside"], slots=100).returning(Worker.id))
    yield Yard(database, worker_id)
    async with database.work(SYSTEM) as work:
        await work.run(delete(Job))
        await work.run(delete(Worker).where(Worker.id == worker_id))


@pytest.fixture
def caps(settings: StateSettings, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Three at once for each user of the tier FREE, five for PRO."""
    monkeypatch.setattr(state_settings(), "running_per_user", {"free": 3, "pro": 5, "enterprise": 0})
    return monkeypatch


async def owner(client: Client) -> UUID:
    return UUID((await client.one("{ viewer { id } }"))["id"].removeprefix("user_"))


async def line(client: Client, *ids: UUID) -> list[tuple[str | None, int | None]]:
    found = [await client.one(LINE, id=f"job_{id_.hex}") for id_ in ids]
    return [(job["waitReason"], job["queuePosition"]) for job in found]


async def test_many_workers_at_once_start_exactly_as_many_as_each_user_may(
    yard: Yard, caps: pytest.MonkeyPatch, ada: Client, bob: Client, admin: Client
) -> None:
    hers, his, boss = await owner(ada), await owner(bob), await owner(admin)
    async with yard.database.work(SYSTEM) as work:
        await work.run(update(User).where(User.id == his).values(tier=UserTier.PRO))
        await work.run(update(User).where(User.id == boss).values(tier=UserTier.ENTERPRISE))
    submitted = [job for user in (hers, his, boss) for job in await yard.submit(user, 12)]
    rung = [yard.claim(job_id) for job_id in submitted]
    taken = [yard.take(4) for _ in range(6)]
    await asyncio.gather(*(claim for pair in zip(taken, rung[:6], strict=True) for claim in pair), *rung[6:])
    assert await yard.running() == {hers: 3, his: 5, boss: 12}


async def test_many_workers_at_once_start_exactly_as_many_as_a_queue_may(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, ada: Client, bob: Client
) -> None:
    monkeypatch.setattr(state_settings(), "running_per_queue", {QUEUE: 4})
    submitted = [job for user in (await owner(ada), await owner(bob)) for job in await yard.submit(user, 6)]
    await asyncio.gather(*(yard.claim(job_id) for job_id in submitted), yard.take(8), yard.take(8))
    assert sum((await yard.running()).values()) == 4
    last, elsewhere = await yard.submit(await owner(ada)), await yard.submit(await owner(ada), queue="beside")
    assert [reason for reason, _ in await line(ada, *last)] == ["CONCURRENCY"]
    assert await yard.claim(elsewhere[0])


async def test_the_dispatcher_passes_over_those_whose_owner_has_enough(
    yard: Yard, caps: pytest.MonkeyPatch, ada: Client, bob: Client
) -> None:
    hers, his = await owner(ada), await owner(bob)
    urgent = await yard.submit(hers, 6, priority=10)
    (modest,) = await yard.submit(his, priority=1)
    assert await yard.rung() == [*urgent[:3], modest]
    assert await line(ada, *urgent) == [
        ("QUEUE", 1),
        ("QUEUE", 2),
        ("QUEUE", 3),
        ("CONCURRENCY", 5),
        ("CONCURRENCY", 6),
        ("CONCURRENCY", 7),
    ]
    assert await line(bob, modest) == [("QUEUE", 4)]
    for job_id in urgent[:3]:
        assert await yard.claim(job_id)
    assert await yard.rung() == []
    assert await line(bob, modest) == [("QUEUE", 1)]
    assert await line(ada, *urgent[3:]) == [("CONCURRENCY", 2), ("CONCURRENCY", 3), ("CONCURRENCY", 4)]
    assert await yard.take(4) == [modest]


async def test_the_next_of_an_owner_starts_when_one_has_ended_and_not_while_it_is_being_stopped(
    yard: Yard, caps: pytest.MonkeyPatch, ada: Client
) -> None:
    running, waiting = (submitted := await yard.submit(await owner(ada), 4))[:3], submitted[3]
    for job_id in running:
        assert await yard.claim(job_id)
    async with yard.database.work(SYSTEM) as work:
        assert await jobs.cancel(work, running[0]) is JobStatus.CANCELLING
    assert not await yard.claim(waiting)
    assert await line(ada, waiting) == [("CONCURRENCY", 1)]
    await yard.complete(running[1])
    assert await line(ada, waiting) == [("QUEUE", 1)]
    assert await yard.rung() == [waiting]
    assert await yard.claim(waiting)


async def test_one_that_was_rung_for_and_refused_is_rung_for_again_as_soon_as_there_is_room(
    yard: Yard, caps: pytest.MonkeyPatch, ada: Client
) -> None:
    hers = await owner(ada)
    here, elsewhere = await yard.submit(hers, 1), await yard.submit(hers, 3, queue="beside")
    assert await yard.rung() == here
    for job_id in elsewhere:
        assert await yard.claim(job_id)
    assert not await yard.claim(here[0])
    assert await yard.rung() == []
    await yard.complete(elsewhere[0])
    assert await yard.rung() == here  # though the first ring is not five seconds old


async def test_a_queue_that_nobody_serves_holds_back_no_other(yard: Yard, caps: pytest.MonkeyPatch, ada: Client) -> None:
    hers = await owner(ada)
    stuck = await yard.submit(hers, 3, priority=10, queue="nobody's")
    (free,) = await yard.submit(hers)
    assert await line(ada, *stuck, free) == [("NO_WORKER", 1), ("NO_WORKER", 2), ("NO_WORKER", 3), ("QUEUE", 1)]
    assert await yard.rung() == [free]


async def test_every_priority_has_its_place_and_they_start_in_that_order(yard: Yard, ada: Client) -> None:
    hers = await owner(ada)
    by_priority = {priority: (await yard.submit(hers, priority=priority))[0] for priority in (3, 8, 1, 10, 5, 2, 7, 9, 4, 6)}
    highest_first = [by_priority[priority] for priority in range(10, 0, -1)]
    places = [place for _, place in await line(ada, *highest_first)]
    assert places == list(range(1, 11))
    assert await yard.rung() == highest_first[:8]  # of this tier's default, eight at once
    async with yard.database.work(SYSTEM) as work:
        aged = update(Job).where(Job.id == by_priority[1]).values(waiting_since=func.now() - func.make_interval(0, 0, 0, 0, 0, 51))
        await work.run(aged)
    assert (await line(ada, by_priority[1], by_priority[10])) == [("QUEUE", 1), ("QUEUE", 2)]
    assert await yard.take(3) == [by_priority[1], by_priority[10], by_priority[9]]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("RUNNING_PER_QUEUE", '{"vidoe": 2}', "There is no queue 'vidoe'. The queues are default, upload, text,"),
        ("RUNNING_PER_USER", '{"gold": 2}', "There is no tier 'gold'. The tiers are free, pro, enterprise."),
    ],
)
def test_a_cap_for_what_there_is_not_is_refused_at_the_start(settings: StateSettings, name: str, value: str, says: str) -> None:
    command = [sys.executable, "-m", "server.cli", "worker"]
    ended = subprocess.run(command, env={**os.environ, f"TRELLIS_{name}": value}, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"TRELLIS_{name}: {says}")


async def test_what_every_worker_asks_each_second_reads_none_of_the_jobs_that_have_ended(
    yard: Yard, statements: Callable[[], AbstractContextManager[list[str]]]
) -> None:
    """Also in the plan that Postgres keeps for all values alike, which cannot see into parameters."""
    with statements() as sent:
        await jobs.look(yard.database, [QUEUE], 5.0)
    asked = re.sub(
        r"\$\d+::([\w ]+(\[\])?)", r"(SELECT NULL::\1)::\1", sent[0]
    )  # known only when it runs, as a parameter is to such a plan
    async with yard.database.session() as connection:
        await connection.exec_driver_sql("SET enable_seqscan = off")
        plan = (await connection.exec_driver_sql(f"EXPLAIN {asked}")).scalars().all()
        await connection.exec_driver_sql("RESET enable_seqscan")
    used = {index for line in plan for index in re.findall(r"ix_jobs_\w+", line)}
    # Which of the indexes without ended jobs it takes is the planner's to choose.
    assert used
    assert used <= {"ix_jobs_waiting", "ix_jobs_leased", "ix_jobs_unfinished_dataset"}
