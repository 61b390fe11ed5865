"""ARQ as the doorbell: an entry invites workers to look at a job's row, and carries its id alone.

What arq 0.28 does by itself and is turned off here: it pickles, keeps results (and then refuses an id it has seen), tries again, and keeps
an entry of a vanished worker hidden for its job timeout.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson
from arq import Worker, func
from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix, job_key_prefix, retry_key_prefix
from arq.jobs import serialize_job
from arq.typing import WorkerCoroutine
from arq.utils import timestamp_ms
from redis.asyncio import ConnectionPool

logging.getLogger("arq").setLevel(logging.WARNING)  # two lines a ring, and a ring is not the work

PREFIX = "trellis:queue:"
RING = "ring"

HIDDEN = 3.0  # seconds (arq adds 10) for which an entry whose worker vanished between taking it and claiming the job stays out of sight
EXPIRES_MS = 3_600_000  # an entry that nobody answered for so long is dropped; the dispatcher has rung again long before
READ = 100  # entries of a queue that arq reads at a time
LONG_AGO_MS = 3_600_000  # arq passes over entries that are later than the reader's own clock: no worker's is as slow as that
TIDIED = 1_000  # entries of a queue that are compared with their jobs at a time


def connect(redis_url: str) -> ArqRedis:
    """A client that both rings and answers; closing it is the caller's."""
    pool: ConnectionPool = ConnectionPool.from_url(redis_url, socket_timeout=2.0, socket_connect_timeout=1.0)  # pyright: ignore[reportUnknownMemberType] - redis types its keyword arguments thinly
    return ArqRedis(pool, job_serializer=orjson.dumps, job_deserializer=orjson.loads, expires_extra_ms=EXPIRES_MS)


async def ring(redis: ArqRedis, queue: str, rings: Sequence[tuple[UUID, int]]) -> None:
    """Invite whoever serves the queue to each of the jobs. A repeated (job, dispatch number) is one entry."""
    # What `enqueue_job` writes, without its four questions an entry: the dispatch number makes each id new. Redis's own clock orders the
    # entries, whichever worker rings, and a fraction of a millisecond keeps the order of those that are rung together.
    client: Any = redis
    seconds, microseconds = await client.time()
    first = seconds * 1000 + microseconds / 1000 - LONG_AGO_MS
    pipe: Any = redis.pipeline(transaction=True)
    now = timestamp_ms()
    for place, (job_id, dispatch_no) in enumerate(rings):
        entry = _entry(job_id, dispatch_no)
        pipe.psetex(job_key_prefix + entry, EXPIRES_MS, serialize_job(RING, (job_id.hex,), {}, None, now, serializer=orjson.dumps))
        pipe.zadd(PREFIX + queue, {entry: first + place / 1000})
    await pipe.execute()


async def shares(redis: ArqRedis, queues: Sequence[str], count: int) -> dict[str, int]:
    """Of the next `count` invitations of all these queues together, those rung first, how many lie in each. A queue with none is left out.

    One that was taken by somebody else and is hidden is not counted. Where all that is read of a queue is hidden, there may be more behind.
    """
    pipe: Any = redis.pipeline(transaction=False)
    for queue in queues:
        pipe.zrange(PREFIX + queue, 0, count - 1, withscores=True)
    heads = dict(zip(queues, await pipe.execute(), strict=True))
    entries = [entry for head in heads.values() for entry, _ in head]
    client: Any = redis
    taken: list[bytes | None] = await client.mget([in_progress_key_prefix + entry.decode() for entry in entries]) if entries else []
    hidden = {entry for entry, by in zip(entries, taken, strict=True) if by is not None}
    first: list[tuple[float, str]] = []
    for queue, head in heads.items():
        seen = [(score, queue) for entry, score in head if entry not in hidden]
        first += seen or [(score, queue) for _, score in head[-1:]]
    first.sort()
    return {queue: sum(queue == name for _, name in first[:count]) for queue, head in heads.items() if head}


async def invitations(redis: ArqRedis, queue: str) -> list[str]:
    """The entries of the queue, the oldest thousand of them: each `(job, dispatch number)` as `ring` wrote it."""
    client: Any = redis
    return [entry.decode() for entry in await client.zrange(PREFIX + queue, 0, TIDIED - 1)]


def named(entry: str) -> tuple[UUID, int] | None:
    """The job and the dispatch number that an entry stands for; None for what `ring` never wrote."""
    job, _, dispatch_no = entry.partition(":")
    try:
        return UUID(job), int(dispatch_no)
    except ValueError:
        return None


async def withdraw(redis: ArqRedis, queue: str, entries: Sequence[str]) -> None:
    """Take invitations back, and all that arq keeps about them. What is gone already counts as taken back."""
    if entries:
        pipe: Any = redis.pipeline(transaction=True)
        pipe.zrem(PREFIX + queue, *entries)
        pipe.delete(*(prefix + entry for entry in entries for prefix in (job_key_prefix, in_progress_key_prefix, retry_key_prefix)))
        await pipe.execute()


def _entry(job_id: UUID, dispatch_no: int) -> str:
    return f"{job_id.hex}:{dispatch_no}"


class Bell(Worker):
    """arq's reader of one queue, driven from outside: it has no loop, no signal handlers and no slots of its own."""

    def __init__(self, redis: ArqRedis, queue: str, answer: WorkerCoroutine, slots: int) -> None:
        super().__init__(
            [func(answer, name=RING)],
            queue_name=PREFIX + queue,
            redis_pool=redis,
            handle_signals=False,
            max_jobs=slots,
            job_timeout=HIDDEN,
            keep_result=0,
            max_tries=1,
            queue_read_limit=READ,
            health_check_interval=3600,
            job_serializer=orjson.dumps,
            job_deserializer=orjson.loads,
            log_results=False,
        )
        self._begun: list[Any] = []

    async def look(self, free: int) -> int:
        """Answer at most `free` invitations, those at the head of the queue first, and say how many; they are gone when this returns.

        Where the head of the queue is all hidden (taken by workers that vanished), what stands behind it is read.
        """
        self.max_jobs = free
        for offset in range(0, await self.pool.zcard(self.queue_name), READ):
            self._queue_read_offset = offset
            self._begun = []
            await self._poll_iteration()
            self.tasks.clear()
            outcomes = await asyncio.gather(*self._begun, return_exceptions=True)  # all, for of each somebody must hear how it went
            for lost in (outcome for outcome in outcomes if isinstance(outcome, BaseException)):
                raise lost
            if self._begun:
                return len(self._begun)
        return 0

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        """As many as there are slots, and no more: arq counts those alone that have not ended, and an answer ends with the claim, which keeps
        its slot. An invitation that finds none is spent, and its job would wait until it is rung for again. Those that end at once, arq forgets."""
        for job_id in job_ids:
            if len(self.tasks) >= self.max_jobs:
                break
            await super().start_jobs([job_id])
        self._begun = list[Any](self.tasks.values())
