"""Sessions of long-lived connections: revalidated at an interval, and at once when a user's keys or rights have changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Generator, Mapping
from contextlib import contextmanager
from uuid import UUID

import structlog

from db.core.viewer import Viewer
from db.core.work import Database
from db.errors import SignedOut

log: structlog.stdlib.BoundLogger = structlog.get_logger()

RETRY_DELAY = 1.0  # seconds before a failed revalidation is retried
EXPIRY_MARGIN = 0.05  # seconds after which a token has expired by the database's clock too

SessionKey = tuple[UUID, UUID | None]
LoadViewers = Callable[[Database, Collection[Viewer]], Awaitable[Mapping[Viewer, Viewer]]]


class Session:
    """One user's token in use by this process. `viewer` is the user as of the last revalidation; `is_over` is set once the token is invalid."""

    __slots__ = ("_end_callbacks", "expiry_timer", "holders", "is_over", "viewer")

    def __init__(self, viewer: Viewer) -> None:
        self.viewer = viewer
        self.is_over = False
        self.holders = 0
        self.expiry_timer: asyncio.TimerHandle | None = None
        self._end_callbacks: set[Callable[[], None]] = set()

    def check(self) -> None:
        """Raise `SignedOut` once the session is over."""
        if self.is_over:
            raise SignedOut

    @contextmanager
    def on_end(self, callback: Callable[[], None]) -> Generator[None]:
        """Call `callback` when the session ends, if it ends within the block."""
        self._end_callbacks.add(callback)
        try:
            yield
        finally:
            self._end_callbacks.discard(callback)

    def end(self) -> None:
        self.is_over = True
        for callback in tuple(self._end_callbacks):
            callback()


class Sessions:
    """The sessions of a process: one statement revalidates all of them, however many connections they have."""

    def __init__(self, database: Database, load_viewers: LoadViewers, interval: float) -> None:
        self._database = database
        self._load_viewers = load_viewers
        self._interval = interval
        self._sessions: dict[SessionKey, Session] = {}
        self._to_revalidate: set[UUID] = set()
        self._wake = asyncio.Event()

    @contextmanager
    def acquire(self, viewer: Viewer) -> Generator[Session]:
        """Return the viewer's session, revalidated for as long as the block lasts; connections with one token share it.

        `viewer` has just been looked up, so it updates a session that is shared.
        """
        session_key = (viewer.id, viewer.key_id)
        session = self._sessions.get(session_key)
        if session is None:
            session = self._sessions[session_key] = Session(viewer)
        session.holders += 1
        self._update(session, viewer)
        try:
            yield session
        finally:
            session.holders -= 1
            if not session.holders:
                _cancel_timer(session)
                if self._sessions.get(session_key) is session:
                    del self._sessions[session_key]

    @property
    def key_ids(self) -> set[UUID]:
        """The tokens of the open connections."""
        return {key_id for _, key_id in self._sessions if key_id is not None}

    def revalidate(self, user_ids: Collection[UUID]) -> None:
        """Revalidate the sessions of these users at once: their keys or rights have changed."""
        active = {user_id for user_id, _ in self._sessions}
        self._to_revalidate |= active.intersection(user_ids)
        if self._to_revalidate:
            self._wake.set()

    def revalidate_all(self) -> None:
        """Revalidate all sessions at once: notices may have been lost."""
        self.revalidate({user_id for user_id, _ in self._sessions})

    async def run(self) -> None:
        """Revalidate until cancelled. Nothing is read while there are no sessions."""
        loop = asyncio.get_running_loop()
        next_check = loop.time() + self._interval
        while True:
            try:
                # A deadline, not a timeout: notices about single users, however many, must not delay the revalidation of all.
                async with asyncio.timeout_at(next_check):
                    await self._wake.wait()
            except TimeoutError:
                self._to_revalidate = {user_id for user_id, _ in self._sessions}
                next_check = loop.time() + self._interval
            self._wake.clear()
            user_ids, self._to_revalidate = self._to_revalidate, set()
            try:
                await self._revalidate([session for (user_id, _), session in self._sessions.items() if user_id in user_ids])
            except Exception:  # whatever failed, the sessions are still to be revalidated
                log.warning("sessions_not_revalidated", exc_info=True)
                self._to_revalidate |= user_ids
                self._wake.set()
                await asyncio.sleep(RETRY_DELAY)

    async def _revalidate(self, sessions: Collection[Session]) -> None:
        if not sessions:
            return
        viewers = {session: session.viewer for session in sessions}
        current_viewers = await self._load_viewers(self._database, list(viewers.values()))
        for session, previous in viewers.items():
            viewer = current_viewers.get(previous)
            if viewer is not None:
                if session.viewer is previous:  # else a new connection has updated it meanwhile
                    self._update(session, viewer)
                continue
            session_key = (previous.id, previous.key_id)
            if (
                self._sessions.get(session_key) is session
            ):  # a connection that comes now gets a new session, for its token has just been checked
                del self._sessions[session_key]
            _cancel_timer(session)
            session.end()

    def _update(self, session: Session, viewer: Viewer) -> None:
        """Set the viewer as of now, and have the session revalidated when its token expires."""
        session.viewer = viewer
        _cancel_timer(session)
        if viewer.expires_at is not None and session.holders:
            delay = max(0.0, viewer.expires_at - time.monotonic()) + EXPIRY_MARGIN
            session.expiry_timer = asyncio.get_running_loop().call_later(delay, self.revalidate, [viewer.id])


def _cancel_timer(session: Session) -> None:
    if session.expiry_timer is not None:
        session.expiry_timer.cancel()
        session.expiry_timer = None
