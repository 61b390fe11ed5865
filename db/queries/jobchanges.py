"""What a stream of changed jobs needs: the jobs that announcements name, and how each stood before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Row, Text, Uuid, and_, func, literal, select, true, tuple_
from sqlalchemy.dialects.postgresql import aggregate_order_by, array

from db.core.criteria import Criteria, OneOf
from db.core.policy import visible
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.core.work import Database
from db.queries.jobs import COLUMNS, FILTERS, jobs
from db.tables import Job, JobEvent
from db.tables.jobstates import JobStatus

BATCH_SIZE = 100  # looked for in one statement

Watch = tuple[Viewer, Criteria | None]


def _immutable_criteria(criteria: Criteria | None) -> Criteria | None:
    """The conditions on what never changes of a job: all but its status."""
    return None if criteria is None else criteria.without("status")


def _changes_statement(watches: Sequence[Watch], sequences: Mapping[UUID, int | None], as_of: datetime) -> Rows:
    """The jobs among `known` that one of the watches may be about, as lists show them, with `before`, `passed` and `fits`.

    `known` says up to which sequence each has been looked at; None means as far as it was at `moment`. `before` is [status, progress] at
    that sequence, None for a job that is new; `passed` are the statuses of the events after it, in their order; `fits` tells watch by
    watch whether its viewer may see the job and what never changes of it meets its filter.
    """
    requested = (
        func.unnest(literal(list(sequences), ARRAY(Uuid)), literal(list(sequences.values()), ARRAY(BigInteger)))
        .table_valued("job_id", "sequence", name="asked")
        .render_derived()
    )
    last_sequence = select(func.max(JobEvent.sequence)).where(JobEvent.job_id == Job.id, JobEvent.created_at <= as_of).correlate(Job)
    baseline = (
        select(func.coalesce(requested.c.sequence, last_sequence.scalar_subquery(), 0).label("sequence"))
        .correlate(Job, requested)
        .lateral("seen")
    )
    before = select(func.jsonb_build_array(JobEvent.status, JobEvent.progress))
    before = before.where(JobEvent.job_id == Job.id, JobEvent.sequence == baseline.c.sequence).correlate(Job, baseline)
    later_statuses = select(func.array_agg(aggregate_order_by(JobEvent.status, JobEvent.sequence.asc()), type_=ARRAY(Text)))
    later_statuses = later_statuses.where(JobEvent.job_id == Job.id, JobEvent.sequence > baseline.c.sequence).correlate(Job, baseline)
    matches = array([and_(visible(Job, viewer), *FILTERS.conditions(_immutable_criteria(criteria))) for viewer, criteria in watches])
    return (
        select(*COLUMNS, before.scalar_subquery().label("before"), later_statuses.scalar_subquery().label("passed"), matches.label("fits"))
        .join(requested, requested.c.job_id == Job.id)
        .join(baseline, true())
        .order_by(Job.updated_at, Job.id)
    )


async def load_changes(
    database: Database, watches: Sequence[Watch], sequences: Mapping[UUID, int | None], as_of: datetime
) -> Sequence[tuple[Row[Any], Sequence[int]]]:
    """The jobs in `known`, each with the places of those watches that its change matters to and whose viewers may see it.

    One statement for up to 100 watches: the policy of each is a column of it, so who sees what is decided where it always is. Each
    statement sees its own moment, so a job that changes between two of them comes as each of the two found it.
    """
    changes: dict[tuple[UUID, int], tuple[Row[Any], list[int]]] = {}
    for start in range(0, len(watches), BATCH_SIZE):
        batch = watches[start : start + BATCH_SIZE]
        for row in await database.rows(_changes_statement(batch, sequences, as_of)):
            indexes = [start + index for index, matches in enumerate(row.fits) if matches and _is_relevant(batch[index][1], row)]
            changes.setdefault((row.id, row.last_sequence), (row, []))[1].extend(indexes)
    return list(changes.values())


async def changed_since(database: Database, watch: Watch, position: tuple[datetime, UUID], limit: int) -> Sequence[tuple[datetime, UUID]]:
    """The next jobs that a watch may be about and that changed after a place, in the order of their last change; each is a place."""
    viewer, criteria = watch
    statement = jobs(viewer).with_only_columns(Job.updated_at, Job.id).where(*FILTERS.conditions(_immutable_criteria(criteria)))
    statement = statement.where(tuple_(Job.updated_at, Job.id) > position).order_by(Job.updated_at, Job.id).limit(limit)
    return [(row.updated_at, row.id) for row in await database.rows(statement)]


def _is_relevant(criteria: Criteria | None, row: Row[Any]) -> bool:
    """Whether status or progress changed, and the status fitted the filter at some moment from before the change on."""
    if row.before is not None:
        status, progress = row.before
        statuses = {JobStatus(status), row.status, *(JobStatus(later) for later in row.passed or ())}
        if len(statuses) == 1 and progress == row.progress:
            return False
    else:
        statuses = {row.status, *(JobStatus(later) for later in row.passed or ())}
    allowed = None if criteria is None else criteria.get("status")
    return not isinstance(allowed, OneOf) or not statuses.isdisjoint(allowed.values)
