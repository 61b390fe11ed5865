"""The resolver context at `info.context`: the services of the process, the viewer, and the state of the operation.

It holds no database session: reads go through the loaders, writes through one `work()` per mutation.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

import strawberry

from db.core.audit import AuditOrigin, Origin
from db.core.networks import NO_CLIENT, ClientInfo
from db.core.viewer import Viewer
from db.core.work import Database, Work
from graph.core.errors import Unauthenticated
from graph.core.loading import Loaders
from graph.core.session_cookie import SessionCookie

if TYPE_CHECKING:
    from db.services.accounts import (
        AccountDeletions,
        EmailChanges,
        Passkeys,
        PasswordChanges,
        Registrations,
        Restorations,
        SecondFactors,
        SignIns,
        TeamInvitations,
    )
    from db.stores.objects import ObjectStore
    from db.streams.feed import Feed
    from db.streams.sessions import Session
    from graph.core.rate_limit import RateLimitStatus


@dataclass(slots=True)
class StreamProgress:
    """The position of a stream with cursors. A transport that numbers its events reads it, whatever the document selects.

    The stream has started once its source is open, before its first event. A client that lost its connection resumes from the cursor
    `after`, which takes precedence over the document's argument: the client sends the document again unchanged.
    """

    after: str | None = None
    last_cursor: str | None = None
    _has_started: bool = False
    _started_event: asyncio.Event | None = None  # created for the first waiter: an event takes more memory than all other attributes

    def mark_started(self) -> None:
        self._has_started = True
        if self._started_event is not None:
            self._started_event.set()

    @property
    def has_started(self) -> bool:
        return self._has_started

    async def wait_until_started(self) -> None:
        if not self._has_started:
            self._started_event = self._started_event or asyncio.Event()
            await self._started_event.wait()


@dataclass(slots=True)
class Context:
    """The context of one operation. `graph.execution.context` extends it with what running the operation needs."""

    database: Database
    objects: ObjectStore
    feed: Feed
    viewer: Viewer | None
    client: ClientInfo = NO_CLIENT
    sign_ins: SignIns | None = None  # of an API process, as the next seven
    password_changes: PasswordChanges | None = None
    registrations: Registrations | None = None
    team_invitations: TeamInvitations | None = None
    email_changes: EmailChanges | None = None
    second_factors: SecondFactors | None = None
    sign_in_providers: tuple[str, ...] = ()  # by which one can sign in, besides passwords
    account_deletions: AccountDeletions | None = None
    restorations: Restorations | None = None
    passkeys: Passkeys | None = None
    cookie: SessionCookie = field(default_factory=SessionCookie)  # of the browser that sent the request
    session: Session | None = None  # of a subscription; knows whether its viewer is still signed in
    request_id: str = field(default_factory=lambda: uuid4().hex)
    progress: StreamProgress = field(default_factory=StreamProgress)
    rate_limit_status: RateLimitStatus | None = None  # set before the operation is executed
    loaders: Loaders = field(init=False)

    def __post_init__(self) -> None:
        self.reset_loaders()

    def sign_in(self, viewer: Viewer | None) -> None:
        """Replace the viewer, as of a newer look-up, before the operation runs."""
        self.viewer = viewer
        self.reset_loaders()

    def reset_loaders(self) -> None:
        """Drop the loader caches, as before each event of a subscription."""
        self.loaders = Loaders(self.database, self.viewer)

    @property
    def signed_in_viewer(self) -> Viewer:
        """The viewer. Raises `Unauthenticated` if nobody is signed in."""
        if self.viewer is None:
            raise Unauthenticated
        return self.viewer

    @property
    def origin(self) -> Origin:
        """Where the changes of this operation come from, for the audit."""
        return Origin(AuditOrigin.API, self.client.address, self.request_id)

    def work(self) -> AbstractAsyncContextManager[Work]:
        """Open a unit of work for the viewer. It commits when its block ends."""
        return self.database.work(self.signed_in_viewer)


Info = strawberry.Info[Context, None]
