"""Counts of jobs, and how long they took and waited, by groups."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, DateTime, Double, FromClause, Row, Text, cast, func, literal, select

from db.core.criteria import Criteria, Period
from db.core.policy import visible
from db.core.prepared_rows import PreparedRows
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.core.work import Database
from db.queries.jobs import FILTERS
from db.tables import Job

PERIOD = timedelta(days=30)
MAX_JOBS, MAX_GROUPS = 100_000, 1_000


class JobGrouping(StrEnum):
    """What the jobs of a group have in common."""

    STATUS = "status"
    KIND = "kind"
    QUEUE = "queue"
    OWNER = "owner_id"
    DAY = "day"


async def statistics(database: Database, viewer: Viewer, criteria: Criteria | None, groupings: Sequence[JobGrouping]) -> Sequence[Row[Any]]:
    """The groups of the newest `MAX_JOBS` jobs that meet the criteria, the largest first; of the last 30 days where these name no earliest time.

    A row has the value of each grouping by its name, `count`, and `median_duration` and `median_wait` in seconds, which are None where no job of the
    group has ended, or started. The waiting time of a job is that before its first start.
    """
    return await _prepared(criteria, tuple(dict.fromkeys(groupings)))(database, viewer)


@lru_cache(maxsize=64)
def _prepared(criteria: Criteria | None, groupings: tuple[JobGrouping, ...]) -> PreparedRows:
    return PreparedRows(lambda viewer: _statistics(viewer, criteria, groupings), for_values=True)


def _statistics(viewer: Viewer, criteria: Criteria | None, groupings: tuple[JobGrouping, ...]) -> Rows:
    columns = (Job.status, Job.kind, Job.queue, Job.owner_id, Job.created_at, Job.started_at, Job.completed_at)
    jobs = select(*columns).where(visible(Job, viewer), *(() if criteria is None else FILTERS.conditions(criteria)))
    period = None if criteria is None else criteria.get("created_at")
    if not isinstance(period, Period) or period.gte is None:
        jobs = jobs.where(Job.created_at >= func.now() - literal(PERIOD))
    newest = jobs.order_by(Job.created_at.desc(), Job.id.desc()).limit(MAX_JOBS).subquery("newest")
    groups = {grouping: _value(grouping, newest) for grouping in groupings}
    count = func.count().label("count")
    statement = select(
        *(value.label(grouping.value) for grouping, value in groups.items()),
        count,
        _median(newest.c.completed_at - newest.c.started_at).label("median_duration"),
        _median(newest.c.started_at - newest.c.created_at).label("median_wait"),
    )
    return statement.group_by(*groups.values()).order_by(count.desc(), *groups.values()).limit(MAX_GROUPS)


def _value(grouping: JobGrouping, jobs: FromClause) -> ColumnElement[Any]:
    columns: Any = jobs.c
    if grouping is not JobGrouping.DAY:
        return columns[grouping.value]
    return func.to_char(func.timezone("UTC", columns.created_at, type_=DateTime), "YYYY-MM-DD", type_=Text)


def _median(interval: ColumnElement[Any]) -> ColumnElement[Any]:
    """In seconds. Rows without a value do not count."""
    return func.percentile_cont(0.5).within_group(cast(func.extract("epoch", interval), Double).asc())
