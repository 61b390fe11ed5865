"""The last events of a job that is followed: read once and shared by all of its followers."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Hashable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import BigInteger, Row, Select, Uuid, bindparam, func, select, true
from sqlalchemy.dialects.postgresql import ARRAY

from db.errors import NotFound
from db.tables import JobEvent

if TYPE_CHECKING:
    from db.streams.sessions import Session

MAX_EVENTS = 64  # events of a job that a follower may lag behind before it reads rows itself


class StreamEvent:
    """An event of a stream, shared by its subscribers.

    `source` is what a schema makes of the row, `cursor` its position in the stream, and `results` what equal selections share.
    """

    __slots__ = ("cursor", "read_at", "results", "row", "source")

    def __init__(self, row: Row[Any]) -> None:
        self.row = row
        self.read_at = time.monotonic()
        self.source: Any = None
        self.cursor: str | None = None
        self.results: dict[Hashable, Any] = {}


class Tail:
    """The last events of one job; `last` is their last sequence, None until the first follower has read the rows.

    Only what some follower may still need is kept: at most 64 events, and none that all followers have taken.
    """

    __slots__ = ("announced", "events", "followers", "is_gone", "job_id", "last")

    def __init__(self, job_id: UUID) -> None:
        self.job_id = job_id
        self.last: int | None = None
        self.announced = 0
        self.events: deque[StreamEvent] = deque(maxlen=MAX_EVENTS)
        self.followers: set[Follower] = set()
        self.is_gone = False

    def append(self, rows: Sequence[Row[Any]]) -> Sequence[StreamEvent]:
        """Add rows in the order of their sequences and wake the followers; return the events that are new."""
        new_events: list[StreamEvent] = []
        for row in rows:
            if self.last is None or row.sequence <= self.last:
                continue
            if row.sequence != self.last + 1:
                self.events.clear()  # `after` counts positions from the first event, so a gap is not allowed
            event = StreamEvent(row)
            self.events.append(event)
            self.last = row.sequence
            new_events.append(event)
        if new_events:
            self.wake()
        return new_events

    def after(self, sequence: int) -> Sequence[StreamEvent] | None:
        """Return the events after this sequence; None when they are no longer kept."""
        if not self.events or sequence + 1 < self.events[0].row.sequence:
            return None
        return tuple(islice(self.events, sequence + 1 - self.events[0].row.sequence, None))

    def trim(self, before: float) -> None:
        """Drop the events that all followers have taken, and those read before `before`; a follower that lags behind reads the rows."""
        taken = min((follower.taken for follower in self.followers if follower.taken is not None), default=self.last or 0)
        while self.events and (self.events[0].row.sequence <= taken or self.events[0].read_at < before):
            self.events.popleft()

    def wake(self) -> None:
        for follower in self.followers:
            follower.wake()


class Follower:
    """A subscriber of one job. It has no queue of its own, only a position in the shared tail, so a slow one delays nobody."""

    __slots__ = ("_tail", "_waiter", "is_hidden", "session", "taken")

    def __init__(self, tail: Tail, session: Session) -> None:
        self._tail = tail
        self._waiter: asyncio.Future[None] | None = None
        self.session = session
        self.is_hidden = False
        self.taken: int | None = None  # the last sequence that it has taken, once it has read the rows

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def check(self) -> None:
        """Raise `SignedOut` when the session is over, `NotFound` when the job is gone or the viewer may no longer see it."""
        self.session.check()
        if self.is_hidden or self._tail.is_gone:
            raise NotFound(str(self._tail.job_id))

    async def after(self, sequence: int) -> Sequence[StreamEvent] | None:
        """Wait for events after `sequence` and return them; None when they have to be read from the rows. Raises as `check` does."""
        tail, self.taken = self._tail, sequence
        while True:
            self.check()
            if tail.last is not None and tail.last > sequence:
                return tail.after(sequence)
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None


def _newer_events() -> Select[Any]:
    """Build the statement for the next events of each of `p_job_ids` after its sequence in `p_sequences`, at most as many as a tail keeps."""
    job_ids, positions = bindparam("p_job_ids", type_=ARRAY(Uuid)), bindparam("p_sequences", type_=ARRAY(BigInteger))
    requested = func.unnest(job_ids, positions).table_valued("job_id", "sequence", name="requested").render_derived()
    events = (
        select(JobEvent.__table__)
        .where(JobEvent.job_id == requested.c.job_id, JobEvent.sequence > requested.c.sequence)
        .order_by(JobEvent.sequence)
        .limit(MAX_EVENTS)
        .correlate(requested)
        .lateral("events")
    )
    return select(events).select_from(requested.join(events, true())).order_by(events.c.job_id, events.c.sequence)


NEWER_EVENTS = _newer_events()
