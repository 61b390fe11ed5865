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
from db.stores.sessions import Session
from db.stores.tails import Told

log: structlog.stdlib.BoundLogger = structlog.get_logger()

GATHERED = 0.05  # seconds in which changes are taken together
AT_ONCE = 500  # jobs looked at in one statement
REMEMBERED = 20_000  # jobs whose last look is kept
PENDING = 500  # jobs that a watcher may lag behind before it reads what has changed by itself
COMMITTING = timedelta(seconds=15)  # an event is stamped before it is committed: how much before, at most
PAUSE = 0.5  # seconds before a look that failed is tried again
ROUNDS = 3  # looks for those who come while one is under way, before they are left to read by themselves

Watch = tuple[Viewer, Any]  # a viewer, and a condition in whatever form the looks understand


class Look(Protocol):
    """Reads the jobs in `known`, each with the places of those watches that its change matters to and whose viewers may see it.

    `known` says up to which sequence each job was looked at before; None means as far as it was at `moment`. Where it takes several
    statements, a job that changed between them comes more than once, each time with the places of those that were shown it so.
    """

    def __call__(
        self, database: Database, watches: Sequence[Watch], known: Mapping[UUID, int | None], moment: datetime, /
    ) -> Awaitable[Sequence[tuple[Row[Any], Sequence[int]]]]: ...


Place = tuple[datetime, UUID]
ChangedSince = Callable[[Database, Watch, Place, int], Awaitable[Sequence[Place]]]


@dataclass(frozen=True)
class Looks:
    """How changes are read: `look` for all watchers at once; for one that fell behind, `since` finds the next so many after a place."""

    look: Look
    since: ChangedSince


class Watcher:
    """What one who watches jobs has yet to hear: of each job the last change. Past 500 jobs it reads what has changed instead."""

    def __init__(self, session: Session, wanted: Hashable) -> None:
        self.session = session
        self.wanted = wanted
        self.behind_since: datetime | None = None
        self._pending: dict[UUID, Told] = {}
        self._viewer = session.viewer  # for whom what is pending was read
        self._ready = asyncio.Event()

    @property
    def watch(self) -> Watch:
        return self.session.viewer, self.wanted

    @property
    def has_news(self) -> bool:
        """Whether `next` has something to tell."""
        return bool(self._pending) or self.behind_since is not None

    def put(self, told: Told) -> None:
        """Tell of a change, read for the viewer that the session has at this moment."""
        if self.behind_since is not None:
            return
        if self._pending and self._viewer != self.session.viewer:
            self._fall_behind()
            return
        self._viewer = self.session.viewer
        self._pending.pop(told.row.id, None)
        self._pending[told.row.id] = told
        if len(self._pending) > PENDING:
            self.fall_behind(told.row.updated_at - COMMITTING)
        self._ready.set()

    def fall_behind(self, moment: datetime) -> None:
        """What has changed since this moment is for the watcher to read; nothing that came before it is still to be told."""
        self._pending.clear()
        self.behind_since = moment if self.behind_since is None else min(moment, self.behind_since)
        self._ready.set()

    def wake(self) -> None:
        self._ready.set()

    async def next(self) -> Sequence[Told]:
        """Wait for changes. None of them: what there is, is to be read since `behind_since`. Raises `SignedOut`."""
        while True:
            self.session.check()
            if self._pending and self._viewer != self.session.viewer:
                self._fall_behind()
            if self.has_news:
                told, self._pending = tuple(self._pending.values()), {}
                return told
            self._ready.clear()
            await self._ready.wait()

    def _fall_behind(self) -> None:
        """The viewer's rights have changed: what is pending was read with other ones."""
        self.fall_behind(min(told.row.updated_at for told in self._pending.values()) - COMMITTING)


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
        named = {job_id: self._named[job_id] for job_id in job_ids}
        asked = {job_id: self._known.get(job_id) for job_id in job_ids}
        start = self._start
        least: dict[UUID, int] = {}
        earliest: datetime | None = None
        looked: set[Watch] = set()
        for _ in range(ROUNDS):
            watches = list({watcher.watch for watcher in self._watchers} - looked)
            if not watches:
                break
            found = await self._looks.look(self._database, watches, asked, start)
            looked.update(watches)
            # Whoever came during the look with one of its watches is told as well; one with another is what the next round is for.
            groups: dict[Watch, list[Watcher]] = {}
            for watcher in self._watchers:
                groups.setdefault(watcher.watch, []).append(watcher)
            for row, places in found:
                least[row.id] = min(row.last_sequence, least.get(row.id, row.last_sequence))
                earliest = row.updated_at if earliest is None else min(row.updated_at, earliest)
                told = Told(row)
                for place in places:
                    for watcher in groups.get(watches[place], ()):
                        watcher.put(told)
        for watcher in self._watchers:
            if earliest is not None and watcher.watch not in looked:
                watcher.fall_behind(earliest - COMMITTING)
        for job_id, sequence in named.items():
            # Only as far as everybody was shown it: of a change that some statements did not see yet, all are told by the next look.
            self._known.pop(job_id, None)
            self._known[job_id] = least.get(job_id, sequence)
            if self._named.get(job_id) == sequence:
                del self._named[job_id]
        while len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]

    async def missed(self, watcher: Watcher) -> AsyncGenerator[Sequence[Told]]:
        """For one that fell behind: what has changed since it did, as rows that were read for it alone, page by page.

        A database that is away is waited for. What is left unread is to be read yet: `behind_since` says so again.
        """
        since = watcher.behind_since
        assert since is not None
        watcher.behind_since = None
        place: Place = since, UUID(int=2**128 - 1)
        is_whole = False
        try:
            while not is_whole:
                watcher.session.check()
                watch = watcher.watch
                try:
                    changed = await self._looks.since(self._database, watch, place, AT_ONCE)
                    asked: dict[UUID, int | None] = dict.fromkeys(job_id for _, job_id in changed)
                    found = await self._looks.look(self._database, [watch], asked, since) if asked else ()
                except Unavailable:
                    await asyncio.sleep(PAUSE)
                    continue
                if watcher.watch != watch:  # read with rights that are no more
                    continue
                yield [Told(row) for row, places in found if places]
                is_whole = len(changed) < AT_ONCE
                place = changed[-1] if changed else place
        finally:
            if not is_whole:
                watcher.fall_behind(since)

    async def now(self) -> datetime:
        """The database's time."""
        return (await self._database.rows(select(func.clock_timestamp())))[0][0]
