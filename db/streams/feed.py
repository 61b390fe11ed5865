"""The streams of a process: one reader of notices, one of events, and one reconciling statement a second for notices that Redis lost.

PostgreSQL holds the events. A notice says that a job has new ones; they are read once for all subscribers, many jobs in a statement.
Nothing is read while there are no subscribers.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Generator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self
from uuid import UUID

import orjson
import structlog
from sqlalchemy import BigInteger, Uuid, any_, func, literal, null, select, union_all
from sqlalchemy.dialects.postgresql import ARRAY

from db.core.viewer import Viewer
from db.core.work import Database
from db.streams import stream_metrics
from db.streams.job_tail import NEWER_EVENTS, Follower, Tail
from db.streams.job_watch import ChangeQueries, JobWatch
from db.streams.notices import EVENTS_CHANNEL, listen
from db.streams.sessions import LoadViewers, Session, Sessions
from db.streams.viewers import Viewers
from db.tables import Inbox, Job, Run, Study

log: structlog.stdlib.BoundLogger = structlog.get_logger()

RECONCILE_INTERVAL = 1.0  # seconds between two searches for notices that were lost
MAX_COMMIT_DELAY = timedelta(seconds=15)  # the longest time between the timestamp of a change and its commit
TAIL_RETENTION = 10.0  # seconds for which events are kept for followers that have not taken them
BATCH_SIZE = 500  # jobs whose events one statement reads
RETRY_DELAY = 0.2  # seconds before a failed read is retried
FAILURES_UNTIL_BROKEN = 3  # consecutive failures after which a part of the feed counts as broken
HEALTHY_AFTER = 5.0  # seconds without a failure after which a part counts as healthy

LoadVisibleJobs = Callable[[Database, Mapping[Viewer, Collection[UUID]]], Awaitable[Collection[tuple[Viewer, UUID]]]]


@dataclass(frozen=True)
class Revalidation:
    """How the rights of long-lived connections are revalidated, every `interval` seconds: the viewers, and the jobs that they may see."""

    load_viewers: LoadViewers
    load_visible_jobs: LoadVisibleJobs
    interval: float


class JobSignal:
    """Signals that a job has new events. Its holder reads them itself."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._event = asyncio.Event()

    def notify(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        """Wait for a signal since the last wait. Raises `SignedOut` when the session is over."""
        await self._event.wait()
        self._event.clear()
        self._session.check()


class Feed:
    """The streams of one process."""

    def __init__(self, redis_url: str, database: Database, revalidation: Revalidation, change_queries: ChangeQueries) -> None:
        self._redis_url = redis_url
        self._database = database
        self._revalidation = revalidation
        self._signals: dict[UUID, set[JobSignal]] = {}
        self._signalled_sequences: dict[UUID, int] = {}
        self._tails: dict[UUID, Tail] = {}
        self._due_jobs: deque[UUID] = deque()
        self._due_event = asyncio.Event()
        self._changed_since: datetime | None = None
        self._watching_since: float | None = None
        self._task: asyncio.Task[None] | None = None
        self._failures: dict[str, tuple[int, float]] = {}
        self.job_watch = JobWatch(database, change_queries)
        self.sessions = Sessions(database, revalidation.load_viewers, revalidation.interval)
        self.viewers = Viewers(database)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, redis_url: str, database: Database, revalidation: Revalidation, change_queries: ChangeQueries
    ) -> AsyncGenerator[Self]:
        """Run a feed until the block ends."""
        feed = cls(redis_url, database, revalidation, change_queries)
        task = feed._task = asyncio.create_task(feed.run(), name="feed")
        database.revalidation_listeners.append(feed.revalidate)
        try:
            yield feed
        finally:
            database.revalidation_listeners.remove(feed.revalidate)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def run(self) -> None:
        """Read, reconcile and revalidate until cancelled; wait for Redis or PostgreSQL while it is away."""
        parts = {
            "listen": self._listen,
            "read": self._read_due,
            "reconcile": self._reconcile_regularly,
            "revalidate": self._revalidate_regularly,
            "changes": self.job_watch.run,
            "sessions": self.sessions.run,
        }
        async with asyncio.TaskGroup() as tasks:
            for name, run_part in parts.items():
                tasks.create_task(self._supervise(name, run_part))

    @property
    def broken_parts(self) -> Collection[str]:
        """The parts that failed three times in a row, the last time a moment ago."""
        now = time.monotonic()
        names = [name for name, (times, last) in self._failures.items() if times >= FAILURES_UNTIL_BROKEN and now - last < HEALTHY_AFTER]
        return names if self._task is None or not self._task.done() else ["all of it"]

    async def _supervise(self, name: str, run_part: Callable[[], Awaitable[None]]) -> None:
        """Restart the part whenever it fails. It waits itself for a service that is away, so what gets here is a bug, which must not end all streams."""
        while True:
            started = time.monotonic()
            try:
                await run_part()
            except Exception:  # whatever it is, it must not end the feed: the part is restarted
                log.exception("feed_part_failed", part=name)
            now = time.monotonic()
            times, _ = self._failures.get(name, (0, now))
            self._failures[name] = (times + 1 if now - started < HEALTHY_AFTER else 1), now
            await asyncio.sleep(RETRY_DELAY)

    @contextmanager
    def follow(self, job_id: UUID, session: Session) -> Generator[Follower]:
        """Follow the events of one job: enter first, then read the rows, then call `mark_read`, then wait for events."""
        tail = self._tails.get(job_id)
        if tail is None:
            tail = self._tails[job_id] = Tail(job_id)
        follower = Follower(tail, session)
        tail.followers.add(follower)
        try:
            with session.on_end(follower.wake):
                yield follower
        finally:
            tail.followers.discard(follower)
            if not tail.followers and self._tails.get(job_id) is tail:
                del self._tails[job_id]

    def revalidate(self, user_ids: Collection[UUID]) -> None:
        """Look up the tokens of these users again, and revalidate their sessions: their keys or rights have changed."""
        self.viewers.forget(user_ids)
        self.sessions.revalidate(user_ids)

    def mark_read(self, job_id: UUID, sequence: int) -> None:
        """Note that a follower has read the rows up to `sequence`. The first such call is where the tail starts."""
        tail = self._tails[job_id]
        if tail.last is None:
            tail.last = sequence
            if tail.announced > sequence:
                self._schedule_read(tail)

    @contextmanager
    def signal(self, job_id: UUID, session: Session) -> Generator[JobSignal]:
        """Signal each new event of one job or study, each write to one external run, or each notification of one user: enter first, then read,
        then wait."""
        signal = JobSignal(session)
        self._signals.setdefault(job_id, set()).add(signal)
        try:
            with session.on_end(signal.notify):
                yield signal
        finally:
            signals = self._signals[job_id]
            signals.discard(signal)
            if not signals:
                del self._signals[job_id]
                self._signalled_sequences.pop(job_id, None)

    def _apply_notice(self, job_id: UUID, sequence: int) -> None:
        tail = self._tails.get(job_id)
        if tail is not None and sequence > tail.announced:
            tail.announced = sequence
            if tail.last is not None and sequence > tail.last:
                self._schedule_read(tail)
        if job_id in self._signals and sequence > self._signalled_sequences.get(job_id, 0):
            self._signalled_sequences[job_id] = sequence
            for signal in self._signals[job_id]:
                signal.notify()
        self.job_watch.notify(job_id, sequence)

    def _schedule_read(self, tail: Tail) -> None:
        self._due_jobs.append(tail.job_id)
        self._due_event.set()

    async def _listen(self) -> None:
        async with aclosing(listen(self._redis_url, EVENTS_CHANNEL)) as messages:
            async for message in messages:
                if message is None:
                    self.viewers.forget_all()
                    self.sessions.revalidate_all()  # events that were missed meanwhile are found by reconciling within a second
                    continue
                try:
                    payload = orjson.loads(message)
                    notices = [(UUID(job_id), int(sequence)) for job_id, sequence in payload["events"]]
                    revalidated = [UUID(user_id) for user_id in payload["doubted"]]
                except (ValueError, TypeError, KeyError, AttributeError):  # UUID raises the last for what is no text
                    log.warning("notice_not_understood", message=message[:200])
                    continue
                for job_id, sequence in notices:
                    self._apply_notice(job_id, sequence)
                if revalidated:
                    self.revalidate(revalidated)

    async def _read_due(self) -> None:
        """Run one statement at a time: notices that arrive meanwhile wait for the next, so more jobs make longer statements, not more of them."""
        while True:
            await self._due_event.wait()
            self._due_event.clear()
            while self._due_jobs:
                job_ids = {self._due_jobs.popleft() for _ in range(min(len(self._due_jobs), BATCH_SIZE))}
                try:
                    await self._read_events(job_ids)
                except Exception:  # whatever failed, these events are still unread
                    log.warning("events_not_read", jobs=len(job_ids), exc_info=True)
                    self._due_jobs.extend(job_ids)
                    await asyncio.sleep(RETRY_DELAY)

    async def _read_events(self, job_ids: Collection[UUID]) -> None:
        tails = [self._tails[job_id] for job_id in job_ids if job_id in self._tails]
        positions = {tail.job_id: tail.last for tail in tails if tail.last is not None and tail.last < tail.announced}
        if not positions:
            return
        rows_by_job: dict[UUID, list[object]] = {}
        rows = await self._database.rows(NEWER_EVENTS, {"p_job_ids": list(positions), "p_sequences": list(positions.values())})
        for row in rows:
            rows_by_job.setdefault(row.job_id, []).append(row)
        now = datetime.now(UTC)
        for tail in tails:
            new_events = tail.append(rows_by_job.get(tail.job_id, ()))  # pyright: ignore[reportArgumentType] - the rows of just above
            for event in new_events:
                stream_metrics.LAG.observe(max(0.0, (now - event.row.created_at).total_seconds()))
            if new_events and tail.last is not None and tail.last < tail.announced:
                self._due_jobs.append(tail.job_id)

    async def _reconcile_regularly(self) -> None:
        while True:
            await asyncio.sleep(RECONCILE_INTERVAL)
            self._update_metrics()
            for tail in self._tails.values():
                tail.trim(time.monotonic() - TAIL_RETENTION)
            if not self.job_watch.watchers:
                self._changed_since = self._watching_since = None
            elif self._watching_since is None:
                self._watching_since = time.monotonic()
            if not self._tails and not self._signals and not self.job_watch.watchers:
                continue
            try:
                await self._reconcile()
            except Exception:  # whatever failed, the next round makes up for it
                log.warning("feed_not_reconciled", exc_info=True)

    async def _reconcile(self) -> None:
        """Read, in one statement, the last sequences of followed jobs and, while there are watchers, the jobs that changed since the last round."""
        now = func.clock_timestamp()
        job_ids = self._tails.keys() | self._signals.keys()
        tails = tuple(self._tails.values())
        statements = [
            select(literal(None, Uuid).label("id"), literal(None, BigInteger).label("last_sequence"), now.label("now")),
            select(Job.id, Job.last_sequence, null()).where(Job.id == any_(literal(list(job_ids), ARRAY(Uuid)))),
            select(Study.id, Study.last_sequence, null()).where(Study.id == any_(literal(list(self._signals), ARRAY(Uuid)))),
            select(Run.id, Run.last_batch, null()).where(Run.id == any_(literal(list(self._signals), ARRAY(Uuid)))),
            select(Inbox.user_id, Inbox.last_sequence, null()).where(Inbox.user_id == any_(literal(list(self._signals), ARRAY(Uuid)))),
        ]
        watching_since = self._watching_since
        if watching_since is not None:
            # Before the first round, only the time since the first watcher came is known.
            since = now - (MAX_COMMIT_DELAY + timedelta(seconds=time.monotonic() - watching_since))
            statements.append(
                select(Job.id, Job.last_sequence, null()).where(
                    Job.updated_at > (since if self._changed_since is None else self._changed_since)
                )
            )
        existing: set[UUID] = set()
        for row in await self._database.rows(union_all(*statements)):
            if row.id is not None:
                existing.add(row.id)
                self._apply_notice(row.id, row.last_sequence)
            elif watching_since is not None and watching_since == self._watching_since:
                self._changed_since = row.now - MAX_COMMIT_DELAY
        for tail in tails:
            if tail.job_id not in existing:
                tail.is_gone = True
                tail.wake()
            elif tail.last is not None and tail.last < tail.announced:
                self._schedule_read(tail)  # a notice that came before its event could be read

    async def _revalidate_regularly(self) -> None:
        """Whether everyone may still see the job that they follow."""
        while True:
            await asyncio.sleep(self._revalidation.interval)
            while True:
                try:
                    await self._revalidate_followers()
                    break
                except Exception:  # whatever failed, rights are still to be revalidated
                    log.warning("followers_not_revalidated", exc_info=True)
                    await asyncio.sleep(RECONCILE_INTERVAL)

    async def _revalidate_followers(self) -> None:
        followers = [(tail.job_id, follower) for tail in self._tails.values() for follower in tail.followers]
        jobs_by_viewer: dict[Viewer, set[UUID]] = {}
        for job_id, follower in followers:
            jobs_by_viewer.setdefault(follower.session.viewer, set()).add(job_id)
        if not jobs_by_viewer:
            return
        allowed = await self._revalidation.load_visible_jobs(self._database, jobs_by_viewer)
        for job_id, follower in followers:
            viewer = follower.session.viewer
            if viewer in jobs_by_viewer and job_id in jobs_by_viewer[viewer] and (viewer, job_id) not in allowed:
                follower.is_hidden = True
                follower.wake()

    def _update_metrics(self) -> None:
        stream_metrics.FOLLOWERS.labels("jobEvents").set(sum(len(tail.followers) for tail in self._tails.values()))
        stream_metrics.FOLLOWERS.labels("jobUpdates").set(self.job_watch.watchers)
        stream_metrics.FOLLOWERS.labels("runMetrics").set(sum(map(len, self._signals.values())))
        stream_metrics.FOLLOWED_JOBS.set(len(self._tails.keys() | self._signals.keys()))
