"""Comparison of runs."""

from typing import Self

import strawberry

from db.queries import comparison
from graph.core.costs import costs
from graph.core.scalars import JSON
from graph.experiments.enums import Goal
from graph.experiments.types import Run


@strawberry.type(description="The values of a hyperparameter in each of the compared runs.")
class ComparedParameter:
    key: str = strawberry.field(description="Its name; dots separate the levels of nested objects.")
    values: list[JSON | None] = strawberry.field(
        description="Its value in each run, in the order of the runs; null if the run does not have it."
    )
    differs: bool = strawberry.field(
        description="Whether its values differ. A run that does not have it differs from one where it is null."
    )

    @classmethod
    def of(cls, parameter: comparison.Parameter) -> Self:
        return cls(key=parameter.key, values=list(parameter.values), differs=parameter.differs)


@strawberry.type(description="The last value of a metric in each of the compared runs.")
class ComparedMetric:
    key: str = strawberry.field(description="The metric's name.")
    values: list[float | None] = strawberry.field(
        description="Its last value in each run, in the order of the runs; null if there is no finite one."
    )
    differs: bool = strawberry.field(description="Whether its values differ.")
    min_index: int | None = strawberry.field(description="The index, from 0, of the run with the least value; the first of equal ones.")
    max_index: int | None = strawberry.field(description="The index, from 0, of the run with the greatest value; the first of equal ones.")
    goal: Goal | None = strawberry.field(description="Which of its values are better; null if that is not known by its name.")
    best_index: int | None = strawberry.field(
        description="The index, from 0, of the run with the best value by `goal`; the first of equal ones. Null if `goal` is."
    )

    @classmethod
    def of(cls, metric: comparison.Metric) -> Self:
        return cls(
            key=metric.key,
            values=list(metric.values),
            differs=metric.differs,
            min_index=metric.min_index,
            max_index=metric.max_index,
            goal=metric.goal,
            best_index=metric.best_index,
        )


@strawberry.type(description="A comparison of runs by their hyperparameters and metrics.")
class RunComparison:
    runs: list[Run] = strawberry.field(metadata=costs(entries=20), description="The runs, in the order of the request.")
    parameters: list[ComparedParameter] = strawberry.field(metadata=costs(entries=20), description="Their hyperparameters, ordered by key.")
    metrics: list[ComparedMetric] = strawberry.field(
        metadata=costs(entries=20), description="The last values of their metrics, ordered by key."
    )

    @classmethod
    def of(cls, result: comparison.Comparison, *, only_differences: bool) -> Self:
        return cls(
            runs=[Run.of(row) for row in result.runs],
            parameters=[ComparedParameter.of(item) for item in result.parameters if item.differs or not only_differences],
            metrics=[ComparedMetric.of(item) for item in result.metrics if item.differs or not only_differences],
        )
