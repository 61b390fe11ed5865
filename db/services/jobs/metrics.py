"""Metric points in batches. One METRIC event announces a batch, and its sequence is the batch's number.

Points are first copied to a staging table, which takes no lock, then moved under the lock of the job's row. A failure in between leaves
only staged rows, which nobody reads and a maintenance task deletes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from operator import itemgetter
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Double,
    FromClause,
    Integer,
    Select,
    Text,
    Uuid,
    bindparam,
    case,
    cast,
    delete,
    exists,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, array
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.work import Database, Work
from db.errors import Unavailable
from db.services.jobs import events
from db.services.jobs.transitions import Claim, lock_if_held
from db.tables import MetricPoint, Run, RunMetric, StagedPoint
from db.tables.jobs import JobEventType

_COLUMNS = ("batch_id", "position", "key", "step", "value")
_SUMMARY = ("last", "last_step", "min", "min_step", "max", "max_step")


@dataclass(frozen=True, slots=True)
class Point:
    """One value at one step; NaN and infinities are values too."""

    key: str
    step: int
    value: float


@dataclass(frozen=True, slots=True)
class StagedBatch:
    """A batch in the staging table; each step of a key is there once. `values` has the last of each key, None if it is not finite."""

    batch_id: UUID
    values: dict[str, float | None]
    count: int


async def stage(database: Database, points: Sequence[Point]) -> StagedBatch:
    """COPY points to the staging table in a transaction of their own. Of a step that is reported twice, the last value counts."""
    latest = {(point.key, point.step): point.value for point in points}
    batch_id = uuid4()
    records = [(batch_id, position, key, step, value) for position, ((key, step), value) in enumerate(latest.items())]
    await database.copy(StagedPoint.__tablename__, _COLUMNS, records)
    # Sorted by key and step, so that the last step of a key is the one that stays.
    values = {key: value if isfinite(value) else None for (key, _), value in sorted(latest.items(), key=itemgetter(0))}
    return StagedBatch(batch_id, values, len(records))


async def record(work: Work, claim: Claim, run_id: UUID, staged: StagedBatch, step: str | None = None) -> int | None:
    """Move staged points to the run and update its summaries. The event is written first: it locks the job and checks the claim. None if that is lost.

    `step` is the step of the event: the part of the job that reported the points.
    Raises `Unavailable` if the staged points are gone, as after a crash of PostgreSQL: stage them again.
    """
    data = {"keys": list(staged.values), "points": staged.count, "values": staged.values}
    job = await events.append(work, claim, JobEventType.METRIC, data=data, step=step)
    if job is None:
        return None
    moved_count = await work.scalar(_MOVE, {"p_batch_id": staged.batch_id, "p_run_id": run_id, "p_sequence": job.last_sequence})
    if moved_count != staged.count:
        raise Unavailable("database", f"{staged.count} points were staged, {moved_count} are there.")
    return job.last_sequence


async def rewind(work: Work, claim: Claim, run_id: UUID, last_steps: Mapping[str, int]) -> bool:
    """Delete the points after `last_steps`, the last step to keep of each key. False if the claim is lost."""
    if not await lock_if_held(work, claim):
        return False
    await work.run(_DELETE_PAST, {"p_run_id": run_id, "p_keys": list(last_steps), "p_steps": list(last_steps.values())})
    await work.run(delete(RunMetric).where(RunMetric.run_id == run_id))
    await work.run(_REBUILD_SUMMARIES, {"p_run_id": run_id})
    return True


def _summaries(points: FromClause) -> Select[*tuple[Any, ...]]:
    """Last, least and greatest value of each key, with their steps. NaN and infinities count as last only; of equal values the first step counts.

    min and max of arrays compare element by element, which finds a value and its step in one pass without sorting.
    """
    key, step, value = points.c.key, cast(points.c.step, Double), points.c.value
    is_finite = func.abs(value) < literal_column("'Infinity'::float8")  # NaN is above infinity here
    last = func.max(array([step, value]), type_=ARRAY(Double))
    least = func.min(array([value, step]), type_=ARRAY(Double)).filter(is_finite)
    greatest = func.max(array([value, -step]), type_=ARRAY(Double)).filter(is_finite)
    aggregates = select(key, last.label("last"), least.label("least"), greatest.label("greatest"), func.count().label("count"))
    per_key = aggregates.group_by(key).subquery("per_key")
    return select(
        per_key.c.key,
        per_key.c.last[2].label("last"),
        cast(per_key.c.last[1], Integer).label("last_step"),
        per_key.c.least[1].label("min"),
        cast(per_key.c.least[2], Integer).label("min_step"),
        per_key.c.greatest[1].label("max"),
        cast(-per_key.c.greatest[2], Integer).label("max_step"),
        per_key.c.count,
    )


_RUN: ColumnElement[UUID] = bindparam("p_run_id", type_=Uuid())
_EXPERIMENT: ColumnElement[UUID] = select(Run.experiment_id).where(Run.id == _RUN).scalar_subquery()
_OF_RUN = ("run_id", "experiment_id")


def _move() -> Select[int]:
    """Build the statement that moves a batch from the staging table to the points and the summaries."""
    moved = delete(StagedPoint).where(StagedPoint.batch_id == bindparam("p_batch_id", type_=Uuid()))
    moved = moved.returning(StagedPoint.key, StagedPoint.step, StagedPoint.value).cte("moved")
    rows = select(_RUN, moved.c.key, moved.c.step, moved.c.value, bindparam("p_sequence", type_=MetricPoint.batch.type))
    point = upsert(MetricPoint).from_select(["run_id", "key", "step", "value", "batch"], rows)
    new = point.excluded
    point = point.on_conflict_do_update(
        index_elements=["run_id", "key", "step"], set_={"value": new.value, "batch": new.batch, "recorded_at": func.now()}
    )
    # PostgreSQL 18: RETURNING old.step is null for a point that was inserted.
    written = point.returning(MetricPoint.key, literal_column("old.step IS NULL", Boolean).label("is_new")).cte("written")
    new_counts = select(written.c.key, func.count().filter(written.c.is_new).label("count")).group_by(written.c.key).cte("new_counts")
    summaries = _summaries(moved).subquery("summaries")
    summary_rows = select(_RUN, _EXPERIMENT, *(summaries.c[name] for name in ("key", *_SUMMARY)), new_counts.c.count).join(
        new_counts, new_counts.c.key == summaries.c.key
    )
    summary = upsert(RunMetric).from_select([*_OF_RUN, "key", *_SUMMARY, "count"], summary_rows)
    new = summary.excluded
    later = new.last_step >= RunMetric.last_step
    lower = RunMetric.min.is_(None) | (new.min < RunMetric.min)
    higher = RunMetric.max.is_(None) | (new.max > RunMetric.max)
    summary = summary.on_conflict_do_update(
        index_elements=["run_id", "key"],
        set_={
            "last": case((later, new.last), else_=RunMetric.last),
            "last_step": case((later, new.last_step), else_=RunMetric.last_step),
            "min": case((lower, new.min), else_=RunMetric.min),
            "min_step": case((lower, new.min_step), else_=RunMetric.min_step),
            "max": case((higher, new.max), else_=RunMetric.max),
            "max_step": case((higher, new.max_step), else_=RunMetric.max_step),
            "count": RunMetric.count + new.count,
        },
    )
    return select(func.count()).select_from(moved).add_cte(summary.cte("upserted_summaries"))


def _delete_past() -> Any:
    bounds = func.unnest(bindparam("p_keys", type_=ARRAY(Text)), bindparam("p_steps", type_=ARRAY(Integer)))
    bounds = bounds.table_valued("key", "step").render_derived(name="bounds")
    is_within = exists(select(1).select_from(bounds).where(bounds.c.key == MetricPoint.key, MetricPoint.step <= bounds.c.step))
    return delete(MetricPoint).where(MetricPoint.run_id == _RUN, ~is_within)


def _rebuild_summaries() -> Any:
    points = select(MetricPoint.key, MetricPoint.step, MetricPoint.value).where(MetricPoint.run_id == _RUN).subquery("points")
    summaries = _summaries(points).subquery("summaries")
    columns = ("key", *_SUMMARY, "count")
    return upsert(RunMetric).from_select([*_OF_RUN, *columns], select(_RUN, _EXPERIMENT, *(summaries.c[name] for name in columns)))


_MOVE = _move()
_DELETE_PAST = _delete_past()
_REBUILD_SUMMARIES = _rebuild_summaries()
