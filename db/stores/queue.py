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
FUNCTION_NAME = "ring"

CLAIM_TIMEOUT = (
    3.0  # seconds (arq adds 10) for which an entry whose worker vanished between taking it and claiming the job stays out of sight
)
EXPIRES_MS = 3_600_000  # an entry that nobody answered for so long is dropped; the dispatcher has rung again long before
READ_LIMIT = 100  # entries of a queue that arq reads at a time
MAX_CLOCK_SKEW_MS = 3_600_000  # arq passes over entries that are later than the reader's own clock: no worker's is as slow as that
TIDY_LIMIT = 1_000  # entries of a queue that are compared with their jobs at a time


def connect(redis_url: str) -> ArqRedis:
    """A client that both rings and answers; closing it is the caller's."""
    pool: ConnectionPool = ConnectionPool.from_url(redis_url, socket_timeout=2.0, socket_connect_timeout=1.0)  # pyright: ignore[reportUnknownMemberType] - redis types its keyword arguments thinly
    return ArqRedis(pool, job_serializer=orjson.dumps, job_deserializer=orjson.loads, expires_extra_ms=EXPIRES_MS)


async def enqueue(redis: ArqRedis, queue: str, dispatches: Sequence[tuple[UUID, int]]) -> None:
    """Invite whoever serves the queue to each of the jobs. A repeated (job, dispatch number) is one entry."""
    # What `enqueue_job` writes, without its four questions an entry: the dispatch number makes each id new. Redis's own clock orders the
    # entries, whichever worker rings, and a fraction of a millisecond keeps the order of those that are rung together.
    client: Any = redis
    seconds, microseconds = await client.time()
    first_score = seconds * 1000 + microseconds / 1000 - MAX_CLOCK_SKEW_MS
    pipe: Any = redis.pipeline(transaction=True)
    now = timestamp_ms()
    for position, (job_id, dispatch_no) in enumerate(dispatches):
        entry = _entry_id(job_id, dispatch_no)
        pipe.psetex(job_key_prefix + entry, EXPIRES_MS, serialize_job(FUNCTION_NAME, (job_id.hex,), {}, None, now, serializer=orjson.dumps))
        pipe.zadd(PREFIX + queue, {entry: first_score + position / 1000})
    await pipe.execute()


async def next_counts(redis: ArqRedis, queues: Sequence[str], count: int) -> dict[str, int]:
    """Of the next `count` invitations of all these queues together, those rung first, how many lie in each. A queue with none is left out.

    One that was taken by somebody else and is hidden is not counted. Where all that is read of a queue is hidden, there may be more behind.
    """
    pipe: Any = redis.pipeline(transaction=False)
    for queue in queues:
        pipe.zrange(PREFIX + queue, 0, count - 1, withscores=True)
    heads = dict(zip(queues, await pipe.execute(), strict=True))
    entries = [entry for head in heads.values() for entry, _ in head]
    client: Any = redis
    in_progress: list[bytes | None] = await client.mget([in_progress_key_prefix + entry.decode() for entry in entries]) if entries else []
    hidden = {entry for entry, holder in zip(entries, in_progress, strict=True) if holder is not None}
    ordered: list[tuple[float, str]] = []
    for queue, head in heads.items():
        visible = [(score, queue) for entry, score in head if entry not in hidden]
        ordered += visible or [(score, queue) for _, score in head[-1:]]
    ordered.sort()
    return {queue: sum(queue == name for _, name in ordered[:count]) for queue, head in heads.items() if head}


async def list_entries(redis: ArqRedis, queue: str) -> list[str]:
    """The entries of the queue, the oldest thousand of them: each `(job, dispatch number)` as `ring` wrote it."""
    client: Any = redis
    return [entry.decode() for entry in await client.zrange(PREFIX + queue, 0, TIDY_LIMIT - 1)]


def parse_entry(entry: str) -> tuple[UUID, int] | None:
    """The job and the dispatch number that an entry stands for; None for what `ring` never wrote."""
    job, _, dispatch_no = entry.partition(":")
    try:
        return UUID(job), int(dispatch_no)
    except ValueError:
        return None


async def remove(redis: ArqRedis, queue: str, entries: Sequence[str]) -> None:
    """Take invitations back, and all that arq keeps about them. What is gone already counts as taken back."""
    if entries:
        pipe: Any = redis.pipeline(transaction=True)
        pipe.zrem(PREFIX + queue, *entries)
        pipe.delete(*(prefix + entry for entry in entries for prefix in (job_key_prefix, in_progress_key_prefix, retry_key_prefix)))
        await pipe.execute()


def _entry_id(job_id: UUID, dispatch_no: int) -> str:
    return f"{job_id.hex}:{dispatch_no}"


class QueueReader(Worker):
    """arq's reader of one queue, driven from outside: it has no loop, no signal handlers and no slots of its own."""

    def __init__(self, redis: ArqRedis, queue: str, handler: WorkerCoroutine, slots: int) -> None:
        super().__init__(
            [func(handler, name=FUNCTION_NAME)],
            queue_name=PREFIX + queue,
            redis_pool=redis,
            handle_signals=False,
            max_jobs=slots,
            job_timeout=CLAIM_TIMEOUT,
            keep_result=0,
            max_tries=1,
            queue_read_limit=READ_LIMIT,
            health_check_interval=3600,
            job_serializer=orjson.dumps,
            job_deserializer=orjson.loads,
            log_results=False,
        )
        self._started_tasks: list[Any] = []

    async def poll(self, free: int) -> int:
        """Answer at most `free` invitations, those at the head of the queue first, and say how many; they are gone when this returns.

        Where the head of the queue is all hidden (taken by workers that vanished), what stands behind it is read.
        """
        self.max_jobs = free
        for offset in range(0, await self.pool.zcard(self.queue_name), READ_LIMIT):
            self._queue_read_offset = offset
            self._started_tasks = []
            await self._poll_iteration()
            self.tasks.clear()
            outcomes = await asyncio.gather(*self._started_tasks, return_exceptions=True)  # all, for of each somebody must hear how it went
            for error in (outcome for outcome in outcomes if isinstance(outcome, BaseException)):
                raise error
            if self._started_tasks:
                return len(self._started_tasks)
        return 0

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        """As many as there are slots, and no more: arq counts those alone that have not ended, and an answer ends with the claim, which keeps
        its slot. An invitation that finds none is spent, and its job would wait until it is rung for again. Those that end at once, arq forgets."""
        for job_id in job_ids:
            if len(self.tasks) >= self.max_jobs:
                break
            await super().start_jobs([job_id])
        self._started_tasks = list[Any](self.tasks.values())
