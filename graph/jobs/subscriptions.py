"""Jobs as they happen. A stream is told that there is something new, then reads it: what is told may be lost, what is read is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, TypeVar, cast
from uuid import UUID

import strawberry
from strawberry import ID

from db.errors import NotFound, Unavailable
from db.queries import jobevents, jobs
from db.queries.jobs import JobFilter as Wanted
from db.stores import streamcounts
from db.stores.changes import COMMITTING
from db.stores.tails import Told
from db.tables.jobstates import TERMINAL
from graph.core.context import Context, Info
from graph.core.ids import decode
from graph.core.permissions import subscription
from graph.jobs.inputs import JobFilter
from graph.jobs.parts import JobEvent
from graph.jobs.types import Job

if TYPE_CHECKING:
    from db.core.viewer import Viewer
    from db.stores.changes import Watcher
    from db.stores.tails import Follower

T = TypeVar("T")

PAUSE = 0.5  # seconds before Postgres is asked again, when it is away

DELIVERED, REREAD = streamcounts.DELIVERED.labels("jobEvents"), streamcounts.REREAD.labels("jobEvents")
UPDATED, UPDATES_REREAD = streamcounts.DELIVERED.labels("jobUpdates"), streamcounts.REREAD.labels("jobUpdates")


@strawberry.type
class JobSubscriptions:
    @subscription(
        description="The events of a job, from the first or from after a cursor: those there are, then each as it happens, without a gap or a"
        " repeat. Completes after the job's last event."
    )
    async def job_events(
        self,
        info: Info,
        id: Annotated[ID, strawberry.argument(description="The job.")],
        after: Annotated[
            str | None, strawberry.argument(description="A `JobEvent.cursor` of this job; from the start when not given.")
        ] = None,
    ) -> AsyncGenerator[JobEvent, None]:
        context = info.context
        job_id = decode("job", id)
        found = await jobs.by_id(context.database, context.signed_in, [job_id])
        if job_id not in found:
            raise NotFound(id)
        after = context.progress.after or after
        told = _events(context, job_id, 0 if after is None else jobevents.sequence_of(after, job_id, found[job_id].last_sequence))
        return cast("AsyncGenerator[JobEvent, None]", told)  # each is taken out of its `Told` when it is answered

    @subscription(
        description="Jobs that you can see, each time that their status or progress changes, if they meet the conditions before or after the"
        " change. Changes that follow each other closely come as one."
    )
    async def job_updates(
        self,
        info: Info,
        filter: Annotated[
            JobFilter | None, strawberry.argument(description="Only jobs that meet all of these conditions; all when not given.")
        ] = None,
    ) -> AsyncGenerator[Job, None]:
        told = _updates(info.context, None if filter is None else filter.plain())
        return cast("AsyncGenerator[Job, None]", told)


async def _events(context: Context, job_id: UUID, seen: int) -> AsyncGenerator[Told, None]:
    assert context.session is not None
    session, feed = context.session, context.feed
    with feed.follow(job_id, session) as follower:
        viewer = session.viewer
        told = await _replayed(context, follower, job_id, seen)
        while True:
            for event in told:
                # A page is told for as long as its reader takes, and rights may be lost within it.
                follower.check()
                if session.viewer != viewer:
                    break
                if event.source is None:
                    event.source, event.cursor = JobEvent.of(event.row), jobevents.cursor_of(job_id, event.row.sequence)
                seen = event.row.sequence
                DELIVERED.inc()
                yield event
                if event.row.status in TERMINAL:
                    return
            event = None  # while nothing happens, nothing of what did is kept
            if session.viewer == viewer and len(told) < jobevents.REPLAY:
                if told:
                    feed.reached(job_id, seen)
                elif await _is_over(context, follower, job_id, seen):  # the cursor was that of the last event
                    return
                told = ()
                told = await follower.after(seen)
                if told is not None and session.viewer == viewer:
                    continue
                REREAD.inc()
            viewer = session.viewer
            told = await _replayed(context, follower, job_id, seen)


async def _replayed(context: Context, follower: Follower, job_id: UUID, seen: int) -> Sequence[Told]:
    """The next rows after `seen`, at most 200."""
    return [Told(row) for row in await _patiently(follower, lambda viewer: jobevents.after(context.database, viewer, job_id, seen))]


async def _is_over(context: Context, follower: Follower, job_id: UUID, seen: int) -> bool:
    """Whether there is nothing more to come; if there is, the feed learns where the job stands."""
    found = await _patiently(follower, lambda viewer: jobs.by_id(context.database, viewer, [job_id]))
    if job_id not in found:
        raise NotFound(str(job_id))
    context.feed.reached(job_id, found[job_id].last_sequence)
    return found[job_id].status in TERMINAL and found[job_id].last_sequence <= seen


async def _patiently(follower: Follower, read: Callable[[Viewer], Awaitable[T]]) -> T:
    """What is read, as the viewer that the follower is by now; while Postgres is away, it is waited for."""
    while True:
        follower.check()
        try:
            return await read(follower.session.viewer)
        except Unavailable:
            await asyncio.sleep(PAUSE)


async def _updates(context: Context, wanted: Wanted | None) -> AsyncGenerator[Told, None]:
    assert context.session is not None
    changes = context.feed.changes
    with changes.watch(context.session, wanted) as watcher:
        while True:
            told = await watcher.next()
            if told:
                for change in _as_seen(watcher, told):
                    yield change
                continue
            UPDATES_REREAD.inc()
            async with aclosing(changes.missed(watcher)) as pages:
                async for page in pages:
                    for change in _as_seen(watcher, page):
                        yield change


def _as_seen(watcher: Watcher, told: Sequence[Told]) -> Iterator[Told]:
    """One after the other, for as long as their reader is who they were read for; what is left then is read anew."""
    viewer = watcher.session.viewer
    for change in told:
        watcher.session.check()
        if watcher.session.viewer != viewer:
            watcher.fall_behind(min(left.row.updated_at for left in told) - COMMITTING)
            return
        if change.source is None:
            change.source = Job.of(change.row)
        UPDATED.inc()
        yield change
