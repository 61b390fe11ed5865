"""Summaries of metrics, kept with the points: of jobs, and of external runs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import (
    CTE,
    ColumnElement,
    Double,
    FromClause,
    Integer,
    Select,
    case,
    cast,
    func,
    literal_column,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY, array
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.sql import seconds_of, time_of
from db.tables import RunMetric

_SUMMARY = ("last", "last_step", "last_at", "min", "min_step", "max", "max_step")


def _summaries(points: FromClause) -> Select[*tuple[Any, ...]]:
    """Last, least and greatest value of each key, with their steps. NaN and infinities count as last only; of equal values the first step counts.

    min and max of arrays compare element by element, which finds a value and its step in one pass without sorting.
    """
    key, step, value = points.c.key, cast(points.c.step, Double), points.c.value
    is_finite = func.abs(value) < literal_column("'Infinity'::float8")  # NaN is above infinity here
    last = func.max(array([step, seconds_of(points.c.recorded_at), value]), type_=ARRAY(Double))
    least = func.min(array([value, step]), type_=ARRAY(Double)).filter(is_finite)
    greatest = func.max(array([value, -step]), type_=ARRAY(Double)).filter(is_finite)
    aggregates = select(key, last.label("last"), least.label("least"), greatest.label("greatest"), func.count().label("count"))
    per_key = aggregates.group_by(key).subquery("per_key")
    return select(
        per_key.c.key,
        per_key.c.last[3].label("last"),
        cast(per_key.c.last[1], Integer).label("last_step"),
        time_of(per_key.c.last[2]).label("last_at"),
        per_key.c.least[1].label("min"),
        cast(per_key.c.least[2], Integer).label("min_step"),
        per_key.c.greatest[1].label("max"),
        cast(-per_key.c.greatest[2], Integer).label("max_step"),
        per_key.c.count,
    )


def insert_summaries(points: FromClause, run_id: ColumnElement[UUID], experiment_id: ColumnElement[UUID]) -> Any:
    """The statement that adds the summaries of all points of a run that has none."""
    summaries = _summaries(points).subquery("summaries")
    columns = ("key", *_SUMMARY, "count")
    rows = select(run_id, experiment_id, *(summaries.c[name] for name in columns))
    return upsert(RunMetric).from_select(["run_id", "experiment_id", *columns], rows)


def upsert_summaries(
    points: FromClause, added: CTE, run_id: ColumnElement[UUID], experiment_id: ColumnElement[UUID], *, replaces: bool = False
) -> CTE:
    """A part of the statement that writes `points` (key, step, value, recorded_at): it changes the summaries of their keys.

    `added` has the key of each point that was not there before. With `replaces`, a point is the only one of its step, whatever its time: the clocks of
    two workers differ.
    """
    counts = select(added.c.key, func.count().label("count")).group_by(added.c.key).cte("counts")
    summaries = _summaries(points).subquery("summaries")
    count = func.coalesce(counts.c.count, 0)
    rows = select(run_id, experiment_id, *(summaries.c[name] for name in ("key", *_SUMMARY)), count)
    rows = rows.select_from(summaries.outerjoin(counts, counts.c.key == summaries.c.key))
    summary = upsert(RunMetric).from_select(["run_id", "experiment_id", "key", *_SUMMARY, "count"], rows)
    new = summary.excluded
    later = tuple_(new.last_step, new.last_at, new.last) >= tuple_(RunMetric.last_step, RunMetric.last_at, RunMetric.last)
    later = new.last_step >= RunMetric.last_step if replaces else later
    lower = RunMetric.min.is_(None) | (tuple_(new.min, new.min_step) < tuple_(RunMetric.min, RunMetric.min_step))
    higher = RunMetric.max.is_(None) | (new.max > RunMetric.max) | ((new.max == RunMetric.max) & (new.max_step < RunMetric.max_step))
    changes = {
        name: case((condition, new[name]), else_=RunMetric.__table__.c[name])
        for condition, names in ((later, _SUMMARY[:3]), (lower, _SUMMARY[3:5]), (higher, _SUMMARY[5:]))
        for name in names
    }
    summary = summary.on_conflict_do_update(index_elements=["run_id", "key"], set_={**changes, "count": RunMetric.count + new.count})
    return summary.cte("upserted_summaries")
