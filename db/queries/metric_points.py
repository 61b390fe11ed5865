"""The points of one metric of one run, page by page, in the order of step, time and value, which is their key; and last values as they were logged."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, literal, select, tuple_

from db.core.batch import rows_by_parent
from db.core.policy import visible
from db.core.sql import Rows
from db.core.viewer import Viewer
from db.core.work import Database
from db.tables import MetricPoint, RunMetric

Position = tuple[int, datetime, float]
"""Step, time and value of a point."""


async def after(database: Database, viewer: Viewer, run_id: UUID, key: str, position: Position | None, limit: int) -> Sequence[Row[Any]]:
    """The next points as (step, recorded_at, value), the first ones without a position."""
    order = (MetricPoint.step, MetricPoint.recorded_at, MetricPoint.value)
    statement = select(*order).where(MetricPoint.run_id == run_id, MetricPoint.key == key, visible(MetricPoint, viewer))
    if position is not None:
        step, recorded_at, value = position
        statement = statement.where(
            tuple_(*order)
            > tuple_(literal(step, MetricPoint.step.type), literal(recorded_at, MetricPoint.recorded_at.type), func.float8(value))
        )
    return await database.rows(statement.order_by(*order).limit(limit))


def _last(viewer: Viewer) -> Rows:
    columns = (RunMetric.run_id, RunMetric.key, RunMetric.last, RunMetric.last_step, RunMetric.last_at)
    return select(*columns).where(visible(RunMetric, viewer))


last_values = rows_by_parent(_last, RunMetric.run_id, RunMetric.key.asc())
"""By run: the last value of each metric as it was logged, NaN and infinities too, ordered by key."""
