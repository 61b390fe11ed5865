"""Metrics: summaries, series and points."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Self

import strawberry

from db.core.base import finite_or_none
from db.queries.goals import goal_of
from db.queries.metrics import Series
from graph.core.costs import costs
from graph.core.ids import RowObject
from graph.core.scalars import BigInt
from graph.experiments.enums import Goal


@strawberry.type(
    description="A summary of one metric. NaN and infinities are null as the last value and ignored for the least and the greatest."
)
class MetricSummary(RowObject):
    key: str = strawberry.field(description="The metric's name, such as `validation.accuracy`.")
    last: float | None = strawberry.field(description="The value at the last step; of several there, the latest.")
    last_step: int | None = strawberry.field(description="The last step.")
    last_at: datetime | None = strawberry.field(description="When the last value was recorded.")
    min: float | None = strawberry.field(description="The least value.")
    min_step: int | None = strawberry.field(description="The first step with the least value.")
    max: float | None = strawberry.field(description="The greatest value.")
    max_step: int | None = strawberry.field(description="The first step with the greatest value.")
    count: BigInt = strawberry.field(description="How many points were recorded.")

    @strawberry.field(description="Which of its values are better; null if that is not known by its name.")
    def goal(self) -> Goal | None:
        return goal_of(self.key)

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> Self:
        """Make it from a stored summary; missing keys become null."""
        return cls(
            key=document["key"],
            last=finite_or_none(document.get("last")),
            last_step=document.get("last_step"),
            last_at=None,
            min=finite_or_none(document.get("min")),
            min_step=document.get("min_step"),
            max=finite_or_none(document.get("max")),
            max_step=document.get("max_step"),
            count=BigInt(document.get("count") or 0),
        )


@strawberry.type(description="A metric that runs have.")
class MetricKey:
    key: str = strawberry.field(description="The metric's name.")
    runs: BigInt = strawberry.field(description="How many of the runs that were read have it.")
    goal: Goal | None = strawberry.field(description="Which of its values are better; null if that is not known by its name.")

    @classmethod
    def of(cls, row: Any) -> Self:
        return cls(key=row.key, runs=BigInt(row.runs), goal=goal_of(row.key))


@strawberry.type(description="The value of a metric at a step.")
class MetricPoint:
    key: str = strawberry.field(description="The metric's name.")
    step: int = strawberry.field(description="The epoch, boosting round or fold that it belongs to.")
    value: float | None = strawberry.field(description="The value; null for NaN and infinities.")
    recorded_at: datetime = strawberry.field(description="When it was recorded: by the clock of the code that did.")

    @classmethod
    def of(cls, row: Any) -> Self:
        return cls(key=row.key, step=row.step, value=finite_or_none(row.value), recorded_at=row.recorded_at)


@strawberry.type(description="The points of one metric of a run.")
class MetricSeries:
    key: str = strawberry.field(description="The metric's name.")
    points: list[MetricPoint] = strawberry.field(
        metadata=costs(entries=1), description="Its points, ordered by step, then by time; a long series is downsampled."
    )
    total_points: BigInt = strawberry.field(description="How many points were recorded.")
    is_pruned: bool = strawberry.field(
        description="Whether points were let go because their retention is over; then the summary in `Run.metrics` is what is left of them."
    )

    @classmethod
    def of(cls, series: Series) -> Self:
        points = [MetricPoint.of(row) for row in series.points]
        return cls(key=series.key, points=points, total_points=BigInt(series.total), is_pruned=series.is_pruned)


@strawberry.type(description="Metric points that were recorded together or in quick succession.")
class MetricBatch:
    cursor: str = strawberry.field(description="Its position: pass it as `after` to `runMetrics` to continue after this batch.")
    points: list[MetricPoint] = strawberry.field(
        metadata=costs(entries=5), description="The points, ordered by the time of their recording, then by key and step."
    )

    @classmethod
    def of(cls, rows: Sequence[Any], cursor: str) -> Self:
        return cls(cursor=cursor, points=[MetricPoint.of(row) for row in rows])
