"""Subscriptions to jobs. A notice only wakes a stream, which then reads the rows: a notice may be lost, a row is not."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, TypeVar, cast
from uuid import UUID

import strawberry
from strawberry import ID

from db.core.criteria import Criteria
from db.errors import NotFound, Unavailable
from db.queries import jobevents, jobs
from db.streams import stream_metrics
from db.streams.job_tail import StreamEvent
from db.streams.job_watch import MAX_COMMIT_DELAY
from db.tables.jobstates import TERMINAL
from graph.core.context import Context, Info
from graph.core.ids import decode
from graph.core.permissions import subscription
from graph.jobs.inputs import JobFilter
from graph.jobs.parts import JobEvent
from graph.jobs.types import Job

if TYPE_CHECKING:
    from db.core.viewer import Viewer
    from db.streams.job_tail import Follower
    from db.streams.job_watch import Watcher

T = TypeVar("T")

RETRY_DELAY = 0.5  # seconds between reads while PostgreSQL is unavailable

EVENT_DELIVERIES, EVENT_REREADS = stream_metrics.DELIVERIES.labels("jobEvents"), stream_metrics.REREADS.labels("jobEvents")
UPDATE_DELIVERIES, UPDATE_REREADS = stream_metrics.DELIVERIES.labels("jobUpdates"), stream_metrics.REREADS.labels("jobUpdates")


@strawberry.type
class JobSubscriptions:
    @subscription(
        description="The events of a job, from the first one or from after a cursor: first those that exist, then new ones as they happen, without"
        " gaps or duplicates. Completes after the job's last event."
    )
    async def job_events(
        self,
        info: Info,
        id: Annotated[ID, strawberry.argument(description="The job.")],
        after: Annotated[
            str | None,
            strawberry.argument(description="A `JobEvent.cursor` of this job; by default, the stream starts with the first event."),
        ] = None,
    ) -> AsyncGenerator[JobEvent, None]:
        context = info.context
        job_id = decode("job", id)
        jobs_by_id = await jobs.by_id(context.database, context.signed_in_viewer, [job_id])
        if job_id not in jobs_by_id:
            raise NotFound(id)
        after = context.progress.after or after
        events = _stream_events(
            context, job_id, 0 if after is None else jobevents.sequence_of(after, job_id, jobs_by_id[job_id].last_sequence)
        )
        return cast("AsyncGenerator[JobEvent, None]", events)  # executing an event takes it from its `StreamEvent`

    @subscription(
        description="Every change of status or progress of the jobs that you may see, if the job meets the conditions before or after the"
        " change. Changes in quick succession are merged into one."
    )
    async def job_updates(
        self,
        info: Info,
        filter: Annotated[
            JobFilter | None, strawberry.argument(description="Only jobs that meet all of these conditions; all jobs by default.")
        ] = None,
    ) -> AsyncGenerator[Job, None]:
        updates = _stream_updates(info.context, None if filter is None else filter.to_criteria())
        return cast("AsyncGenerator[Job, None]", updates)


async def _stream_events(context: Context, job_id: UUID, last_sequence: int) -> AsyncGenerator[StreamEvent, None]:
    assert context.session is not None
    session, feed = context.session, context.feed
    with feed.follow(job_id, session) as follower:
        viewer = session.viewer
        events = await _read_events(context, follower, job_id, last_sequence)
        while True:
            for event in events:
                # A slow client may take long to receive a batch, and lose its permissions meanwhile.
                follower.check()
                if session.viewer != viewer:
                    break
                if event.source is None:
                    event.source, event.cursor = JobEvent.of(event.row), jobevents.cursor_of(job_id, event.row.sequence)
                last_sequence = event.row.sequence
                EVENT_DELIVERIES.inc()
                yield event
                if event.row.status in TERMINAL:
                    return
            event = None  # keep no event in memory while waiting
            if session.viewer == viewer and len(events) < jobevents.REPLAY:
                if events:
                    feed.mark_read(job_id, last_sequence)
                elif await _has_ended(context, follower, job_id, last_sequence):  # the client resumed after the last event
                    return
                events = ()
                events = await follower.after(last_sequence)
                if events is not None and session.viewer == viewer:
                    continue
                EVENT_REREADS.inc()
            viewer = session.viewer
            events = await _read_events(context, follower, job_id, last_sequence)


async def _read_events(context: Context, follower: "Follower", job_id: UUID, last_sequence: int) -> Sequence[StreamEvent]:
    """Return the next events after `last_sequence`, at most 200."""
    return [
        StreamEvent(row)
        for row in await _read_with_retry(follower, lambda viewer: jobevents.events_after(context.database, viewer, job_id, last_sequence))
    ]


async def _has_ended(context: Context, follower: "Follower", job_id: UUID, last_sequence: int) -> bool:
    """Whether no event can follow. Also tell the feed the last sequence of the job. Raise `NotFound` for a job that is gone or hidden."""
    jobs_by_id = await _read_with_retry(follower, lambda viewer: jobs.by_id(context.database, viewer, [job_id]))
    if job_id not in jobs_by_id:
        raise NotFound(str(job_id))
    context.feed.mark_read(job_id, jobs_by_id[job_id].last_sequence)
    return jobs_by_id[job_id].status in TERMINAL and jobs_by_id[job_id].last_sequence <= last_sequence


async def _read_with_retry(follower: "Follower", read: "Callable[[Viewer], Awaitable[T]]") -> T:
    """Read as the present viewer of the follower's session; retry while PostgreSQL is unavailable."""
    while True:
        follower.check()
        try:
            return await read(follower.session.viewer)
        except Unavailable:
            await asyncio.sleep(RETRY_DELAY)


async def _stream_updates(context: Context, criteria: Criteria | None) -> AsyncGenerator[StreamEvent, None]:
    assert context.session is not None
    job_watch = context.feed.job_watch
    with job_watch.watch(context.session, criteria) as watcher:
        while True:
            events = await watcher.next()
            if events:
                for change in _while_unchanged_viewer(watcher, events):
                    yield change
                continue
            UPDATE_REREADS.inc()
            async with aclosing(job_watch.catch_up(watcher)) as pages:
                async for page in pages:
                    for change in _while_unchanged_viewer(watcher, page):
                        yield change


def _while_unchanged_viewer(watcher: "Watcher", changes: Sequence[StreamEvent]) -> Iterator[StreamEvent]:
    """Yield the changes while the viewer is the one for whom they were read. When it changes, mark the rest to be read again."""
    viewer = watcher.session.viewer
    for change in changes:
        watcher.session.check()
        if watcher.session.viewer != viewer:
            watcher.fall_behind(min(remaining.row.updated_at for remaining in changes) - MAX_COMMIT_DELAY)
            return
        if change.source is None:
            change.source = Job.of(change.row)
        UPDATE_DELIVERIES.inc()
        yield change
