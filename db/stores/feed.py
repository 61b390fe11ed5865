"""Whoever follows jobs in this process: one reader of announcements, one of events, and one look a second for what Redis lost.

Postgres holds the events. An announcement says that there is something; what there is, is read once for all who follow, many jobs at a time.
Nothing is read while nobody follows.
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
from db.stores import streamcounts
from db.stores.changes import Changes, Looks
from db.stores.events import EVENTS, listen
from db.stores.sessions import Look, Session, Sessions
from db.stores.tails import NEWER, Follower, Tail
from db.tables import Job

log: structlog.stdlib.BoundLogger = structlog.get_logger()

REPAIR = 1.0  # seconds between looks for announcements that were lost
OVERLAP = timedelta(seconds=15)  # a change is stamped before it is committed: how much before, at most
KEEPING = 10.0  # seconds for which events are kept for followers that have yet to take them
AT_ONCE = 500  # jobs whose events are read in one statement
PAUSE = 0.2  # seconds before a read that failed is tried again
BROKEN = 3  # failures in a row after which a part of the feed counts as broken
LASTING = 5.0  # seconds after which a part that goes on counts as going

MayFollow = Callable[[Database, Mapping[Viewer, Collection[UUID]]], Awaitable[Collection[tuple[Viewer, UUID]]]]


@dataclass(frozen=True)
class Rights:
    """How long-lived connections are looked at again, every so many seconds: who the viewers are by now, and which jobs they may see."""

    viewers: Look
    jobs: MayFollow
    every: float


class Bell:
    """Rings when a job has new events; which, its holder reads by itself."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def wait(self) -> None:
        """Wait for a ring since the last wait. Raises `SignedOut` when the session is over."""
        await self._rung.wait()
        self._rung.clear()
        self._session.check()


class Feed:
    """The streams of one process."""

    def __init__(self, redis_url: str, database: Database, rights: Rights, looks: Looks) -> None:
        self._redis_url = redis_url
        self._database = database
        self._rights = rights
        self._bells: dict[UUID, set[Bell]] = {}
        self._rung: dict[UUID, int] = {}
        self._tails: dict[UUID, Tail] = {}
        self._due: deque[UUID] = deque()
        self._something_due = asyncio.Event()
        self._since: datetime | None = None
        self._watching: float | None = None
        self._running: asyncio.Task[None] | None = None
        self._failures: dict[str, tuple[int, float]] = {}
        self.changes = Changes(database, looks)
        self.sessions = Sessions(database, rights.viewers, rights.every)

    @classmethod
    @asynccontextmanager
    async def open(cls, redis_url: str, database: Database, rights: Rights, looks: Looks) -> AsyncGenerator[Self]:
        """A feed that runs until the block ends."""
        feed = cls(redis_url, database, rights, looks)
        running = feed._running = asyncio.create_task(feed.run(), name="feed")
        try:
            yield feed
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    async def run(self) -> None:
        """Read, repair and look again until cancelled; a Redis or a Postgres that is away is waited for."""
        works = {
            "listen": self._listen,
            "read": self._read,
            "repair": self._repair,
            "look_again": self._look_again,
            "changes": self.changes.run,
            "sessions": self.sessions.run,
        }
        async with asyncio.TaskGroup() as tasks:
            for name, work in works.items():
                tasks.create_task(self._keep(name, work))

    @property
    def broken(self) -> Collection[str]:
        """The parts that cannot be kept going: each has failed three times in a row, the last time a moment ago."""
        now = time.monotonic()
        broken = [name for name, (times, last) in self._failures.items() if times >= BROKEN and now - last < LASTING]
        return broken if self._running is None or not self._running.done() else ["all of it"]

    async def _keep(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do it for ever. Each part waits by itself for what is away; what gets here is a mistake of ours, which must not end all streams."""
        while True:
            began = time.monotonic()
            try:
                await work()
            except Exception:  # whatever it is, it must not end the feed: the part begins again
                log.exception("feed_part_failed", part=name)
            now = time.monotonic()
            times, _ = self._failures.get(name, (0, now))
            self._failures[name] = (times + 1 if now - began < LASTING else 1), now
            await asyncio.sleep(PAUSE)

    @contextmanager
    def follow(self, job_id: UUID, session: Session) -> Generator[Follower]:
        """The events of one job from here on: enter first, then read the rows, then say `reached`, then follow."""
        tail = self._tails.get(job_id)
        if tail is None:
            tail = self._tails[job_id] = Tail(job_id)
        follower = Follower(tail, session)
        tail.followers.add(follower)
        try:
            with session.tells(follower.wake):
                yield follower
        finally:
            tail.followers.discard(follower)
            if not tail.followers and self._tails.get(job_id) is tail:
                del self._tails[job_id]

    def reached(self, job_id: UUID, sequence: int) -> None:
        """A follower has read the rows up to here. The first to say so is where the others are told from."""
        tail = self._tails[job_id]
        if tail.last is None:
            tail.last = sequence
            if tail.announced > sequence:
                self._want(tail)

    @contextmanager
    def bell(self, job_id: UUID, session: Session) -> Generator[Bell]:
        """Rings for each new event of one job: enter first, then read, then wait."""
        bell = Bell(session)
        self._bells.setdefault(job_id, set()).add(bell)
        try:
            with session.tells(bell.ring):
                yield bell
        finally:
            bells = self._bells[job_id]
            bells.discard(bell)
            if not bells:
                del self._bells[job_id]
                self._rung.pop(job_id, None)

    def _announce(self, job_id: UUID, sequence: int) -> None:
        tail = self._tails.get(job_id)
        if tail is not None and sequence > tail.announced:
            tail.announced = sequence
            if tail.last is not None and sequence > tail.last:
                self._want(tail)
        if job_id in self._bells and sequence > self._rung.get(job_id, 0):
            self._rung[job_id] = sequence
            for bell in self._bells[job_id]:
                bell.ring()
        self.changes.name(job_id, sequence)

    def _want(self, tail: Tail) -> None:
        self._due.append(tail.job_id)
        self._something_due.set()

    async def _listen(self) -> None:
        async with aclosing(listen(self._redis_url, EVENTS)) as messages:
            async for message in messages:
                if message is None:
                    self.sessions.doubt_all()  # of the events that were missed in between, the repair finds out within a second
                    continue
                try:
                    said = orjson.loads(message)
                    notices = [(UUID(job_id), int(sequence)) for job_id, sequence in said["events"]]
                    doubted = [UUID(user_id) for user_id in said["doubted"]]
                except (ValueError, TypeError, KeyError, AttributeError):  # the last from UUID, of what is no text
                    log.warning("notice_not_understood", message=message[:200])
                    continue
                for job_id, sequence in notices:
                    self._announce(job_id, sequence)
                if doubted:
                    self.sessions.doubt(doubted)

    async def _read(self) -> None:
        """One statement at a time: what is announced meanwhile is read by the next, so more jobs make longer statements, not more."""
        while True:
            await self._something_due.wait()
            self._something_due.clear()
            while self._due:
                job_ids = {self._due.popleft() for _ in range(min(len(self._due), AT_ONCE))}
                try:
                    await self._read_events(job_ids)
                except Exception:  # whatever failed, these events have yet to be read
                    log.warning("events_not_read", jobs=len(job_ids), exc_info=True)
                    self._due.extend(job_ids)
                    await asyncio.sleep(PAUSE)

    async def _read_events(self, job_ids: Collection[UUID]) -> None:
        tails = [self._tails[job_id] for job_id in job_ids if job_id in self._tails]
        places = {tail.job_id: tail.last for tail in tails if tail.last is not None and tail.last < tail.announced}
        if not places:
            return
        found: dict[UUID, list[object]] = {}
        rows = await self._database.rows(NEWER, {"the_jobs": list(places), "the_places": list(places.values())})
        for row in rows:
            found.setdefault(row.job_id, []).append(row)
        now = datetime.now(UTC)
        for tail in tails:
            fresh = tail.append(found.get(tail.job_id, ()))  # pyright: ignore[reportArgumentType] - the rows of just above
            for told in fresh:
                streamcounts.LAG.observe(max(0.0, (now - told.row.created_at).total_seconds()))
            if fresh and tail.last is not None and tail.last < tail.announced:
                self._due.append(tail.job_id)

    async def _repair(self) -> None:
        while True:
            await asyncio.sleep(REPAIR)
            self._count()
            for tail in self._tails.values():
                tail.trim(time.monotonic() - KEEPING)
            if not self.changes.watchers:
                self._since = self._watching = None
            elif self._watching is None:
                self._watching = time.monotonic()
            if not self._tails and not self._bells and not self.changes.watchers:
                continue
            try:
                await self._look()
            except Exception:  # whatever failed, the next look makes up for it
                log.warning("feed_cannot_look", exc_info=True)

    async def _look(self) -> None:
        """One statement: where the followed jobs stand and, while somebody watches many, which changed since the last look."""
        now = func.clock_timestamp()
        followed = self._tails.keys() | self._bells.keys()
        tails = tuple(self._tails.values())
        looks = [
            select(literal(None, Uuid).label("id"), literal(None, BigInteger).label("last_sequence"), now.label("now")),
            select(Job.id, Job.last_sequence, null()).where(Job.id == any_(literal(list(followed), ARRAY(Uuid)))),
        ]
        watching = self._watching
        if watching is not None:
            # Before the first look, only how long ago somebody began to watch is known.
            first = now - (OVERLAP + timedelta(seconds=time.monotonic() - watching))
            looks.append(select(Job.id, Job.last_sequence, null()).where(Job.updated_at > (first if self._since is None else self._since)))
        found: set[UUID] = set()
        for row in await self._database.rows(union_all(*looks)):
            if row.id is not None:
                found.add(row.id)
                self._announce(row.id, row.last_sequence)
            elif watching is not None and watching == self._watching:
                self._since = row.now - OVERLAP
        for tail in tails:
            if tail.job_id not in found:
                tail.is_gone = True
                tail.wake()
            elif tail.last is not None and tail.last < tail.announced:
                self._want(tail)  # a notice that came before its event could be read

    async def _look_again(self) -> None:
        """Whether everyone may still see the job that they follow."""
        while True:
            await asyncio.sleep(self._rights.every)
            while True:
                try:
                    await self._look_at_rights()
                    break
                except Exception:  # whatever failed, rights have yet to be looked at
                    log.warning("feed_cannot_look_again", exc_info=True)
                    await asyncio.sleep(REPAIR)

    async def _look_at_rights(self) -> None:
        followers = [(tail.job_id, follower) for tail in self._tails.values() for follower in tail.followers]
        asked: dict[Viewer, set[UUID]] = {}
        for job_id, follower in followers:
            asked.setdefault(follower.session.viewer, set()).add(job_id)
        if not asked:
            return
        allowed = await self._rights.jobs(self._database, asked)
        for job_id, follower in followers:
            viewer = follower.session.viewer
            if viewer in asked and job_id in asked[viewer] and (viewer, job_id) not in allowed:
                follower.is_hidden = True
                follower.wake()

    def _count(self) -> None:
        streamcounts.FOLLOWERS.labels("jobEvents").set(sum(len(tail.followers) for tail in self._tails.values()))
        streamcounts.FOLLOWERS.labels("jobUpdates").set(self.changes.watchers)
        streamcounts.FOLLOWERS.labels("runMetrics").set(sum(map(len, self._bells.values())))
        streamcounts.FOLLOWED.set(len(self._tails.keys() | self._bells.keys()))
