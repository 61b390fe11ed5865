"""Changes of jobs for subscribers of many: one query in 50 ms for all watchers of a process, however many they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Hashable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

import structlog
from sqlalchemy import Row, func, select

from db.core.viewer import Viewer
from db.core.work import Database
from db.errors import Unavailable
from db.streams.job_tail import StreamEvent
from db.streams.sessions import Session

log: structlog.stdlib.BoundLogger = structlog.get_logger()

DEBOUNCE = 0.05  # seconds for which changes are collected
BATCH_SIZE = 500  # jobs that one statement reads
MAX_KNOWN_JOBS = 20_000  # jobs whose last delivered sequence is kept
MAX_PENDING = 500  # jobs that a watcher may lag behind before it reads the changes itself
MAX_COMMIT_DELAY = timedelta(seconds=15)  # the longest time between the timestamp of an event and its commit
RETRY_DELAY = 0.5  # seconds before a failed query is retried
MAX_ROUNDS = 3  # queries for watchers that come while one runs, before they are left to catch up

Watch = tuple[Viewer, Any]  # a viewer, and criteria that the queries understand


class LoadChanges(Protocol):
    """Reads the jobs in `sequences`, each with the indexes of the watches that match its change and whose viewers may see it.

    `sequences` has the last delivered sequence of each job; None means its state at `as_of`. Where several statements are needed, a job
    that changed between them comes more than once, each time with the indexes of the watches for which it was read.
    """

    def __call__(
        self, database: Database, watches: Sequence[Watch], sequences: Mapping[UUID, int | None], as_of: datetime, /
    ) -> Awaitable[Sequence[tuple[Row[Any], Sequence[int]]]]: ...


Position = tuple[datetime, UUID]
ChangedSince = Callable[[Database, Watch, Position, int], Awaitable[Sequence[Position]]]


@dataclass(frozen=True)
class ChangeQueries:
    """How changes are read: `load` for all watchers at once; `changed_since` for one that fell behind, page by page."""

    load: LoadChanges
    changed_since: ChangedSince


class Watcher:
    """A subscriber of many jobs, with the last change of each job that it has not taken. Past 500 jobs it falls behind and reads instead."""

    def __init__(self, session: Session, criteria: Hashable) -> None:
        self.session = session
        self.criteria = criteria
        self.behind_since: datetime | None = None
        self._pending: dict[UUID, StreamEvent] = {}
        self._viewer = session.viewer  # the viewer for whom the pending changes were read
        self._ready = asyncio.Event()

    @property
    def watch(self) -> Watch:
        return self.session.viewer, self.criteria

    @property
    def has_changes(self) -> bool:
        """Whether `next` returns at once."""
        return bool(self._pending) or self.behind_since is not None

    def put(self, event: StreamEvent) -> None:
        """Add a change that was read for the present viewer of the session."""
        if self.behind_since is not None:
            return
        if self._pending and self._viewer != self.session.viewer:
            self._fall_behind()
            return
        self._viewer = self.session.viewer
        self._pending.pop(event.row.id, None)
        self._pending[event.row.id] = event
        if len(self._pending) > MAX_PENDING:
            self.fall_behind(event.row.updated_at - MAX_COMMIT_DELAY)
        self._ready.set()

    def fall_behind(self, since: datetime) -> None:
        """Drop the pending changes: the watcher has to read what changed since this moment."""
        self._pending.clear()
        self.behind_since = since if self.behind_since is None else min(since, self.behind_since)
        self._ready.set()

    def wake(self) -> None:
        self._ready.set()

    async def next(self) -> Sequence[StreamEvent]:
        """Wait for changes. An empty result means that they have to be read since `behind_since`. Raises `SignedOut`."""
        while True:
            self.session.check()
            if self._pending and self._viewer != self.session.viewer:
                self._fall_behind()
            if self.has_changes:
                events, self._pending = tuple(self._pending.values()), {}
                return events
            self._ready.clear()
            await self._ready.wait()

    def _fall_behind(self) -> None:
        """Fall behind because the viewer's rights have changed: the pending changes were read with the old ones."""
        self.fall_behind(min(event.row.updated_at for event in self._pending.values()) - MAX_COMMIT_DELAY)


class JobWatch:
    """The watchers of a process, and the queries for them. Nothing is read while there are none."""

    def __init__(self, database: Database, queries: ChangeQueries) -> None:
        self._database = database
        self._queries = queries
        self._watchers: set[Watcher] = set()
        self._known_sequences: dict[UUID, int] = {}
        self._notified: dict[UUID, int] = {}
        self._wake = asyncio.Event()
        self._started_at: datetime | None = None

    @property
    def watchers(self) -> int:
        """The number of watchers."""
        return len(self._watchers)

    @contextmanager
    def watch(self, session: Session, criteria: Hashable) -> Generator[Watcher]:
        """Watch for changes that meet the criteria."""
        watcher = Watcher(session, criteria)
        self._watchers.add(watcher)
        try:
            with session.on_end(watcher.wake):
                yield watcher
        finally:
            self._watchers.discard(watcher)
            if not self._watchers:
                self._known_sequences.clear()
                self._notified.clear()
                self._started_at = None

    def notify(self, job_id: UUID, sequence: int) -> None:
        """Note that a job has an event with this sequence."""
        if self._watchers and sequence > self._known_sequences.get(job_id, 0):
            self._notified[job_id] = max(sequence, self._notified.get(job_id, 0))
            self._wake.set()

    async def run(self) -> None:
        """Deliver changes until cancelled; wait for the database while it is away."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(DEBOUNCE)
            self._wake.clear()
            try:
                while self._notified and self._watchers:
                    await self._deliver(list(self._notified)[:BATCH_SIZE])
            except Exception:  # whatever failed, these changes are still undelivered
                log.warning("changes_not_read", exc_info=True)
                self._wake.set()
                await asyncio.sleep(RETRY_DELAY)

    async def _deliver(self, job_ids: Sequence[UUID]) -> None:
        if self._started_at is None:
            self._started_at = await self.now() - MAX_COMMIT_DELAY
        notified = {job_id: self._notified[job_id] for job_id in job_ids}
        sequences = {job_id: self._known_sequences.get(job_id) for job_id in job_ids}
        as_of = self._started_at
        lowest_delivered: dict[UUID, int] = {}
        earliest: datetime | None = None
        queried: set[Watch] = set()
        for _ in range(MAX_ROUNDS):
            watches = list({watcher.watch for watcher in self._watchers} - queried)
            if not watches:
                break
            changes = await self._queries.load(self._database, watches, sequences, as_of)
            queried.update(watches)
            # A watcher that came during the query with one of its watches gets the changes too; one with another watch is for the next round.
            watchers_by_watch: dict[Watch, list[Watcher]] = {}
            for watcher in self._watchers:
                watchers_by_watch.setdefault(watcher.watch, []).append(watcher)
            for row, indexes in changes:
                lowest_delivered[row.id] = min(row.last_sequence, lowest_delivered.get(row.id, row.last_sequence))
                earliest = row.updated_at if earliest is None else min(row.updated_at, earliest)
                event = StreamEvent(row)
                for index in indexes:
                    for watcher in watchers_by_watch.get(watches[index], ()):
                        watcher.put(event)
        for watcher in self._watchers:
            if earliest is not None and watcher.watch not in queried:
                watcher.fall_behind(earliest - MAX_COMMIT_DELAY)
        for job_id, sequence in notified.items():
            # Only as far as all watchers got it: a change that some statements did not see yet is delivered to all by the next query.
            self._known_sequences.pop(job_id, None)
            self._known_sequences[job_id] = lowest_delivered.get(job_id, sequence)
            if self._notified.get(job_id) == sequence:
                del self._notified[job_id]
        while len(self._known_sequences) > MAX_KNOWN_JOBS:
            del self._known_sequences[next(iter(self._known_sequences))]

    async def catch_up(self, watcher: Watcher) -> AsyncGenerator[Sequence[StreamEvent]]:
        """Yield what has changed since the watcher fell behind, page by page, read for it alone.

        Waits for the database while it is away. If the caller stops early, the watcher falls behind again.
        """
        since = watcher.behind_since
        assert since is not None
        watcher.behind_since = None
        position: Position = since, UUID(int=2**128 - 1)
        is_complete = False
        try:
            while not is_complete:
                watcher.session.check()
                watch = watcher.watch
                try:
                    changed = await self._queries.changed_since(self._database, watch, position, BATCH_SIZE)
                    sequences: dict[UUID, int | None] = dict.fromkeys(job_id for _, job_id in changed)
                    matches = await self._queries.load(self._database, [watch], sequences, since) if sequences else ()
                except Unavailable:
                    await asyncio.sleep(RETRY_DELAY)
                    continue
                if watcher.watch != watch:  # read with rights that have changed since
                    continue
                yield [StreamEvent(row) for row, indexes in matches if indexes]
                is_complete = len(changed) < BATCH_SIZE
                position = changed[-1] if changed else position
        finally:
            if not is_complete:
                watcher.fall_behind(since)

    async def now(self) -> datetime:
        """Return the database's time."""
        return (await self._database.rows(select(func.clock_timestamp())))[0][0]
