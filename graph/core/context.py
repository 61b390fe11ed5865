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
from graph.core.errors import Unauthenticated
from graph.core.loading import Loaders

if TYPE_CHECKING:
    from db.stores.objects import ObjectStore
    from db.streams.feed import Feed
    from db.streams.sessions import Session
    from graph.core.rate_limit import RateLimitStatus
    from graph.execution.limits.gate import Gate
    from graph.execution.observation import Observation, Observer


@dataclass(slots=True)
class StreamProgress:
    """How far a stream with cursors has come, beside what its document selects: a transport that numbers its events reads it.

    It has begun once its source is open, before its first event. `after` is where a client that lost its connection takes the stream up
    again; it counts for more than the argument of the document, which is sent again as it was.
    """

    after: str | None = None
    last_cursor: str | None = None
    _has_started: bool = False
    _started_event: asyncio.Event | None = None  # made when somebody waits: an event takes more memory than all else here

    def mark_started(self) -> None:
        self._has_started = True
        if self._started_event is not None:
            self._started_event.set()

    @property
    def has_started(self) -> bool:
        return self._has_started

    async def wait_until_started(self) -> None:
        """Wait until it has."""
        if not self._has_started:
            self._started_event = self._started_event or asyncio.Event()
            await self._started_event.wait()


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
    progress: StreamProgress = field(default_factory=StreamProgress)
    execution_timeout: float | None = None  # seconds that one execution may take
    session: Session | None = None  # of a subscription: says whether its viewer is still signed in
    gate: Gate | None = None
    address: str | None = None  # of the client, for those who are not signed in
    shows_cost: bool = False  # whether the answer's extensions tell what the operation cost
    rate_limit_status: RateLimitStatus | None = None  # by the operation that runs in this context
    prepaid_points: int = 0  # points, for looking at the document
    hash_to_register: str | None = None  # the hash under which the document is to be kept once it is known to be good
    loaders: Loaders = field(init=False)

    def __post_init__(self) -> None:
        self.reset_loaders()

    def reset_loaders(self) -> None:
        """Forget what was loaded, as before each event of a subscription."""
        self.loaders = Loaders(self.database, self.viewer)

    def for_operation(self) -> Context:
        """The same with loaders of its own: a websocket runs several operations at once, and none may see what another has cached."""
        return replace(self, phase="parse", connection_params=None, observation=None, rate_limit_status=None)

    @property
    def signed_in_viewer(self) -> Viewer:
        """The viewer; raises `Unauthenticated` where there is none."""
        if self.viewer is None:
            raise Unauthenticated
        return self.viewer

    def work(self) -> AbstractAsyncContextManager[Work]:
        """A unit of work of the viewer, committed when its block ends."""
        return self.database.work(self.signed_in_viewer)


Info = strawberry.Info[Context, None]
