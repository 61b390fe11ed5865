"""What a stream of changed jobs needs: the jobs that announcements name, and how each stood before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Row, Text, Uuid, and_, func, literal, select, true, tuple_
from sqlalchemy.dialects.postgresql import aggregate_order_by, array

from db.core.sql import Rows
from db.core.viewer import Viewer
from db.core.work import Database
from db.queries.jobs import COLUMNS, EVERY, JobFilter, jobs, visible
from db.tables import Job, JobEvent
from db.tables.jobstates import JobStatus

WATCHES = 100  # looked for in one statement

Watch = tuple[Viewer, JobFilter | None]


def _lasting(wanted: JobFilter | None) -> JobFilter:
    """The conditions on what never changes of a job: all but its status."""
    return replace(wanted or EVERY, status=None)


def _since(watches: Sequence[Watch], known: Mapping[UUID, int | None], moment: datetime) -> Rows:
    """The jobs among `known` that one of the watches may be about, as lists show them, with `before`, `passed` and `fits`.

    `known` says up to which sequence each has been looked at; None means as far as it was at `moment`. `before` is [status, progress] at
    that sequence, None for a job that is new; `passed` are the statuses of the events after it, in their order; `fits` tells watch by
    watch whether its viewer may see the job and what never changes of it meets its filter.
    """
    asked = (
        func.unnest(literal(list(known), ARRAY(Uuid)), literal(list(known.values()), ARRAY(BigInteger)))
        .table_valued("job_id", "sequence", name="asked")
        .render_derived()
    )
    then = select(func.max(JobEvent.sequence)).where(JobEvent.job_id == Job.id, JobEvent.created_at <= moment).correlate(Job)
    seen = select(func.coalesce(asked.c.sequence, then.scalar_subquery(), 0).label("sequence")).correlate(Job, asked).lateral("seen")
    before = select(func.jsonb_build_array(JobEvent.status, JobEvent.progress))
    before = before.where(JobEvent.job_id == Job.id, JobEvent.sequence == seen.c.sequence).correlate(Job, seen)
    passed = select(func.array_agg(aggregate_order_by(JobEvent.status, JobEvent.sequence.asc()), type_=ARRAY(Text)))
    passed = passed.where(JobEvent.job_id == Job.id, JobEvent.sequence > seen.c.sequence).correlate(Job, seen)
    fits = array([and_(visible(viewer), *_lasting(wanted).conditions()) for viewer, wanted in watches])
    return (
        select(*COLUMNS, before.scalar_subquery().label("before"), passed.scalar_subquery().label("passed"), fits.label("fits"))
        .join(asked, asked.c.job_id == Job.id)
        .join(seen, true())
        .order_by(Job.updated_at, Job.id)
    )


async def look(
    database: Database, watches: Sequence[Watch], known: Mapping[UUID, int | None], moment: datetime
) -> Sequence[tuple[Row[Any], Sequence[int]]]:
    """The jobs in `known`, each with the places of those watches that its change matters to and whose viewers may see it.

    One statement for up to 100 watches: the policy of each is a column of it, so who sees what is decided where it always is. Each
    statement sees its own moment, so a job that changes between two of them comes as each of the two found it.
    """
    found: dict[tuple[UUID, int], tuple[Row[Any], list[int]]] = {}
    for first in range(0, len(watches), WATCHES):
        some = watches[first : first + WATCHES]
        for row in await database.rows(_since(some, known, moment)):
            places = [first + place for place, fits in enumerate(row.fits) if fits and _matters(some[place][1], row)]
            found.setdefault((row.id, row.last_sequence), (row, []))[1].extend(places)
    return list(found.values())


async def changed_since(database: Database, watch: Watch, place: tuple[datetime, UUID], limit: int) -> Sequence[tuple[datetime, UUID]]:
    """The next jobs that a watch may be about and that changed after a place, in the order of their last change; each is a place."""
    viewer, wanted = watch
    found = jobs(viewer, _lasting(wanted)).with_only_columns(Job.updated_at, Job.id)
    found = found.where(tuple_(Job.updated_at, Job.id) > place).order_by(Job.updated_at, Job.id).limit(limit)
    return [(row.updated_at, row.id) for row in await database.rows(found)]


def _matters(wanted: JobFilter | None, row: Row[Any]) -> bool:
    """Whether status or progress changed, and the status fitted the filter at some moment from before the change on."""
    if row.before is not None:
        status, progress = row.before
        statuses = {JobStatus(status), row.status, *(JobStatus(word) for word in row.passed or ())}
        if len(statuses) == 1 and progress == row.progress:
            return False
    else:
        statuses = {row.status, *(JobStatus(word) for word in row.passed or ())}
    return wanted is None or wanted.status is None or not statuses.isdisjoint(wanted.status)
