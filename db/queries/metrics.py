"""Queries of the metrics of runs: summaries, downsampled history, and what a stream replays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Double, Integer, Row, case, cast, func, or_, select, tuple_, union
from sqlalchemy.dialects.postgresql import ARRAY, array
from sqlalchemy.sql.selectable import CTE

from db.core.batch import rows_by_parent
from db.core.page import Sort, decode_cursor, encode_cursor
from db.core.policy import visible
from db.core.sql import Rows, equals_any
from db.core.viewer import Viewer
from db.core.work import Database
from db.errors import InvalidCursor
from db.queries.runs import is_finite
from db.tables import MetricPoint, RunMetric

MAX_POINTS = 10_000
REPLAY = 2_000

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
    return select(RunMetric.__table__).where(visible(RunMetric, viewer))


summaries = rows_by_parent(_summaries, RunMetric.run_id, RunMetric.key.asc())


def _points(viewer: Viewer) -> Rows:
    return select(*_POINT).where(visible(MetricPoint, viewer))


@dataclass(slots=True)
class Series:
    """One metric of one run: `points` by step (`key`, `step`, `value`, `recorded_at`), of the `total` that were recorded."""

    key: str
    total: int
    points: list[Row[Any]]


@dataclass(frozen=True, slots=True)
class History:
    """A batch: the series of each run, by key, of at most `max_points` points each, in one statement.

    A longer series is divided into buckets of equally many steps. Each bucket keeps the points with the least and the greatest finite value,
    the earlier of equal ones, and a bucket without a finite value its first point; the series keeps its first and last point. So the same
    points always give the same answer, and no extreme is lost (from two points on). A single point is the last one.
    """

    metrics: tuple[str, ...] | None
    max_points: int

    async def __call__(self, database: Database, viewer: Viewer, keys: Sequence[UUID], /) -> Mapping[UUID, Sequence[Series]]:
        run_points = _points(viewer).where(equals_any(MetricPoint.run_id, keys))
        if self.metrics is not None:
            run_points = run_points.where(equals_any(MetricPoint.key, self.metrics))
        points = run_points.cte("points").prefix_with("NOT MATERIALIZED")
        counted = select(
            points.c.run_id,
            points.c.key,
            func.count().label("total"),
            func.min(points.c.step).label("first"),
            func.max(points.c.step).label("last"),
        )
        sizes = counted.group_by(points.c.run_id, points.c.key).cte("sizes")
        position = tuple_(points.c.run_id, points.c.key, points.c.step)
        statement = (
            select(points.c.run_id, points.c.key, points.c.step, points.c.value, points.c.recorded_at, sizes.c.total)
            .join(sizes, (points.c.run_id == sizes.c.run_id) & (points.c.key == sizes.c.key))
            .where(or_(sizes.c.total <= self.max_points, position.in_(_sampled(points, sizes, self.max_points))))
            .order_by(points.c.run_id, points.c.key, points.c.step)
        )
        series: dict[UUID, list[Series]] = {key: [] for key in keys}
        for row in await database.rows(statement):
            run_series = series[row.run_id]
            if not run_series or run_series[-1].key != row.key:
                run_series.append(Series(row.key, row.total, []))
            run_series[-1].points.append(row)
        return series


def _sampled(points: CTE, sizes: CTE, max_points: int) -> Rows:
    """Run, key and step of the points kept of the series that are too long."""
    ends = {1: 1, 2: 0, 3: 1}.get(max_points, 2)
    bucket_count = (max_points - ends) // 2
    is_long = sizes.c.total > max_points
    selects: list[Rows] = []
    if ends > 0:
        selects.append(select(sizes.c.run_id, sizes.c.key, sizes.c.last.label("step")).where(is_long))
    if ends > 1:
        selects.append(select(sizes.c.run_id, sizes.c.key, sizes.c.first).where(is_long))
    if bucket_count > 0:
        value = case((is_finite(points.c.value), points.c.value))
        width = cast(sizes.c.last, BigInteger) - sizes.c.first + 1
        # Arrays compare by value, then by step, nulls last: one aggregate finds an extreme together with its step.
        low = func.min(array([value, cast(points.c.step, Double)]), type_=ARRAY(Double))
        high = func.max(array([value, -cast(points.c.step, Double)]), type_=ARRAY(Double)).filter(value.is_not(None))
        extremes = (
            select(points.c.run_id, points.c.key, low.label("low"), high.label("high"))
            .join(sizes, (points.c.run_id == sizes.c.run_id) & (points.c.key == sizes.c.key))
            .where(is_long)
            .group_by(points.c.run_id, points.c.key, (cast(points.c.step, BigInteger) - sizes.c.first) * bucket_count // width)
            .cte("extremes")
        )
        selects.append(select(extremes.c.run_id, extremes.c.key, cast(extremes.c.low[2], Integer)))
        greatest = select(extremes.c.run_id, extremes.c.key, cast(-extremes.c.high[2], Integer))
        selects.append(greatest.where(extremes.c.high.is_not(None)))
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
    """The next points of a run by batch, key and step: whole batches of about 2,000 points, or one larger batch."""
    statement = _points(viewer).where(MetricPoint.run_id == run_id, MetricPoint.batch > batch)
    if metrics is not None:
        statement = statement.where(equals_any(MetricPoint.key, metrics))
    next_batches = (
        statement.with_only_columns(MetricPoint.batch, maintain_column_froms=True)
        .order_by(MetricPoint.batch)
        .limit(REPLAY)
        .subquery("next")
    )
    last_batch = select(func.max(next_batches.c.batch)).scalar_subquery()
    return await database.rows(
        statement.where(MetricPoint.batch <= last_batch).order_by(MetricPoint.batch, MetricPoint.key, MetricPoint.step)
    )
