"""Dispatch through ARQ: an entry of a queue tells workers to claim a job's row, and carries its id alone.

What arq 0.28 does by default and is turned off here: it pickles, keeps results (and then refuses an id it has seen), retries, and hides an
entry of a vanished worker for its job timeout.
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

from db.core.queues import entry_id

logging.getLogger("arq").setLevel(logging.WARNING)  # it logs two lines an entry, and an entry is not the work

PREFIX = "trellis:queue:"
FUNCTION_NAME = "ring"

CLAIM_TIMEOUT = 3.0  # seconds (arq adds 10) for which an entry stays hidden whose worker vanished between taking it and claiming the job
EXPIRES_MS = 3_600_000  # an entry that no worker took for so long is dropped; the dispatcher has enqueued the job again long before
READ_LIMIT = 100  # entries of a queue that arq reads at a time
MAX_CLOCK_SKEW_MS = 3_600_000  # arq skips entries later than the reader's own clock: no worker's clock is as slow as that
TIDY_LIMIT = 1_000  # entries of a queue that are compared with their jobs at a time


def connect(redis_url: str) -> ArqRedis:
    """Return a client that enqueues and reads. The caller closes it."""
    pool: ConnectionPool = ConnectionPool.from_url(redis_url, socket_timeout=2.0, socket_connect_timeout=1.0)  # pyright: ignore[reportUnknownMemberType] - redis types its keyword arguments thinly
    return ArqRedis(pool, job_serializer=orjson.dumps, job_deserializer=orjson.loads, expires_extra_ms=EXPIRES_MS)


async def enqueue(redis: ArqRedis, queue: str, dispatches: Sequence[tuple[UUID, int]]) -> None:
    """Enqueue the jobs for the workers of the queue. A repeated (job, dispatch number) is one entry."""
    # What `enqueue_job` writes, without its four commands an entry: the dispatch number makes each id new. Redis's own clock orders the
    # entries, whichever process enqueues, and a fraction of a millisecond keeps the order of those that are enqueued together.
    client: Any = redis
    seconds, microseconds = await client.time()
    first_score = seconds * 1000 + microseconds / 1000 - MAX_CLOCK_SKEW_MS
    pipe: Any = redis.pipeline(transaction=True)
    now = timestamp_ms()
    for position, (job_id, dispatch_no) in enumerate(dispatches):
        entry = entry_id(job_id, dispatch_no)
        pipe.psetex(job_key_prefix + entry, EXPIRES_MS, serialize_job(FUNCTION_NAME, (job_id.hex,), {}, None, now, serializer=orjson.dumps))
        pipe.zadd(PREFIX + queue, {entry: first_score + position / 1000})
    await pipe.execute()


async def next_counts(redis: ArqRedis, queues: Sequence[str], count: int) -> dict[str, int]:
    """Return how many of the next `count` entries of all these queues together, the oldest first, lie in each. Empty queues are left out.

    Hidden entries, which another worker has taken, are not counted. Where all that is read of a queue is hidden, there may be more behind.
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
    """Return the oldest thousand entries of the queue, each as `enqueue` wrote it."""
    client: Any = redis
    return [entry.decode() for entry in await client.zrange(PREFIX + queue, 0, TIDY_LIMIT - 1)]


def parse_entry(entry: str) -> tuple[UUID, int] | None:
    """Return the job and the dispatch number of an entry; None for one that `enqueue` never wrote."""
    job, _, dispatch_no = entry.partition(":")
    try:
        return UUID(job), int(dispatch_no)
    except ValueError:
        return None


async def remove(redis: ArqRedis, queue: str, entries: Sequence[str]) -> None:
    """Remove entries, and all that arq keeps about them. Entries that are gone already are no error."""
    if entries:
        pipe: Any = redis.pipeline(transaction=True)
        pipe.zrem(PREFIX + queue, *entries)
        pipe.delete(*(prefix + entry for entry in entries for prefix in (job_key_prefix, in_progress_key_prefix, retry_key_prefix)))
        await pipe.execute()


class QueueReader(Worker):
    """arq's reader of one queue, called from outside: it has no loop, no signal handlers and no slots of its own."""

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
        """Handle at most `free` entries from the head of the queue and return how many; they are removed when this returns.

        Where the head of the queue is all hidden (taken by workers that vanished), the entries behind it are read.
        """
        self.max_jobs = free
        for offset in range(0, await self.pool.zcard(self.queue_name), READ_LIMIT):
            self._queue_read_offset = offset
            self._started_tasks = []
            await self._poll_iteration()
            self.tasks.clear()
            outcomes = await asyncio.gather(
                *self._started_tasks, return_exceptions=True
            )  # all of them: an error must not leave others unobserved
            for error in (outcome for outcome in outcomes if isinstance(outcome, BaseException)):
                raise error
            if self._started_tasks:
                return len(self._started_tasks)
        return 0

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        """Start one handler for each free slot and no more.

        arq counts only handlers that have not ended, but a handler ends with the claim, which keeps its slot. An entry without a slot would
        be spent, and its job would wait until it is dispatched again. arq forgets handlers that end at once, so their tasks are kept here.
        """
        for job_id in job_ids:
            if len(self.tasks) >= self.max_jobs:
                break
            await super().start_jobs([job_id])
        self._started_tasks = list[Any](self.tasks.values())
