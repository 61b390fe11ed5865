"""arq only carries dispatch notices: its own ordering, clocks and job results have no influence, and full queues starve none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import arq.worker
import orjson
import pytest
from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix, job_key_prefix, result_key_prefix, retry_key_prefix

from db.core.viewer import SYSTEM
from db.services import jobs
from db.services.jobs import DispatchNotice
from db.settings import StateSettings
from db.stores import queue
from db.stores.redis import connect
from db.tables.jobstates import JobStatus
from tests.workers.worker_harness import WorkerHarness, eventually
from workers.runtime.dispatch_listener import DispatchListener


class QueueDriver:
    """Reads one queue and only records the notices."""

    def __init__(self, redis: ArqRedis) -> None:
        self.redis: Any = redis
        self.name = f"test-{uuid4()}"
        self.dispatched: list[UUID] = []
        self.reader = queue.QueueReader(redis, self.name, self._record, 8)

    async def _record(self, ctx: dict[Any, Any], job_id: str) -> None:
        self.dispatched.append(UUID(job_id))

    async def notify(self, *dispatches: tuple[UUID, int]) -> None:
        await queue.enqueue(self.redis, self.name, dispatches)

    async def add_orphans(self, count: int, *, in_progress: bool) -> None:
        """Add entries without a job ahead of all others; those in progress were taken by workers that then died."""
        pipe = self.redis.pipeline()
        for _ in range(count):
            entry = f"{uuid4().hex}:1"
            pipe.zadd(queue.PREFIX + self.name, {entry: 1})
            if in_progress:
                pipe.psetex(in_progress_key_prefix + entry, 13_000, b"1")
        await pipe.execute()

    async def keys_naming(self, job_id: UUID) -> list[str]:
        """Return the Redis keys that contain the job's id."""
        keys = [key.decode() async for key in self.redis.scan_iter(f"*{job_id.hex}*")]
        entries = [entry for entry in await queue.list_entries(self.redis, self.name) if job_id.hex in entry]
        return sorted(keys + entries)


class ListenerDriver:
    """Simulates a worker's claims: each takes a slot for a moment."""

    def __init__(self, redis_url: str, *queues: str, slots: int = 1) -> None:
        self.dispatched: list[UUID] = []
        self.free_slots = 0
        self.listener = DispatchListener(redis_url, queues, slots, lambda: self.free_slots, self._claim, self._current_dispatches)

    async def _claim(self, job_id: UUID) -> None:
        self.free_slots -= 1
        self.dispatched.append(job_id)
        asyncio.get_running_loop().call_later(0.005, self.release)

    def release(self) -> None:
        self.free_slots += 1
        self.listener.wake()

    async def _current_dispatches(self, job_ids: Sequence[UUID]) -> set[tuple[UUID, int]]:
        return {(job_id, 1) for job_id in job_ids}

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        listener_task = asyncio.create_task(self.listener.run())
        try:
            await eventually(self.is_connected)
            yield
        finally:
            while not listener_task.done():  # a client that loses its connection at that moment may swallow the cancellation
                listener_task.cancel()
                await asyncio.wait([listener_task], timeout=0.5)

    async def is_connected(self) -> bool:
        return self.listener.is_connected


@pytest.fixture
async def queue_driver(settings: StateSettings) -> AsyncGenerator[QueueDriver]:
    redis = queue.connect(settings.redis_url)
    yield QueueDriver(redis)
    await redis.aclose(close_connection_pool=True)


async def test_jobs_dispatched_together_are_claimed_in_that_order(queue_driver: QueueDriver) -> None:
    job_ids = sorted((uuid4() for _ in range(20)), reverse=True)
    await queue_driver.notify(*[(job_id, 1) for job_id in job_ids[:12]])
    await queue_driver.notify(*[(job_id, 1) for job_id in job_ids[12:]])
    while await queue_driver.reader.poll(1):
        pass
    assert queue_driver.dispatched == job_ids


@pytest.mark.parametrize("hidden", [True, False])
async def test_a_hundred_and_fifty_orphans_at_the_head_stop_nobody(queue_driver: QueueDriver, hidden: bool) -> None:
    await queue_driver.add_orphans(150, in_progress=hidden)
    job_id = uuid4()
    await queue_driver.notify((job_id, 1))
    while not queue_driver.dispatched:
        assert await queue_driver.reader.poll(2)
    assert queue_driver.dispatched == [job_id]


@pytest.mark.parametrize("count", [1, 4])
async def test_what_was_dispatched_first_is_claimed_first_in_whichever_queue_it_lies(settings: StateSettings, count: int) -> None:
    busy, other = f"a-{uuid4()}", f"b-{uuid4()}"
    driver = ListenerDriver(settings.redis_url, busy, other, slots=count)
    async with driver.running():
        dispatches = [DispatchNotice(busy if index % 10 else other, uuid4(), 1) for index in range(41)]
        for dispatch in dispatches:
            await driver.listener.notify([dispatch])
        for _ in range(count):
            driver.release()

        async def all_answered() -> bool:
            return len(driver.dispatched) == len(dispatches)

        await eventually(all_answered)
    index_by_job = {dispatch.job_id: index for index, dispatch in enumerate(dispatches)}
    assert max(abs(index_by_job[job_id] - index) for index, job_id in enumerate(driver.dispatched)) < count


async def test_what_is_hidden_at_the_head_of_one_queue_keeps_nobody_from_the_others(
    settings: StateSettings, queue_driver: QueueDriver
) -> None:
    other = f"b-{uuid4()}"
    driver = ListenerDriver(settings.redis_url, queue_driver.name, other)
    async with driver.running():
        await queue_driver.add_orphans(30, in_progress=True)
        first, second, third = (DispatchNotice(queue, uuid4(), 1) for queue in (other, queue_driver.name, other))
        for dispatch in (first, second, third):
            await driver.listener.notify([dispatch])
        driver.release()

        async def all_answered() -> bool:
            return len(driver.dispatched) == 3

        await eventually(all_answered)
    assert driver.dispatched.index(first.job_id) < driver.dispatched.index(third.job_id)


async def test_one_dispatch_that_fails_disconnects_the_listener_for_a_moment_only(settings: StateSettings) -> None:
    """Redis refuses one write; everything else works."""
    name = f"a-{uuid4()}"
    driver = ListenerDriver(settings.redis_url, name)
    redis: Any = connect(settings.redis_url)
    async with redis, driver.running():
        await redis.set(queue.PREFIX + name, b"not a queue")
        assert not await driver.listener.notify([DispatchNotice(name, uuid4(), 1)])
        await redis.delete(queue.PREFIX + name)
        await eventually(driver.is_connected)
        driver.release()
        dispatch = DispatchNotice(name, uuid4(), 1)
        assert await driver.listener.notify([dispatch])

        async def answered() -> bool:
            return driver.dispatched == [dispatch.job_id]

        await eventually(answered)


@pytest.mark.parametrize("off", [-90_000, 90_000])
async def test_a_clock_that_is_off_hides_no_dispatch(queue_driver: QueueDriver, monkeypatch: pytest.MonkeyPatch, off: int) -> None:
    monkeypatch.setattr(arq.worker, "timestamp_ms", lambda: int(time.time() * 1000) + off)
    job_id = uuid4()
    await queue_driver.notify((job_id, 1))
    assert await queue_driver.reader.poll(1) == 1
    assert queue_driver.dispatched == [job_id]


async def test_a_dispatch_is_plain_json_and_claiming_it_leaves_nothing(queue_driver: QueueDriver) -> None:
    job_id = uuid4()
    await queue_driver.notify((job_id, 3))
    assert await queue_driver.keys_naming(job_id) == sorted([f"{job_key_prefix}{job_id.hex}:3", f"{job_id.hex}:3"])
    body = orjson.loads(await queue_driver.redis.get(f"{job_key_prefix}{job_id.hex}:3"))
    assert (body["f"], body["a"], body["k"]) == ("ring", [job_id.hex], {})
    await queue_driver.reader.poll(1)
    assert await queue_driver.keys_naming(job_id) == []
    await queue_driver.notify((job_id, 3))  # arq would refuse the id if it kept a result
    assert await queue_driver.reader.poll(1) == 1


async def test_a_dispatch_that_is_withdrawn_leaves_nothing_of_what_arq_keeps(queue_driver: QueueDriver) -> None:
    job_id = uuid4()
    await queue_driver.notify((job_id, 1), (job_id, 2))
    for prefix in (in_progress_key_prefix, retry_key_prefix):
        await queue_driver.redis.set(f"{prefix}{job_id.hex}:1", b"1")
    assert len(await queue_driver.keys_naming(job_id)) == 6
    await queue.remove(queue_driver.redis, queue_driver.name, [f"{job_id.hex}:1", f"{job_id.hex}:2"])
    assert await queue_driver.keys_naming(job_id) == []
    assert not await queue_driver.redis.exists(f"{result_key_prefix}{job_id.hex}:1")


async def test_redis_names_no_job_that_was_cancelled_while_it_waited(harness: WorkerHarness, queue_driver: QueueDriver) -> None:
    queue_driver.name = harness.queue
    await harness.start_worker(SLOTS="1")
    await harness.wait_for_starts(await harness.submit("long"))
    waiting = await harness.submit("quick")
    await queue_driver.notify((waiting, 1))
    async with harness.database.work(SYSTEM) as work:
        assert await jobs.cancel(work, waiting) is JobStatus.CANCELLED

    async def is_forgotten() -> bool:
        return not await queue_driver.keys_naming(waiting)

    await eventually(is_forgotten)


@pytest.mark.exhaustive
async def test_dispatches_of_jobs_that_have_ended_are_withdrawn_although_no_slot_is_free(
    harness: WorkerHarness, queue_driver: QueueDriver
) -> None:
    queue_driver.name = harness.queue
    await harness.start_worker(SLOTS="1")
    ended = await harness.submit("quick")
    await harness.wait_for_status(ended, JobStatus.COMPLETED)
    running = await harness.submit("long")
    await harness.wait_for_starts(running)
    await queue_driver.notify((ended, 9), (running, 9))
    await queue_driver.add_orphans(3, in_progress=True)

    async def empty() -> bool:
        return not await queue.list_entries(queue_driver.redis, queue_driver.name)

    await eventually(empty)
    assert (await harness.job(running)).status is JobStatus.RUNNING


@pytest.mark.exhaustive
async def test_a_slot_that_frees_up_under_a_concurrency_limit_is_taken_at_once_by_another_queue(harness: WorkerHarness) -> None:
    """Polls are rare here, so that only the notice can be in time."""
    settings = {"TRELLIS_USER_CONCURRENCY_LIMITS": '{"free": 1}', "POLL_INTERVAL": "30", "SLOTS": "2"}
    queues = (harness.queue, f"test-{uuid4()}")
    for harness.queue in queues:
        await harness.start_worker(**settings)
    first = await harness.submit("hold_gil", seconds=2.0)
    await harness.wait_for_starts(first)
    harness.queue = queues[0]
    second = await harness.submit("quick")
    await asyncio.sleep(0.5)
    assert (await harness.job(second)).status is JobStatus.PENDING
    await harness.wait_for_status(first, JobStatus.COMPLETED)
    await harness.wait_for_status(second, JobStatus.COMPLETED)
