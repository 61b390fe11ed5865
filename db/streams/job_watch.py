"""Jobs that change, for those who watch many: one look in 50 ms for all who watch in a process, whatever their number."""

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

DEBOUNCE = 0.05  # seconds in which changes are taken together
BATCH_SIZE = 500  # jobs looked at in one statement
MAX_KNOWN_JOBS = 20_000  # jobs whose last look is kept
MAX_PENDING = 500  # jobs that a watcher may lag behind before it reads what has changed by itself
MAX_COMMIT_DELAY = timedelta(seconds=15)  # an event is stamped before it is committed: how much before, at most
RETRY_DELAY = 0.5  # seconds before a look that failed is tried again
MAX_ROUNDS = 3  # looks for those who come while one is under way, before they are left to read by themselves

Watch = tuple[Viewer, Any]  # a viewer, and a condition in whatever form the looks understand


class LoadChanges(Protocol):
    """Reads the jobs in `known`, each with the places of those watches that its change matters to and whose viewers may see it.

    `known` says up to which sequence each job was looked at before; None means as far as it was at `moment`. Where it takes several
    statements, a job that changed between them comes more than once, each time with the places of those that were shown it so.
    """

    def __call__(
        self, database: Database, watches: Sequence[Watch], sequences: Mapping[UUID, int | None], as_of: datetime, /
    ) -> Awaitable[Sequence[tuple[Row[Any], Sequence[int]]]]: ...


Position = tuple[datetime, UUID]
ChangedSince = Callable[[Database, Watch, Position, int], Awaitable[Sequence[Position]]]


@dataclass(frozen=True)
class ChangeQueries:
    """How changes are read: `look` for all watchers at once; for one that fell behind, `since` finds the next so many after a place."""

    load: LoadChanges
    changed_since: ChangedSince


class Watcher:
    """What one who watches jobs has yet to hear: of each job the last change. Past 500 jobs it reads what has changed instead."""

    def __init__(self, session: Session, criteria: Hashable) -> None:
        self.session = session
        self.criteria = criteria
        self.behind_since: datetime | None = None
        self._pending: dict[UUID, StreamEvent] = {}
        self._viewer = session.viewer  # for whom what is pending was read
        self._ready = asyncio.Event()

    @property
    def watch(self) -> Watch:
        return self.session.viewer, self.criteria

    @property
    def has_changes(self) -> bool:
        """Whether `next` has something to tell."""
        return bool(self._pending) or self.behind_since is not None

    def put(self, event: StreamEvent) -> None:
        """Tell of a change, read for the viewer that the session has at this moment."""
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
        """What has changed since this moment is for the watcher to read; nothing that came before it is still to be told."""
        self._pending.clear()
        self.behind_since = since if self.behind_since is None else min(since, self.behind_since)
        self._ready.set()

    def wake(self) -> None:
        self._ready.set()

    async def next(self) -> Sequence[StreamEvent]:
        """Wait for changes. None of them: what there is, is to be read since `behind_since`. Raises `SignedOut`."""
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
        """The viewer's rights have changed: what is pending was read with other ones."""
        self.fall_behind(min(event.row.updated_at for event in self._pending.values()) - MAX_COMMIT_DELAY)


class JobWatch:
    """The watchers of a process, and the looks on their behalf. Nothing is read while nobody watches."""

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
        """How many watch."""
        return len(self._watchers)

    @contextmanager
    def watch(self, session: Session, criteria: Hashable) -> Generator[Watcher]:
        """The changes that meet a condition, from here on."""
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
        """A job has an event with this sequence."""
        if self._watchers and sequence > self._known_sequences.get(job_id, 0):
            self._notified[job_id] = max(sequence, self._notified.get(job_id, 0))
            self._wake.set()

    async def run(self) -> None:
        """Look until cancelled; a database that is away is waited for."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(DEBOUNCE)
            self._wake.clear()
            try:
                while self._notified and self._watchers:
                    await self._deliver(list(self._notified)[:BATCH_SIZE])
            except Exception:  # whatever failed, these jobs have yet to be looked at
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
            # Whoever came during the look with one of its watches is told as well; one with another is what the next round is for.
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
            # Only as far as everybody was shown it: of a change that some statements did not see yet, all are told by the next look.
            self._known_sequences.pop(job_id, None)
            self._known_sequences[job_id] = lowest_delivered.get(job_id, sequence)
            if self._notified.get(job_id) == sequence:
                del self._notified[job_id]
        while len(self._known_sequences) > MAX_KNOWN_JOBS:
            del self._known_sequences[next(iter(self._known_sequences))]

    async def catch_up(self, watcher: Watcher) -> AsyncGenerator[Sequence[StreamEvent]]:
        """For one that fell behind: what has changed since it did, as rows that were read for it alone, page by page.

        A database that is away is waited for. What is left unread is to be read yet: `behind_since` says so again.
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
                if watcher.watch != watch:  # read with rights that are no more
                    continue
                yield [StreamEvent(row) for row, indexes in matches if indexes]
                is_complete = len(changed) < BATCH_SIZE
                position = changed[-1] if changed else position
        finally:
            if not is_complete:
                watcher.fall_behind(since)

    async def now(self) -> datetime:
        """The database's time."""
        return (await self._database.rows(select(func.clock_timestamp())))[0][0]
