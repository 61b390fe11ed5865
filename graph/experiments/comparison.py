"""Runs side by side."""

from __future__ import annotations

from typing import Self

import strawberry

from db.queries import comparison
from graph.core.costs import costs
from graph.core.scalars import JSON
from graph.experiments.types import Run


@strawberry.type(description="A hyperparameter in each of the runs.")
class ComparedParameter:
    key: str = strawberry.field(description="Its name; dots lead into objects.")
    values: list[JSON | None] = strawberry.field(
        description="Its value in each run, in the order of the runs; null where the run lacks it."
    )
    differs: bool = strawberry.field(description="Whether the runs differ in it. A run that lacks it differs from one where it is null.")

    @classmethod
    def of(cls, parameter: comparison.Parameter) -> Self:
        return cls(key=parameter.key, values=list(parameter.values), differs=parameter.differs)


@strawberry.type(description="The last value of a metric in each of the runs.")
class ComparedMetric:
    key: str = strawberry.field(description="The metric's name.")
    values: list[float | None] = strawberry.field(
        description="Its last value in each run, in the order of the runs; null where there is no finite one."
    )
    differs: bool = strawberry.field(description="Whether the runs differ in it.")
    min_index: int | None = strawberry.field(description="Which run has the least value, from 0; the first of equal ones.")
    max_index: int | None = strawberry.field(description="Which run has the greatest value, from 0; the first of equal ones.")

    @classmethod
    def of(cls, metric: comparison.Metric) -> Self:
        return cls(
            key=metric.key,
            values=list(metric.values),
            differs=metric.differs,
            min_index=metric.min_index,
            max_index=metric.max_index,
        )


@strawberry.type(description="Runs side by side.")
class RunComparison:
    runs: list[Run] = strawberry.field(metadata=costs(entries=20), description="The runs, in the order asked for.")
    parameters: list[ComparedParameter] = strawberry.field(metadata=costs(entries=20), description="Their hyperparameters, by key.")
    metrics: list[ComparedMetric] = strawberry.field(metadata=costs(entries=20), description="The last values of their metrics, by key.")

    @classmethod
    def of(cls, result: comparison.Comparison, *, only_differences: bool) -> Self:
        return cls(
            runs=[Run.of(row) for row in result.runs],
            parameters=[ComparedParameter.of(item) for item in result.parameters if item.differs or not only_differences],
            metrics=[ComparedMetric.of(item) for item in result.metrics if item.differs or not only_differences],
        )
