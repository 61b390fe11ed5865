"""Who is signed in on connections that last: looked at again every so often, and at once when a user's keys or rights have changed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Generator, Mapping
from contextlib import contextmanager
from uuid import UUID

import structlog

from db.core.viewer import Viewer
from db.core.work import Database
from db.errors import SignedOut

log: structlog.stdlib.BoundLogger = structlog.get_logger()

PAUSE = 1.0  # seconds before a look that failed is tried again

Who = tuple[UUID, UUID | None]
Look = Callable[[Database, Collection[Viewer]], Awaitable[Mapping[Viewer, Viewer]]]


class Session:
    """One user's token in use by this process. `viewer` is who they are as of the last look, `is_over` whether the token still names them."""

    __slots__ = ("_told", "holders", "is_over", "viewer")

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self.is_over = False
        self.holders = 0
        self._told: set[Callable[[], None]] = set()

    def check(self) -> None:
        """Raises `SignedOut` once it is over."""
        if self.is_over:
            raise SignedOut

    @contextmanager
    def tells(self, call: Callable[[], None]) -> Generator[None]:
        """While the block lasts, this is called once when the session is over."""
        self._told.add(call)
        try:
            yield
        finally:
            self._told.discard(call)

    def end(self) -> None:
        self.is_over = True
        for call in tuple(self._told):
            call()


class Sessions:
    """The sessions of a process: one statement looks at all of them, however many connections they have."""

    def __init__(self, database: Database, look: Look, every: float) -> None:
        self._database = database
        self._look = look
        self._every = every
        self._held: dict[Who, Session] = {}
        self._doubted: set[UUID] = set()
        self._nudged = asyncio.Event()

    @contextmanager
    def attend(self, viewer: Viewer) -> Generator[Session]:
        """The viewer's session, looked at again for as long as the block lasts; connections with one token share it.

        `viewer` has just been looked up, so for whoever shares the session it is the news too.
        """
        who = (viewer.id, viewer.key_id)
        session = self._held.get(who)
        if session is None:
            session = self._held[who] = Session(viewer)
        session.viewer = viewer
        session.holders += 1
        try:
            yield session
        finally:
            session.holders -= 1
            if not session.holders and self._held.get(who) is session:
                del self._held[who]

    def doubt(self, user_ids: Collection[UUID]) -> None:
        """These users' keys or rights have changed: look at once."""
        held = {user_id for user_id, _ in self._held}
        self._doubted |= held.intersection(user_ids)
        if self._doubted:
            self._nudged.set()

    def doubt_all(self) -> None:
        """Somebody's keys or rights may have changed, and whose was not heard."""
        self.doubt({user_id for user_id, _ in self._held})

    async def run(self) -> None:
        """Look until cancelled. While nobody is signed in, nothing is read."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._every
        while True:
            try:
                # By a moment, not for a time: others' news, however many, must not put off the look at everybody.
                async with asyncio.timeout_at(due):
                    await self._nudged.wait()
            except TimeoutError:
                self._doubted = {user_id for user_id, _ in self._held}
                due = loop.time() + self._every
            self._nudged.clear()
            doubted, self._doubted = self._doubted, set()
            try:
                await self._recheck([session for (user_id, _), session in self._held.items() if user_id in doubted])
            except Exception:  # whatever failed, the sessions have yet to be looked at
                log.warning("sessions_not_checked", exc_info=True)
                self._doubted |= doubted
                self._nudged.set()
                await asyncio.sleep(PAUSE)

    async def _recheck(self, sessions: Collection[Session]) -> None:
        if not sessions:
            return
        asked = {session: session.viewer for session in sessions}
        found = await self._look(self._database, list(asked.values()))
        for session, was in asked.items():
            viewer = found.get(was)
            if viewer is not None:
                if session.viewer is was:  # else somebody came meanwhile, and brought later news
                    session.viewer = viewer
                continue
            who = (was.id, was.key_id)
            if self._held.get(who) is session:  # whoever comes now is a new session, whose token has been looked at
                del self._held[who]
            session.end()
