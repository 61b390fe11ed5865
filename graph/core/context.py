"""What a resolver has at hand. No session is in here: reads go through the loaders, writes through one `work()` a mutation."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import strawberry

from db.core.viewer import Viewer
from db.core.work import Database, Work
from graph.core.failures import Unauthenticated
from graph.core.loading import Loaders

if TYPE_CHECKING:
    from db.stores.feed import Feed
    from db.stores.objects import ObjectStore
    from db.stores.sessions import Session
    from graph.core.limits.gate import Gate, Spent
    from graph.core.observing import Observation, Observer


@dataclass(slots=True)
class Progress:
    """How far a stream with cursors has come, beside what its document selects: a transport that numbers its events reads it.

    It has begun once its source is open, before its first event. `after` is where a client that lost its connection takes the stream up
    again; it counts for more than the argument of the document, which is sent again as it was.
    """

    after: str | None = None
    reached: str | None = None
    _has_begun: bool = False
    _waiting: asyncio.Event | None = None  # made when somebody waits: an event takes more memory than all else here

    def begin(self) -> None:
        self._has_begun = True
        if self._waiting is not None:
            self._waiting.set()

    @property
    def has_begun(self) -> bool:
        return self._has_begun

    async def began(self) -> None:
        """Wait until it has."""
        if not self._has_begun:
            self._waiting = self._waiting or asyncio.Event()
            await self._waiting.wait()


@dataclass(slots=True)
class Context:
    """Of one request, or of one websocket; `for_operation` makes the one that an operation runs in.

    `phase` is parse, validate or execute: how far the operation has come, for the codes of its errors.
    """

    database: Database
    objects: ObjectStore
    feed: Feed
    viewer: Viewer | None
    request_id: str = field(default_factory=lambda: uuid4().hex)
    phase: str = "parse"
    introspection: bool = True
    connection_params: dict[str, Any] | None = None  # of a websocket: what its handshake or its connection_init carried
    observer: Observer | None = None
    observation: Observation | None = None  # of the operation that runs in this context
    progress: Progress = field(default_factory=Progress)
    patience: float | None = None  # seconds that one execution may take
    session: Session | None = None  # of a subscription: says whether its viewer is still signed in
    gate: Gate | None = None
    address: str | None = None  # of the client, for those who are not signed in
    shows_cost: bool = False  # whether the answer's extensions tell what the operation cost
    spent: Spent | None = None  # by the operation that runs in this context
    paid: int = 0  # points, for looking at the document
    registers: str | None = None  # the hash under which the document is to be kept once it is known to be good
    loaders: Loaders = field(init=False)

    def __post_init__(self) -> None:
        self.refresh()

    def refresh(self) -> None:
        """Forget what was loaded, as before each event of a subscription."""
        self.loaders = Loaders(self.database, self.viewer)

    def for_operation(self) -> Context:
        """The same with loaders of its own: a websocket runs several operations at once, and none may see what another has cached."""
        return replace(self, phase="parse", connection_params=None, observation=None, spent=None)

    @property
    def signed_in(self) -> Viewer:
        """The viewer; raises `Unauthenticated` where there is none."""
        if self.viewer is None:
            raise Unauthenticated
        return self.viewer

    def work(self) -> AbstractAsyncContextManager[Work]:
        """A unit of work of the viewer, committed when its block ends."""
        return self.database.work(self.signed_in)


Info = strawberry.Info[Context, None]
