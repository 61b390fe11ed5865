"""Reads for streams of job changes: the jobs that notices name, and the state of each before the change."""

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

BATCH_SIZE = 100  # watches per statement

Watch = tuple[Viewer, Criteria | None]


def _immutable_criteria(criteria: Criteria | None) -> Criteria | None:
    """The conditions on columns that never change: all but the status."""
    return None if criteria is None else criteria.without("status")


def _changes_statement(watches: Sequence[Watch], sequences: Mapping[UUID, int | None], as_of: datetime) -> Rows:
    """The jobs of `sequences` with the columns of lists, and `before`, `later_statuses` and `matches`.

    `sequences` has the last sequence read of each job; None stands for the job's last sequence at `as_of`. `before` is [status, progress]
    at that sequence, None for a new job; `later_statuses` are those of the later events, by sequence; `matches` has for each
    watch whether its viewer may see the job and whether the columns that never change meet its filter.
    """
    requested = (
        func.unnest(literal(list(sequences), ARRAY(Uuid)), literal(list(sequences.values()), ARRAY(BigInteger)))
        .table_valued("job_id", "sequence", name="requested")
        .render_derived()
    )
    last_sequence = select(func.max(JobEvent.sequence)).where(JobEvent.job_id == Job.id, JobEvent.created_at <= as_of).correlate(Job)
    baseline = (
        select(func.coalesce(requested.c.sequence, last_sequence.scalar_subquery(), 0).label("sequence"))
        .correlate(Job, requested)
        .lateral("baseline")
    )
    before = select(func.jsonb_build_array(JobEvent.status, JobEvent.progress))
    before = before.where(JobEvent.job_id == Job.id, JobEvent.sequence == baseline.c.sequence).correlate(Job, baseline)
    later_statuses = select(func.array_agg(aggregate_order_by(JobEvent.status, JobEvent.sequence.asc()), type_=ARRAY(Text)))
    later_statuses = later_statuses.where(JobEvent.job_id == Job.id, JobEvent.sequence > baseline.c.sequence).correlate(Job, baseline)
    matches = array([and_(visible(Job, viewer), *FILTERS.conditions(_immutable_criteria(criteria))) for viewer, criteria in watches])
    return (
        select(
            *COLUMNS,
            before.scalar_subquery().label("before"),
            later_statuses.scalar_subquery().label("later_statuses"),
            matches.label("matches"),
        )
        .join(requested, requested.c.job_id == Job.id)
        .join(baseline, true())
        .order_by(Job.updated_at, Job.id)
    )


async def load_changes(
    database: Database, watches: Sequence[Watch], sequences: Mapping[UUID, int | None], as_of: datetime
) -> Sequence[tuple[Row[Any], Sequence[int]]]:
    """The jobs of `sequences`, each with the indexes of the watches that match its change and whose viewers may see it.

    One statement serves up to 100 watches: the policy of each viewer is a column of it. Each statement has its own snapshot, so a job that
    changes between two of them is answered once as each of the two read it.
    """
    changes: dict[tuple[UUID, int], tuple[Row[Any], list[int]]] = {}
    for start in range(0, len(watches), BATCH_SIZE):
        batch = watches[start : start + BATCH_SIZE]
        for row in await database.rows(_changes_statement(batch, sequences, as_of)):
            indexes = [start + index for index, matches in enumerate(row.matches) if matches and _is_relevant(batch[index][1], row)]
            changes.setdefault((row.id, row.last_sequence), (row, []))[1].extend(indexes)
    return list(changes.values())


async def changed_since(database: Database, watch: Watch, position: tuple[datetime, UUID], limit: int) -> Sequence[tuple[datetime, UUID]]:
    """The positions (time of the last change, id) of the next jobs after `position` that a watch may match, in that order."""
    viewer, criteria = watch
    statement = jobs(viewer).with_only_columns(Job.updated_at, Job.id).where(*FILTERS.conditions(_immutable_criteria(criteria)))
    statement = statement.where(tuple_(Job.updated_at, Job.id) > position).order_by(Job.updated_at, Job.id).limit(limit)
    return [(row.updated_at, row.id) for row in await database.rows(statement)]


def _is_relevant(criteria: Criteria | None, row: Row[Any]) -> bool:
    """Whether status or progress changed, and the filter allows the status before the change, after it or in between."""
    if row.before is not None:
        status, progress = row.before
        statuses = {JobStatus(status), row.status, *(JobStatus(later) for later in row.later_statuses or ())}
        if len(statuses) == 1 and progress == row.progress:
            return False
    else:
        statuses = {row.status, *(JobStatus(later) for later in row.later_statuses or ())}
    allowed = None if criteria is None else criteria.get("status")
    return not isinstance(allowed, OneOf) or not statuses.isdisjoint(allowed.values)
