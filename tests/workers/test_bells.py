"""arq rings the bell and nothing more: what it would do by itself to order, to clocks and to those behind a crowd does not happen."""

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
from db.services.jobs import Ring
from db.settings import StateSettings
from db.stores import queue
from db.stores.events import connect
from db.tables.jobstates import JobStatus
from tests.workers.stage import Stage, eventually
from workers.runtime.bells import Bells


class Ear:
    """Hears one queue, and answers with nothing but a note."""

    def __init__(self, redis: ArqRedis) -> None:
        self.redis: Any = redis
        self.name = f"test-{uuid4()}"
        self.answered: list[UUID] = []
        self.bell = queue.Bell(redis, self.name, self._answer, 8)

    async def _answer(self, ctx: dict[Any, Any], job_id: str) -> None:
        self.answered.append(UUID(job_id))

    async def ring(self, *rings: tuple[UUID, int]) -> None:
        await queue.ring(self.redis, self.name, rings)

    async def crowd(self, count: int, *, hidden: bool) -> None:
        """Invitations that lead to nothing, ahead of all others; hidden ones were taken by workers that died in that moment."""
        pipe = self.redis.pipeline()
        for _ in range(count):
            entry = f"{uuid4().hex}:1"
            pipe.zadd(queue.PREFIX + self.name, {entry: 1})
            if hidden:
                pipe.psetex(in_progress_key_prefix + entry, 13_000, b"1")
        await pipe.execute()

    async def names(self, job_id: UUID) -> list[str]:
        """The keys that name the job."""
        keys = [key.decode() async for key in self.redis.scan_iter(f"*{job_id.hex}*")]
        entries = [entry for entry in await queue.invitations(self.redis, self.name) if job_id.hex in entry]
        return sorted(keys + entries)


class Slots:
    """A worker's answers: each takes a slot for a moment."""

    def __init__(self, redis_url: str, *queues: str, slots: int = 1) -> None:
        self.answered: list[UUID] = []
        self.free = 0
        self.bells = Bells(redis_url, queues, slots, lambda: self.free, self._answer, self._invited)

    async def _answer(self, job_id: UUID) -> None:
        self.free -= 1
        self.answered.append(job_id)
        asyncio.get_running_loop().call_later(0.005, self.release)

    def release(self) -> None:
        self.free += 1
        self.bells.wake()

    async def _invited(self, job_ids: Sequence[UUID]) -> set[tuple[UUID, int]]:
        return {(job_id, 1) for job_id in job_ids}

    @asynccontextmanager
    async def answering(self) -> AsyncGenerator[None]:
        running = asyncio.create_task(self.bells.run())
        try:
            await eventually(self.sound)
            yield
        finally:
            while not running.done():  # a client that loses its connection at that moment may swallow the cancel
                running.cancel()
                await asyncio.wait([running], timeout=0.5)

    async def sound(self) -> bool:
        return self.bells.sound


@pytest.fixture
async def ear(settings: StateSettings) -> AsyncGenerator[Ear]:
    redis = queue.connect(settings.redis_url)
    yield Ear(redis)
    await redis.aclose(close_connection_pool=True)


async def test_those_that_are_rung_for_together_are_answered_in_that_order(ear: Ear) -> None:
    wanted = sorted((uuid4() for _ in range(20)), reverse=True)
    await ear.ring(*[(job_id, 1) for job_id in wanted[:12]])
    await ear.ring(*[(job_id, 1) for job_id in wanted[12:]])
    while await ear.bell.look(1):
        pass
    assert ear.answered == wanted


@pytest.mark.parametrize("hidden", [True, False])
async def test_a_hundred_and_fifty_orphans_at_the_head_stop_nobody(ear: Ear, hidden: bool) -> None:
    await ear.crowd(150, hidden=hidden)
    job_id = uuid4()
    await ear.ring((job_id, 1))
    while not ear.answered:
        assert await ear.bell.look(2)
    assert ear.answered == [job_id]


@pytest.mark.parametrize("count", [1, 4])
async def test_what_was_rung_first_is_answered_first_in_whichever_queue_it_lies(settings: StateSettings, count: int) -> None:
    busy, other = f"a-{uuid4()}", f"b-{uuid4()}"
    slots = Slots(settings.redis_url, busy, other, slots=count)
    async with slots.answering():
        rings = [Ring(busy if place % 10 else other, uuid4(), 1) for place in range(41)]
        for ring in rings:
            await slots.bells.ring([ring])
        for _ in range(count):
            slots.release()

        async def all_answered() -> bool:
            return len(slots.answered) == len(rings)

        await eventually(all_answered, within=10.0)
    places = {ring.job_id: place for place, ring in enumerate(rings)}
    assert max(abs(places[job_id] - place) for place, job_id in enumerate(slots.answered)) < count


async def test_what_is_hidden_at_the_head_of_one_queue_keeps_nobody_from_the_others(settings: StateSettings, ear: Ear) -> None:
    other = f"b-{uuid4()}"
    slots = Slots(settings.redis_url, ear.name, other)
    async with slots.answering():
        await ear.crowd(30, hidden=True)
        first, second, third = (Ring(queue, uuid4(), 1) for queue in (other, ear.name, other))
        for ring in (first, second, third):
            await slots.bells.ring([ring])
        slots.release()

        async def all_answered() -> bool:
            return len(slots.answered) == 3

        await eventually(all_answered, within=10.0)
    assert slots.answered.index(first.job_id) < slots.answered.index(third.job_id)


async def test_one_ring_that_fails_mutes_the_bell_for_a_moment_only(settings: StateSettings) -> None:
    """Redis refuses to write for that moment; everything else it answers as before."""
    name = f"a-{uuid4()}"
    slots = Slots(settings.redis_url, name)
    redis: Any = connect(settings.redis_url)
    async with redis, slots.answering():
        await redis.set(queue.PREFIX + name, b"not a queue")
        assert not await slots.bells.ring([Ring(name, uuid4(), 1)])
        await redis.delete(queue.PREFIX + name)
        await eventually(slots.sound, within=3.0)
        slots.release()
        ring = Ring(name, uuid4(), 1)
        assert await slots.bells.ring([ring])

        async def answered() -> bool:
            return slots.answered == [ring.job_id]

        await eventually(answered, within=3.0)


@pytest.mark.parametrize("off", [-90_000, 90_000])
async def test_a_clock_that_is_off_hides_no_invitation(ear: Ear, monkeypatch: pytest.MonkeyPatch, off: int) -> None:
    monkeypatch.setattr(arq.worker, "timestamp_ms", lambda: int(time.time() * 1000) + off)
    job_id = uuid4()
    await ear.ring((job_id, 1))
    assert await ear.bell.look(1) == 1
    assert ear.answered == [job_id]


async def test_an_invitation_is_plain_json_and_answering_it_leaves_nothing(ear: Ear) -> None:
    job_id = uuid4()
    await ear.ring((job_id, 3))
    assert await ear.names(job_id) == sorted([f"{job_key_prefix}{job_id.hex}:3", f"{job_id.hex}:3"])
    body = orjson.loads(await ear.redis.get(f"{job_key_prefix}{job_id.hex}:3"))
    assert (body["f"], body["a"], body["k"]) == ("ring", [job_id.hex], {})
    await ear.bell.look(1)
    assert await ear.names(job_id) == []
    await ear.ring((job_id, 3))  # a result that is kept would make arq refuse the id
    assert await ear.bell.look(1) == 1


async def test_an_invitation_that_is_taken_back_leaves_nothing_of_what_arq_keeps(ear: Ear) -> None:
    job_id = uuid4()
    await ear.ring((job_id, 1), (job_id, 2))
    for prefix in (in_progress_key_prefix, retry_key_prefix):
        await ear.redis.set(f"{prefix}{job_id.hex}:1", b"1")
    assert len(await ear.names(job_id)) == 6
    await queue.withdraw(ear.redis, ear.name, [f"{job_id.hex}:1", f"{job_id.hex}:2"])
    assert await ear.names(job_id) == []
    assert not await ear.redis.exists(f"{result_key_prefix}{job_id.hex}:1")


async def test_redis_names_no_job_that_was_cancelled_while_it_waited(stage: Stage, ear: Ear) -> None:
    ear.name = stage.queue
    await stage.start(SLOTS="1")
    await stage.begun(await stage.submit("long"))
    waiting = await stage.submit("quick")
    await ear.ring((waiting, 1))
    async with stage.database.work(SYSTEM) as work:
        assert await jobs.cancel(work, waiting) is JobStatus.CANCELLED

    async def forgotten() -> bool:
        return not await ear.names(waiting)

    await eventually(forgotten, within=10.0)


async def test_what_invites_to_jobs_that_have_ended_is_swept_although_no_slot_is_free(stage: Stage, ear: Ear) -> None:
    ear.name = stage.queue
    await stage.start(SLOTS="1")
    ended = await stage.submit("quick")
    await stage.reach(ended, JobStatus.COMPLETED)
    running = await stage.submit("long")
    await stage.begun(running)
    await ear.ring((ended, 9), (running, 9))
    await ear.crowd(3, hidden=True)

    async def empty() -> bool:
        return not await queue.invitations(ear.redis, ear.name)

    await eventually(empty, within=10.0)
    assert (await stage.job(running)).status is JobStatus.RUNNING


async def test_a_slot_that_frees_up_under_a_cap_is_taken_at_once_by_another_queue(stage: Stage) -> None:
    """Looks are rare here, so that only the nudge can be in time."""
    rare = {"TRELLIS_RUNNING_PER_USER": '{"free": 1}', "LOOK": "30", "SLOTS": "2"}
    queues = (stage.queue, f"test-{uuid4()}")
    for stage.queue in queues:
        await stage.start(**rare)
    first = await stage.submit("hold_the_lock", seconds=2.0)
    await stage.begun(first)
    stage.queue = queues[0]
    second = await stage.submit("quick")
    await asyncio.sleep(0.5)
    assert (await stage.job(second)).status is JobStatus.PENDING
    await stage.reach(first, JobStatus.COMPLETED)
    await stage.reach(second, JobStatus.COMPLETED, within=10.0)
