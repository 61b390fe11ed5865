"""Concurrency limits of a user and of a queue: jobs over the limit do not block other jobs."""

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
from db.services.jobs import concurrency
from db.settings import StateSettings, state_settings
from db.tables import Job, User, Worker
from db.tables.jobs import JobKind
from db.tables.jobstates import ACTIVE, JobStatus
from tests.client import Client

QUEUE = "capped"  # the workers of the tests do not serve it
LEASE = 300.0  # seconds; a claim waits for others for a fifth of it
QUEUE_PLACE = """query($id: ID!) { job(id: $id) { waitReason queuePosition } }"""


class ManualWorker:
    """Claims jobs by hand, for a queue whose worker has enough slots for all of them."""

    def __init__(self, database: Database, worker_id: UUID) -> None:
        self.database = database
        self.worker_id = worker_id
        self._connection_limit = asyncio.Semaphore(16)  # less than the size of the connection pool

    async def submit(self, owner_id: UUID, count: int = 1, priority: int = 5, queue: str = QUEUE) -> list[UUID]:
        async with self.database.work(SYSTEM) as work:
            return [(await jobs.submit(work, jobs.NewJob(owner_id, JobKind.EXPORT, queue, priority))).id for _ in range(count)]

    async def claim(self, job_id: UUID) -> bool:
        async with self._connection_limit, self.database.work(SYSTEM) as work:
            return await jobs.claim(work, job_id, self.worker_id, "test-worker", LEASE) is not None

    async def claim_waiting(self, limit: int) -> list[UUID]:
        async with self._connection_limit, self.database.work(SYSTEM) as work:
            return [job.id for job in await jobs.claim_waiting(work, [QUEUE], limit, self.worker_id, "test-worker", LEASE)]

    async def dispatch(self) -> list[UUID]:
        async with self.database.work(SYSTEM) as work:
            return [notice.job_id for notice in await jobs.dispatch(work, [QUEUE], 5.0)]

    async def complete(self, job_id: UUID) -> None:
        async with self.database.work(SYSTEM) as work:
            assert await jobs.complete(work, jobs.Claim(job_id, 1, self.worker_id)) is not None

    async def running(self) -> Counter[UUID]:
        active = select(Job.owner_id, func.count().label("count")).where(Job.status.in_(ACTIVE)).group_by(Job.owner_id)
        return Counter({row.owner_id: row.count for row in await self.database.rows(active)})


@pytest.fixture
async def manual_worker(database: Database, clean: None, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[ManualWorker]:
    monkeypatch.setattr(concurrency, "MAX_LOCK_TIMEOUT", LEASE)  # on a busy machine, forty claims at once take longer than 2 s
    async with database.work(SYSTEM) as work:
        worker_id = await work.scalar(insert(Worker).values(name="test-worker", queues=[QUEUE, "beside"], slots=100).returning(Worker.id))
    yield ManualWorker(database, worker_id)
    async with database.work(SYSTEM) as work:
        await work.run(delete(Job))
        await work.run(delete(Worker).where(Worker.id == worker_id))


@pytest.fixture
def concurrency_limits(settings: StateSettings, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Three concurrent jobs for each user of the tier FREE, five for PRO."""
    monkeypatch.setattr(state_settings(), "user_concurrency_limits", {"free": 3, "pro": 5, "enterprise": 0})
    return monkeypatch


async def user_id(client: Client) -> UUID:
    return UUID((await client.one("{ viewer { id } }"))["id"].removeprefix("user_"))


async def queue_places(client: Client, *ids: UUID) -> list[tuple[str | None, int | None]]:
    answers = [await client.one(QUEUE_PLACE, id=f"job_{id_.hex}") for id_ in ids]
    return [(job["waitReason"], job["queuePosition"]) for job in answers]


async def test_many_workers_at_once_start_exactly_as_many_as_each_user_may(
    manual_worker: ManualWorker, concurrency_limits: pytest.MonkeyPatch, ada: Client, bob: Client, admin: Client
) -> None:
    ada_id, bob_id, admin_id = await user_id(ada), await user_id(bob), await user_id(admin)
    async with manual_worker.database.work(SYSTEM) as work:
        await work.run(update(User).where(User.id == bob_id).values(tier=UserTier.PRO))
        await work.run(update(User).where(User.id == admin_id).values(tier=UserTier.ENTERPRISE))
    submitted = [job for user in (ada_id, bob_id, admin_id) for job in await manual_worker.submit(user, 12)]
    single_claims = [manual_worker.claim(job_id) for job_id in submitted]
    batch_claims = [manual_worker.claim_waiting(4) for _ in range(6)]
    await asyncio.gather(*(claim for pair in zip(batch_claims, single_claims[:6], strict=True) for claim in pair), *single_claims[6:])
    assert await manual_worker.running() == {ada_id: 3, bob_id: 5, admin_id: 12}


async def test_many_workers_at_once_start_exactly_as_many_as_a_queue_may(
    manual_worker: ManualWorker, monkeypatch: pytest.MonkeyPatch, ada: Client, bob: Client
) -> None:
    monkeypatch.setattr(state_settings(), "queue_concurrency_limits", {QUEUE: 4})
    submitted = [job for user in (await user_id(ada), await user_id(bob)) for job in await manual_worker.submit(user, 6)]
    await asyncio.gather(
        *(manual_worker.claim(job_id) for job_id in submitted), manual_worker.claim_waiting(8), manual_worker.claim_waiting(8)
    )
    assert sum((await manual_worker.running()).values()) == 4
    last, elsewhere = await manual_worker.submit(await user_id(ada)), await manual_worker.submit(await user_id(ada), queue="beside")
    assert [reason for reason, _ in await queue_places(ada, *last)] == ["CONCURRENCY"]
    assert await manual_worker.claim(elsewhere[0])


async def test_the_dispatcher_passes_over_those_whose_owner_has_enough(
    manual_worker: ManualWorker, concurrency_limits: pytest.MonkeyPatch, ada: Client, bob: Client
) -> None:
    ada_id, bob_id = await user_id(ada), await user_id(bob)
    urgent = await manual_worker.submit(ada_id, 6, priority=10)
    (modest,) = await manual_worker.submit(bob_id, priority=1)
    assert await manual_worker.dispatch() == [*urgent[:3], modest]
    assert await queue_places(ada, *urgent) == [
        ("QUEUE", 1),
        ("QUEUE", 2),
        ("QUEUE", 3),
        ("CONCURRENCY", 5),
        ("CONCURRENCY", 6),
        ("CONCURRENCY", 7),
    ]
    assert await queue_places(bob, modest) == [("QUEUE", 4)]
    for job_id in urgent[:3]:
        assert await manual_worker.claim(job_id)
    assert await manual_worker.dispatch() == []
    assert await queue_places(bob, modest) == [("QUEUE", 1)]
    assert await queue_places(ada, *urgent[3:]) == [("CONCURRENCY", 2), ("CONCURRENCY", 3), ("CONCURRENCY", 4)]
    assert await manual_worker.claim_waiting(4) == [modest]


async def test_the_next_of_an_owner_starts_when_one_has_ended_and_not_while_it_is_being_stopped(
    manual_worker: ManualWorker, concurrency_limits: pytest.MonkeyPatch, ada: Client
) -> None:
    running, waiting = (submitted := await manual_worker.submit(await user_id(ada), 4))[:3], submitted[3]
    for job_id in running:
        assert await manual_worker.claim(job_id)
    async with manual_worker.database.work(SYSTEM) as work:
        assert await jobs.cancel(work, running[0]) is JobStatus.CANCELLING
    assert not await manual_worker.claim(waiting)
    assert await queue_places(ada, waiting) == [("CONCURRENCY", 1)]
    await manual_worker.complete(running[1])
    assert await queue_places(ada, waiting) == [("QUEUE", 1)]
    assert await manual_worker.dispatch() == [waiting]
    assert await manual_worker.claim(waiting)


async def test_one_that_was_dispatched_and_refused_is_dispatched_again_as_soon_as_there_is_room(
    manual_worker: ManualWorker, concurrency_limits: pytest.MonkeyPatch, ada: Client
) -> None:
    ada_id = await user_id(ada)
    here, elsewhere = await manual_worker.submit(ada_id, 1), await manual_worker.submit(ada_id, 3, queue="beside")
    assert await manual_worker.dispatch() == here
    for job_id in elsewhere:
        assert await manual_worker.claim(job_id)
    assert not await manual_worker.claim(here[0])
    assert await manual_worker.dispatch() == []
    await manual_worker.complete(elsewhere[0])
    assert await manual_worker.dispatch() == here  # though the first notice is less than five seconds old


async def test_a_queue_that_nobody_serves_holds_back_no_other(
    manual_worker: ManualWorker, concurrency_limits: pytest.MonkeyPatch, ada: Client
) -> None:
    ada_id = await user_id(ada)
    stuck = await manual_worker.submit(ada_id, 3, priority=10, queue="nobody's")
    (free,) = await manual_worker.submit(ada_id)
    assert await queue_places(ada, *stuck, free) == [("NO_WORKER", 1), ("NO_WORKER", 2), ("NO_WORKER", 3), ("QUEUE", 1)]
    assert await manual_worker.dispatch() == [free]


async def test_every_priority_has_its_place_and_they_start_in_that_order(manual_worker: ManualWorker, ada: Client) -> None:
    ada_id = await user_id(ada)
    by_priority = {priority: (await manual_worker.submit(ada_id, priority=priority))[0] for priority in (3, 8, 1, 10, 5, 2, 7, 9, 4, 6)}
    highest_first = [by_priority[priority] for priority in range(10, 0, -1)]
    places = [place for _, place in await queue_places(ada, *highest_first)]
    assert places == list(range(1, 11))
    assert await manual_worker.dispatch() == highest_first[:8]  # the default concurrency limit of this tier
    async with manual_worker.database.work(SYSTEM) as work:
        aged = update(Job).where(Job.id == by_priority[1]).values(waiting_since=func.now() - func.make_interval(0, 0, 0, 0, 0, 51))
        await work.run(aged)
    assert (await queue_places(ada, by_priority[1], by_priority[10])) == [("QUEUE", 1), ("QUEUE", 2)]
    assert await manual_worker.claim_waiting(3) == [by_priority[1], by_priority[10], by_priority[9]]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("RUNNING_PER_QUEUE", '{"vidoe": 2}', "There is no queue 'vidoe'. The queues are default, upload, text,"),
        ("RUNNING_PER_USER", '{"gold": 2}', "There is no tier 'gold'. The tiers are free, pro, enterprise."),
    ],
)
def test_a_limit_for_what_there_is_not_is_refused_at_the_start(settings: StateSettings, name: str, value: str, says: str) -> None:
    command = [sys.executable, "-m", "server.cli", "worker"]
    completed = subprocess.run(command, env={**os.environ, f"TRELLIS_{name}": value}, capture_output=True, text=True, check=False)
    assert completed.returncode == 2
    assert completed.stderr.startswith(f"TRELLIS_{name}: {says}")


async def test_what_every_worker_asks_each_second_reads_none_of_the_jobs_that_have_ended(
    manual_worker: ManualWorker, capture_statements: Callable[[], AbstractContextManager[list[str]]]
) -> None:
    """The generic plan, which does not know the parameters, must not read them either."""
    with capture_statements() as sent:
        await jobs.poll(manual_worker.database, [QUEUE], 5.0)
    query = re.sub(
        r"\$\d+::([\w ]+(\[\])?)", r"(SELECT NULL::\1)::\1", sent[0]
    )  # an expression unknown at planning time, like a parameter of a generic plan
    async with manual_worker.database.session() as connection:
        await connection.exec_driver_sql("SET enable_seqscan = off")
        plan = (await connection.exec_driver_sql(f"EXPLAIN {query}")).scalars().all()
        await connection.exec_driver_sql("RESET enable_seqscan")
    scans = list(zip(plan, [*plan[1:], ""], strict=True))
    used_indexes = {
        (index, "Index Cond: " in after and "status = ANY" in after) for line, after in scans for index in re.findall(r"ix_jobs_\w+", line)
    }
    # The planner may choose any index that excludes ended jobs, or looks up the states of the others.
    assert used_indexes
    without_ended = {"ix_jobs_waiting", "ix_jobs_leased", "ix_jobs_unfinished_dataset"}
    assert [index for index, is_by_state in used_indexes if index not in without_ended and not is_by_state] == []
