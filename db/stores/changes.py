"""Jobs that change, for those who watch many: one look in 50 ms for all who watch in a process, whatever their number."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Hashable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

import structlog
from sqlalchemy import Row, func, select

from db.core.viewer import Viewer
from db.core.work import Database
from db.stores.sessions import Session
from db.stores.tails import Told

log: structlog.stdlib.BoundLogger = structlog.get_logger()

GATHERED = 0.05  # seconds in which changes are taken together
AT_ONCE = 500  # jobs looked at in one statement
REMEMBERED = 20_000  # jobs whose last look is kept
PENDING = 500  # jobs that a watcher may lag behind before it reads what has changed by itself
COMMITTING = timedelta(seconds=15)  # an event is stamped before it is committed: how much before, at most
PAUSE = 0.5  # seconds before a look that failed is tried again

Watch = tuple[Viewer, Any]  # a viewer, and a condition in whatever form the looks understand


class Look(Protocol):
    """Reads the jobs that changed, each with the places of those watches that it matters to and whose viewers may see it.

    `known` says up to which sequence each job was looked at before; None means as far as it was at `moment`.
    """

    def __call__(
        self, database: Database, watches: Sequence[Watch], known: Mapping[UUID, int | None], moment: datetime, /
    ) -> Awaitable[Sequence[tuple[Row[Any], Sequence[int]]]]: ...


ChangedSince = Callable[[Database, Watch, datetime], Awaitable[Sequence[UUID]]]


@dataclass(frozen=True)
class Looks:
    """How changes are read: `look` for all watchers at once, `since` for one that fell behind."""

    look: Look
    since: ChangedSince


class Watcher:
    """What one who watches jobs has yet to hear: of each job the last change. Past 500 jobs it reads what has changed instead."""

    def __init__(self, session: Session, wanted: Hashable) -> None:
        self.session = session
        self.wanted = wanted
        self.behind_since: datetime | None = None
        self._pending: dict[UUID, Told] = {}
        self._ready = asyncio.Event()

    @property
    def watch(self) -> Watch:
        return self.session.viewer, self.wanted

    def put(self, told: Told, moment: datetime) -> None:
        if self.behind_since is not None:
            return
        self._pending.pop(told.row.id, None)
        self._pending[told.row.id] = told
        if len(self._pending) > PENDING:
            self._pending.clear()
            self.behind_since = moment
        self._ready.set()

    def wake(self) -> None:
        self._ready.set()

    async def next(self) -> Sequence[Told]:
        """Wait for changes. None of them: they have become too many, and are to be read since `behind_since`. Raises `SignedOut`."""
        while True:
            self.session.check()
            if self._pending or self.behind_since is not None:
                told, self._pending = tuple(self._pending.values()), {}
                return told
            self._ready.clear()
            await self._ready.wait()


class Changes:
    """The watchers of a process, and the looks on their behalf. Nothing is read while nobody watches."""

    def __init__(self, database: Database, looks: Looks) -> None:
        self._database = database
        self._looks = looks
        self._watchers: set[Watcher] = set()
        self._known: dict[UUID, int] = {}
        self._named: dict[UUID, int] = {}
        self._something = asyncio.Event()
        self._start: datetime | None = None

    @property
    def watchers(self) -> int:
        """How many watch."""
        return len(self._watchers)

    @contextmanager
    def watch(self, session: Session, wanted: Hashable) -> Generator[Watcher]:
        """The changes that meet a condition, from here on."""
        watcher = Watcher(session, wanted)
        self._watchers.add(watcher)
        try:
            with session.tells(watcher.wake):
                yield watcher
        finally:
            self._watchers.discard(watcher)
            if not self._watchers:
                self._known.clear()
                self._named.clear()
                self._start = None

    def name(self, job_id: UUID, sequence: int) -> None:
        """A job has an event with this sequence."""
        if self._watchers and sequence > self._known.get(job_id, 0):
            self._named[job_id] = max(sequence, self._named.get(job_id, 0))
            self._something.set()

    async def run(self) -> None:
        """Look until cancelled; a database that is away is waited for."""
        while True:
            await self._something.wait()
            await asyncio.sleep(GATHERED)
            self._something.clear()
            try:
                while self._named and self._watchers:
                    await self._tell(list(self._named)[:AT_ONCE])
            except Exception:  # whatever failed, these jobs have yet to be looked at
                log.warning("changes_not_read", exc_info=True)
                self._something.set()
                await asyncio.sleep(PAUSE)

    async def _tell(self, job_ids: Sequence[UUID]) -> None:
        if self._start is None:
            self._start = await self.now() - COMMITTING
        groups: dict[Watch, list[Watcher]] = {}
        for watcher in self._watchers:
            groups.setdefault(watcher.watch, []).append(watcher)
        watching = list(groups.values())
        before = {job_id: self._named[job_id] for job_id in job_ids}
        asked = {job_id: self._known.get(job_id) for job_id in job_ids}
        start = self._start
        found = await self._looks.look(self._database, list(groups), asked, start)
        for job_id, sequence in before.items():
            self._known.pop(job_id, None)
            self._known[job_id] = sequence
            if self._named.get(job_id) == sequence:
                del self._named[job_id]
        for row, places in found:
            self._known[row.id] = max(row.last_sequence, self._known.get(row.id, 0))
            told = Told(row)
            for place in places:
                for watcher in watching[place]:
                    watcher.put(told, row.updated_at - COMMITTING)
        while len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]

    async def missed(self, watcher: Watcher) -> Sequence[Told]:
        """For one that fell behind: what has changed since it did, as rows that were read for it alone."""
        since = watcher.behind_since
        assert since is not None
        watcher.behind_since = None
        changed = await self._looks.since(self._database, watcher.watch, since)
        told: list[Told] = []
        for first in range(0, len(changed), AT_ONCE):
            asked: dict[UUID, int | None] = dict.fromkeys(changed[first : first + AT_ONCE])
            told += [Told(row) for row, _ in await self._looks.look(self._database, [watcher.watch], asked, since)]
        return told

    async def now(self) -> datetime:
        """The database's time."""
        return (await self._database.rows(select(func.clock_timestamp())))[0][0]
