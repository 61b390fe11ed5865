"""What can be asked of the metrics of runs: their summaries, their history made small enough to draw, and what a stream replays."""

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
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.core.work import Database
from db.errors import InvalidCursor
from db.queries.runs import finite, visible
from db.tables import MetricPoint, Run, RunMetric

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
    return select(RunMetric.__table__).join(Run, Run.id == RunMetric.run_id).where(visible(viewer))


summaries = rows_by_parent(_summaries, RunMetric.run_id, "run_id", RunMetric.key.asc())


def _points(viewer: Viewer) -> Rows:
    return select(*_POINT).join(Run, Run.id == MetricPoint.run_id).where(visible(viewer))


@dataclass(slots=True)
class Series:
    """One metric of one run: `points` by step (`key`, `step`, `value`, `recorded_at`), of the `total` that were recorded."""

    key: str
    total: int
    points: list[Row[Any]]


@dataclass(frozen=True, slots=True)
class History:
    """A batch: the series of each run, by key, of at most `max_points` points each, in one statement.

    A longer series is divided into equal stretches of steps; of each the points with the least and the greatest finite value are kept,
    the earlier of equal ones, and of the whole the first and the last. So the same points give the same answer, and no extreme is lost
    (from two points on). A stretch without a finite value keeps its first point. A single point is the last one.
    """

    metrics: tuple[str, ...] | None
    max_points: int

    async def __call__(self, database: Database, viewer: Viewer, keys: Sequence[UUID], /) -> Mapping[UUID, Sequence[Series]]:
        found = _points(viewer).where(MetricPoint.run_id.in_(keys))
        if self.metrics is not None:
            found = found.where(MetricPoint.key.in_(self.metrics))
        points = found.cte("points").prefix_with("NOT MATERIALIZED")
        counted = select(
            points.c.run_id,
            points.c.key,
            func.count().label("total"),
            func.min(points.c.step).label("first"),
            func.max(points.c.step).label("last"),
        )
        sizes = counted.group_by(points.c.run_id, points.c.key).cte("sizes")
        place = tuple_(points.c.run_id, points.c.key, points.c.step)
        statement = (
            select(points.c.run_id, points.c.key, points.c.step, points.c.value, points.c.recorded_at, sizes.c.total)
            .join(sizes, (points.c.run_id == sizes.c.run_id) & (points.c.key == sizes.c.key))
            .where(or_(sizes.c.total <= self.max_points, place.in_(_kept(points, sizes, self.max_points))))
            .order_by(points.c.run_id, points.c.key, points.c.step)
        )
        series: dict[UUID, list[Series]] = {key: [] for key in keys}
        for row in await database.rows(statement):
            of_run = series[row.run_id]
            if not of_run or of_run[-1].key != row.key:
                of_run.append(Series(row.key, row.total, []))
            of_run[-1].points.append(row)
        return series


def _kept(points: CTE, sizes: CTE, max_points: int) -> Rows:
    """Run, key and step of what stays of the series that are too long."""
    ends = {1: 1, 2: 0, 3: 1}.get(max_points, 2)
    stretches = (max_points - ends) // 2
    long = sizes.c.total > max_points
    parts: list[Rows] = []
    if ends > 0:
        parts.append(select(sizes.c.run_id, sizes.c.key, sizes.c.last.label("step")).where(long))
    if ends > 1:
        parts.append(select(sizes.c.run_id, sizes.c.key, sizes.c.first).where(long))
    if stretches > 0:
        value = case((finite(points.c.value), points.c.value))
        width = cast(sizes.c.last, BigInteger) - sizes.c.first + 1
        # Arrays compare value first, then step, null values last: so one pass finds an extreme together with its place.
        low = func.min(array([value, cast(points.c.step, Double)]), type_=ARRAY(Double))
        high = func.max(array([value, -cast(points.c.step, Double)]), type_=ARRAY(Double)).filter(value.is_not(None))
        extremes = (
            select(points.c.run_id, points.c.key, low.label("low"), high.label("high"))
            .join(sizes, (points.c.run_id == sizes.c.run_id) & (points.c.key == sizes.c.key))
            .where(long)
            .group_by(points.c.run_id, points.c.key, (cast(points.c.step, BigInteger) - sizes.c.first) * stretches // width)
            .cte("extremes")
        )
        parts.append(select(extremes.c.run_id, extremes.c.key, cast(extremes.c.low[2], Integer)))
        greatest = select(extremes.c.run_id, extremes.c.key, cast(-extremes.c.high[2], Integer))
        parts.append(greatest.where(extremes.c.high.is_not(None)))
    return select(*union(*parts).subquery("kept").c)


def cursor_of(run_id: UUID, batch: int) -> str:
    """The cursor of a batch of points."""
    return encode_cursor(_BATCH, batch, run_id)


def batch_of(cursor: str, run_id: UUID, last: int | None = None) -> int:
    """The batch that a cursor of this run names; `InvalidCursor` for another run's, for one past the `last` event of its job, or anything else."""
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


async def after(database: Database, viewer: Viewer, run_id: UUID, batch: int, metrics: Sequence[str] | None = None) -> Sequence[Row[Any]]:
    """The next points of a run by batch, key and step: whole batches, about 2,000 points or one batch that has more."""
    found = _points(viewer).where(MetricPoint.run_id == run_id, MetricPoint.batch > batch)
    if metrics is not None:
        found = found.where(MetricPoint.key.in_(metrics))
    inner = (
        found.with_only_columns(MetricPoint.batch, maintain_column_froms=True).order_by(MetricPoint.batch).limit(REPLAY).subquery("next")
    )
    upto = select(func.max(inner.c.batch)).scalar_subquery()
    return await database.rows(found.where(MetricPoint.batch <= upto).order_by(MetricPoint.batch, MetricPoint.key, MetricPoint.step))
