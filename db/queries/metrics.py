"""Queries of the metrics of runs: summaries, downsampled history, and what a stream replays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from operator import attrgetter
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Double,
    Integer,
    Row,
    Text,
    Uuid,
    any_,
    bindparam,
    case,
    cast,
    func,
    or_,
    select,
    tuple_,
    type_coerce,
    union,
)
from sqlalchemy.dialects.postgresql import ARRAY, array
from sqlalchemy.sql.selectable import CTE

from db.core.base import FiniteDouble
from db.core.batch import rows_by_parent
from db.core.criteria import Criteria
from db.core.page import Slice, Sort, decode_cursor, encode_cursor
from db.core.policy import visible
from db.core.prepared_rows import PreparedRows
from db.core.record_page import PageParts
from db.core.sql import Rows, seconds_of
from db.core.viewer import Viewer
from db.core.work import Database
from db.errors import InvalidCursor
from db.queries import leaderboard
from db.queries.runs import is_finite
from db.tables import MetricPoint, Run, RunMetric

MAX_POINTS = 10_000
REPLAY = 2_000
MIN_RETENTION = timedelta(days=1)  # the least that can be set, after the end of a run
MAX_RUNS, MAX_KEYS = 1_000, 500  # that `key_counts` reads, and returns

_POINT: tuple[Any, ...] = (
    MetricPoint.run_id,
    MetricPoint.key,
    MetricPoint.step,
    MetricPoint.value,
    MetricPoint.recorded_at,
    MetricPoint.batch,
)
_BATCH = Sort("BATCH", MetricPoint.batch, MetricPoint.run_id, descending=False, kind="int")


def _summaries(viewer: Viewer) -> Rows:
    columns = [
        type_coerce(column, FiniteDouble).label(column.name) if column.name == "last" else column for column in RunMetric.__table__.c
    ]
    return select(*columns).where(visible(RunMetric, viewer))


summaries = rows_by_parent(_summaries, RunMetric.run_id, RunMetric.key.asc())


def _summaries_of_key(viewer: Viewer) -> Rows:
    is_wanted = (RunMetric.run_id == any_(bindparam("run_ids", type_=ARRAY(Uuid)))) & (RunMetric.key == bindparam("metric", type_=Text))
    return _summaries(viewer).where(is_wanted)


_BY_KEY = PreparedRows(_summaries_of_key, "run_ids", "metric")


@dataclass(frozen=True, slots=True)
class Summary:
    """A batch: the summary of one metric of each run that has it."""

    metric: str

    async def __call__(self, database: Database, viewer: Viewer, keys: Sequence[UUID], /) -> Mapping[UUID, Row[Any]]:
        return {row.run_id: row for row in await _BY_KEY(database, viewer, run_ids=keys, metric=self.metric)}


def _key_counts(viewer: Viewer) -> Rows:
    count = func.count().label("runs")
    counts = select(RunMetric.key, count).where(
        RunMetric.run_id == any_(bindparam("run_ids", type_=ARRAY(Uuid))), visible(RunMetric, viewer)
    )
    return counts.group_by(RunMetric.key).order_by(count.desc(), RunMetric.key).limit(MAX_KEYS)


_KEY_COUNTS = PreparedRows(_key_counts, "run_ids")


async def key_counts(database: Database, viewer: Viewer, criteria: Criteria) -> Sequence[Row[Any]]:
    """The metrics of the newest `MAX_RUNS` runs that meet the criteria, as `key` and `runs`, the number of these runs that have it, most first."""
    parts = PageParts(("id",), cursors=False, ends=False)
    page = await leaderboard.listing.record_pages(database, viewer, (), Slice(size=MAX_RUNS), criteria, None, parts)
    return await _KEY_COUNTS(database, viewer, run_ids=[record[0] for record in page.records])


def _points(viewer: Viewer) -> Rows:
    return select(*_POINT).where(visible(MetricPoint, viewer))


@dataclass(slots=True)
class Series:
    """One metric of one run: `points` by step (`key`, `step`, `value`, `recorded_at`), of the `total` that were recorded.

    Of one that `is_pruned`, points were let go, since their retention is over: all of a run, unless it went on after that.
    """

    key: str
    total: int
    points: list[Row[Any]]
    is_pruned: bool = False


@dataclass(frozen=True, slots=True)
class History:
    """A batch: the series of each run, by key, of at most `max_points` points each, in one statement. Points are ordered by step, time and value.

    A longer series is divided into buckets of equally many steps or, if all of its points are of one step, of equal times. Each bucket keeps the points
    with the least and the greatest finite value, the earlier of equal ones, and a bucket without a finite value its first point; the series keeps its
    first and last point. So the same points always give the same answer, and no extreme is lost (from two points on). A single point is the last one.
    """

    metrics: tuple[str, ...] | None
    max_points: int

    async def __call__(self, database: Database, viewer: Viewer, keys: Sequence[UUID], /) -> Mapping[UUID, Sequence[Series]]:
        ends = {1: 1, 2: 0, 3: 1}.get(self.max_points, 2)
        bucket_count = (self.max_points - ends) // 2
        read = _histories(ends, has_buckets=bucket_count > 0, has_metrics=self.metrics is not None)
        arguments = {"run_ids": keys, "metrics": self.metrics, "max_points": self.max_points, "bucket_count": bucket_count}
        series: dict[UUID, list[Series]] = {key: [] for key in keys}
        for row in await read(database, viewer, **arguments):
            run_series = series[row.run_id]
            if not run_series or run_series[-1].key != row.key:
                run_series.append(Series(row.key, row.total, []))
            run_series[-1].points.append(row)
        await self._add_pruned(database, viewer, series)
        return series

    async def _add_pruned(self, database: Database, viewer: Viewer, series: dict[UUID, list[Series]]) -> None:
        """Mark the series of which points were let go, and add those of which none is left: the summaries still count them."""
        newest = (datetime.now(UTC) - MIN_RETENTION).timestamp() * 1_000
        old = [run_id for run_id in series if run_id.int >> 80 < newest]  # an id begins with the milliseconds of its creation
        if not old:
            return
        for row in await _ENDED_SUMMARIES(database, viewer, run_ids=old, metrics=self.metrics):
            present = next((each for each in series[row.run_id] if each.key == row.key), None)
            if present is None:
                series[row.run_id].append(Series(row.key, row.recorded, [], is_pruned=True))
            elif present.total < row.recorded:
                present.total, present.is_pruned = row.recorded, True
        for run_id in old:
            series[run_id].sort(key=attrgetter("key"))


def _ended_summaries(viewer: Viewer) -> Rows:
    """The numbers of points of runs that ended long ago. Those of other runs may grow between the read of points and this one."""
    metrics: ColumnElement[Any] = bindparam("metrics", type_=ARRAY(Text))
    return (
        select(RunMetric.run_id, RunMetric.key, RunMetric.count.label("recorded"))
        .join(Run, Run.id == RunMetric.run_id)
        .where(RunMetric.run_id == any_(bindparam("run_ids", type_=ARRAY(Uuid))), visible(RunMetric, viewer))
        .where(Run.completed_at < func.now() - MIN_RETENTION, or_(metrics.is_(None), RunMetric.key == any_(metrics)))
        .order_by(RunMetric.run_id, RunMetric.key)
    )


_ENDED_SUMMARIES = PreparedRows(_ended_summaries, "run_ids", "metrics")


@cache
def _histories(ends: int, *, has_buckets: bool, has_metrics: bool) -> PreparedRows:
    """The points kept of each series: `ends` of its ends, and those of the buckets if there are any."""

    def build(viewer: Viewer) -> Rows:
        at = seconds_of(MetricPoint.recorded_at).label("at")
        run_points = _points(viewer).add_columns(cast(MetricPoint.step, Double).label("position"), at)
        run_points = run_points.where(MetricPoint.run_id == any_(bindparam("run_ids", type_=ARRAY(Uuid))))
        if has_metrics:
            run_points = run_points.where(MetricPoint.key == any_(bindparam("metrics", type_=ARRAY(Text))))
        points = run_points.cte("points").prefix_with("NOT MATERIALIZED")
        place = array([points.c.position, points.c.at, points.c.value])
        counted = select(
            points.c.run_id,
            points.c.key,
            func.count().label("total"),
            func.min(place, type_=ARRAY(Double)).label("first"),
            func.max(place, type_=ARRAY(Double)).label("last"),
        )
        sizes = counted.group_by(points.c.run_id, points.c.key).cte("sizes")
        sampled = _sampled(points, sizes, ends, has_buckets=has_buckets)
        return (
            select(points.c.run_id, points.c.key, points.c.step, points.c.value, points.c.recorded_at, sizes.c.total)
            .join(sizes, (points.c.run_id == sizes.c.run_id) & (points.c.key == sizes.c.key))
            .where(or_(sizes.c.total <= _MAX_POINTS, tuple_(points.c.run_id, points.c.key, place).in_(sampled)))
            .order_by(points.c.run_id, points.c.key, points.c.step, points.c.recorded_at, points.c.value)
        )

    return PreparedRows(build, "run_ids", "metrics", "max_points", "bucket_count")


_MAX_POINTS: ColumnElement[int] = bindparam("max_points", type_=Integer)
_BUCKET_COUNT: ColumnElement[float] = bindparam("bucket_count", type_=Double)


def _sampled(points: CTE, sizes: CTE, ends: int, *, has_buckets: bool) -> Rows:
    """Run, key and place, which is (step, time, value), of the points kept of the series that are too long."""
    is_long = sizes.c.total > _MAX_POINTS
    selects: list[Rows] = []
    if ends > 0:
        selects.append(select(sizes.c.run_id, sizes.c.key, sizes.c.last.label("place")).where(is_long))
    if ends > 1:
        selects.append(select(sizes.c.run_id, sizes.c.key, sizes.c.first).where(is_long))
    if has_buckets:
        value = case((is_finite(points.c.value), points.c.value))
        has_steps = sizes.c.first[1] < sizes.c.last[1]
        distance = case((has_steps, points.c.position - sizes.c.first[1]), else_=points.c.at - sizes.c.first[2])
        width = case((has_steps, sizes.c.last[1] - sizes.c.first[1]), else_=sizes.c.last[2] - sizes.c.first[2]) + 1
        # Arrays compare by value, then by place, nulls last: one aggregate finds an extreme together with its place.
        low = func.min(array([value, points.c.position, points.c.at, points.c.value]), type_=ARRAY(Double))
        high = func.max(array([value, -points.c.position, -points.c.at]), type_=ARRAY(Double)).filter(value.is_not(None))
        extremes = (
            select(points.c.run_id, points.c.key, low.label("low"), high.label("high"))
            .join(sizes, (points.c.run_id == sizes.c.run_id) & (points.c.key == sizes.c.key))
            .where(is_long)
            .group_by(points.c.run_id, points.c.key, func.floor(distance * _BUCKET_COUNT / width))
            .cte("extremes")
        )
        least = array([extremes.c.low[2], extremes.c.low[3], extremes.c.low[4]])
        selects.append(select(extremes.c.run_id, extremes.c.key, least))
        greatest = array([-extremes.c.high[2], -extremes.c.high[3], extremes.c.high[1]])
        selects.append(select(extremes.c.run_id, extremes.c.key, greatest).where(extremes.c.high.is_not(None)))
    return select(*union(*selects).subquery("sampled").c)


def cursor_of(run_id: UUID, batch: int) -> str:
    """The cursor of a batch of points."""
    return encode_cursor(_BATCH, batch, run_id)


def batch_of(cursor: str, run_id: UUID, last: int | None = None) -> int:
    """The batch in a cursor of this run. Raises `InvalidCursor` for another run's, one past the `last` event of its job, or anything else."""
    batch, key = decode_cursor(_BATCH, cursor)
    if key != run_id:
        raise InvalidCursor(
            f"The cursor {cursor[:60]!r} belongs to another run. Give a cursor of this run's metrics, or none to start over."
        )
    if batch < 1 or (last is not None and batch > last):
        raise InvalidCursor(
            f"The cursor {cursor[:60]!r} names no batch of this run. Give one that came with a batch, or none to start over."
        )
    return batch


async def points_after(
    database: Database, viewer: Viewer, run_id: UUID, batch: int, metrics: Sequence[str] | None = None
) -> Sequence[Row[Any]]:
    """The next points of a run by batch, key, step and time: whole batches of about 2,000 points, or one larger batch."""
    read = _POINTS_AFTER if metrics is None else _POINTS_OF_METRICS_AFTER
    return await read(database, viewer, run_id=run_id, batch=batch, metrics=metrics)


def _points_after(viewer: Viewer, *conditions: ColumnElement[bool]) -> Rows:
    statement = _points(viewer).where(
        MetricPoint.run_id == bindparam("run_id", type_=Uuid),
        MetricPoint.batch > bindparam("batch", type_=MetricPoint.batch.type),
        *conditions,
    )
    next_batches = (
        statement.with_only_columns(MetricPoint.batch, maintain_column_froms=True)
        .order_by(MetricPoint.batch)
        .limit(REPLAY)
        .subquery("next")
    )
    last_batch = select(func.max(next_batches.c.batch)).scalar_subquery()
    return statement.where(MetricPoint.batch <= last_batch).order_by(
        MetricPoint.batch, MetricPoint.key, MetricPoint.step, MetricPoint.recorded_at, MetricPoint.value
    )


_POINTS_AFTER = PreparedRows(_points_after, "run_id", "batch")
_POINTS_OF_METRICS_AFTER = PreparedRows(
    lambda viewer: _points_after(viewer, MetricPoint.key == any_(bindparam("metrics", type_=ARRAY(Text)))), "run_id", "batch", "metrics"
)
