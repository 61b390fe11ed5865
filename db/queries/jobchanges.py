"""What a stream of changed jobs needs: the jobs that announcements name, and how each stood before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Row, Text, Uuid, func, literal, select, true
from sqlalchemy.dialects.postgresql import aggregate_order_by

from db.core.viewer import Viewer
from db.core.work import Database
from db.queries.jobs import EVERY, JobFilter, jobs
from db.tables import Job, JobEvent
from db.tables.jobstates import JobStatus


def _lasting(wanted: JobFilter | None) -> JobFilter:
    """The conditions on what never changes of a job: all but its status."""
    return replace(wanted or EVERY, status=None)


async def clock(database: Database) -> datetime:
    """The database's time."""
    return (await database.rows(select(func.clock_timestamp())))[0][0]


async def since(
    database: Database, viewer: Viewer, wanted: JobFilter | None, known: Mapping[UUID, int | None], moment: datetime
) -> Sequence[Row[Any]]:
    """The jobs among `known` that may match, as lists show them, with `before` and `passed`.

    `known` says up to which sequence each has been looked at; None means as far as it was at `moment`. `before` is [status, progress] at
    that sequence, None for a job that is new; `passed` are the statuses of the events after it, in their order.
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
    found = (
        jobs(viewer, _lasting(wanted))
        .join(asked, asked.c.job_id == Job.id)
        .join(seen, true())
        .add_columns(before.scalar_subquery().label("before"), passed.scalar_subquery().label("passed"))
        .order_by(Job.updated_at, Job.id)
    )
    return await database.rows(found)


async def changed_since(database: Database, viewer: Viewer, wanted: JobFilter | None, moment: datetime) -> Sequence[UUID]:
    """The jobs that may match and changed after the moment."""
    found = jobs(viewer, _lasting(wanted)).with_only_columns(Job.id).where(Job.updated_at > moment)
    return [row.id for row in await database.rows(found)]


def matters(wanted: JobFilter | None, row: Row[Any]) -> bool:
    """Whether status or progress changed, and the status fitted the filter at some moment from before the change on."""
    if row.before is not None:
        status, progress = row.before
        statuses = {JobStatus(status), row.status, *(JobStatus(word) for word in row.passed or ())}
        if len(statuses) == 1 and progress == row.progress:
            return False
    else:
        statuses = {row.status, *(JobStatus(word) for word in row.passed or ())}
    return wanted is None or wanted.status is None or not statuses.isdisjoint(wanted.status)
