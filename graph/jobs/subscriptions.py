"""Jobs as they happen. A stream is told that there is something new, then reads it: what is told may be lost, what is read is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import strawberry
from strawberry import ID

from db.errors import NotFound
from db.queries import jobchanges, jobevents, jobs
from db.queries.jobs import JobFilter as Wanted
from db.tables.jobstates import TERMINAL
from graph.core.context import Context, Info
from graph.core.ids import decode
from graph.core.permissions import subscription
from graph.jobs.inputs import JobFilter
from graph.jobs.parts import JobEvent
from graph.jobs.types import Job

if TYPE_CHECKING:
    from db.stores.events import Subscription

GATHERED = 0.05  # seconds in which changes are taken together
AT_ONCE = 500  # jobs looked at in one statement
REMEMBERED = 20_000  # jobs whose last look is kept
COMMITTING = timedelta(seconds=15)  # an event is stamped before it is committed: how much before, at most


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
        if job_id not in await jobs.by_id(context.database, context.signed_in, [job_id]):
            raise NotFound(id)
        return _events(context, job_id, 0 if after is None else jobevents.sequence_of(after, job_id))

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
        return _updates(info.context, None if filter is None else filter.plain())


async def _events(context: Context, job_id: UUID, seen: int) -> AsyncGenerator[JobEvent, None]:
    async with context.feed.watch(job_id) as announced:
        while True:
            rows = await jobevents.after(context.database, context.signed_in, job_id, seen)
            for row in rows:
                seen = row.sequence
                yield JobEvent.of(row)
                if row.status in TERMINAL:
                    return
            if len(rows) == jobevents.REPLAY:
                continue
            if not rows and await _is_over(context, job_id, seen):  # the cursor was that of the last event
                return
            await _something_after(announced, seen)


async def _is_over(context: Context, job_id: UUID, seen: int) -> bool:
    found = await jobs.by_id(context.database, context.signed_in, [job_id])
    return job_id not in found or (found[job_id].status in TERMINAL and found[job_id].last_sequence <= seen)


async def _something_after(announced: Subscription, seen: int) -> None:
    """Wait for an event past `seen`, or for word that some may have been missed."""
    while True:
        notice = await announced.next()
        if notice is None or notice.sequence > seen:
            return


async def _updates(context: Context, wanted: Wanted | None) -> AsyncGenerator[Job, None]:
    database, viewer = context.database, context.signed_in
    async with context.feed.watch_all() as announced:
        start = moment = await jobchanges.clock(database) - COMMITTING
        known: dict[UUID, int] = {}
        while True:
            named = await _gathered(announced)
            if named is None:
                again = await jobchanges.clock(database) - COMMITTING
                named = dict.fromkeys(await jobchanges.changed_since(database, viewer, wanted, moment), 0)
                moment = again
            fresh = [key for key, sequence in named.items() if sequence == 0 or sequence > known.get(key, 0)]
            for first in range(0, len(fresh), AT_ONCE):
                asked = {key: known.get(key) for key in fresh[first : first + AT_ONCE]}
                for row in await jobchanges.since(database, viewer, wanted, asked, start):
                    known.pop(row.id, None)
                    known[row.id] = row.last_sequence
                    if jobchanges.matters(wanted, row):
                        yield Job.of(row)
            while len(known) > REMEMBERED:
                del known[next(iter(known))]


async def _gathered(announced: Subscription) -> dict[UUID, int] | None:
    """What is announced next, with what follows it at once: the last sequence of each job. None when some may have been missed."""
    named: dict[UUID, int] = {}
    notice = await announced.next()
    try:
        async with asyncio.timeout(GATHERED):
            while notice is not None:
                named[notice.job_id] = notice.sequence
                notice = await announced.next()
    except TimeoutError:
        return named
    return None
