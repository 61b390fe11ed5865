"""Filters and orders of lists of experiments and runs, and inputs of mutations on experiments."""

from __future__ import annotations

from typing import ClassVar

import strawberry
from strawberry import ID, UNSET, Maybe

from db.core.criteria import Criteria, Order
from db.queries import runs
from graph.core.errors import BadUserInput
from graph.core.filters import DateTimeFilter, Filter, OrderDirection, OrderInput, StringFilter, order_input, reference
from graph.core.metric_filter import MAX_CONDITIONS, MetricFilter, check_key
from graph.core.scalars import JSON
from graph.experiments.enums import RunOrderField, RunStatus


@strawberry.input(description="Conditions on experiments, all of which must hold.")
class ExperimentFilter(Filter):
    name: StringFilter | None = strawberry.field(description="The experiment's name.")
    created_at: DateTimeFilter | None = strawberry.field(description="When it was created.")
    owner_id: ID | None = reference("user", description="The owner; useful to admins, who see everybody's.")


ExperimentOrder = order_input(
    "Experiment",
    "experiments",
    created_at="When it was created.",
    updated_at="When it was last changed; a new run is a change too.",
    name="Its name, ignoring case.",
)


@strawberry.input(description="A condition on a hyperparameter. With neither `eq` nor `in`: the run has it.")
class ParameterFilter:
    key: str = strawberry.field(description="Its name; dots separate the levels of nested objects, as in `train.alpha`.")
    eq: Maybe[JSON | None] = strawberry.field(description="It equals this value; null matches runs that have it and where it is null.")
    in_: list[JSON] | None = strawberry.field(name="in", description="It equals one of these values; an empty list matches nothing.")

    def to_criteria(self) -> runs.ParameterMatch:
        check_key(self.key)
        sets = ([] if self.eq is None else [[self.eq.value]]) + ([] if self.in_ is None else [self.in_])
        return runs.ParameterMatch.of(self.key, *sets)


@strawberry.input(description="Conditions on runs, all of which must hold. A list of statuses means any of them.")
class RunFilter(Filter):
    experiment_id: ID | None = reference("experiment", description="The experiment that it belongs to.")
    status: list[RunStatus] | None = strawberry.field(description="Its current status.")
    metrics: list[MetricFilter] | None = strawberry.field(description="Bounds on its metrics, all of which must hold.")
    parameters: list[ParameterFilter] | None = strawberry.field(description="Conditions on its hyperparameters, all of which must hold.")
    created_at: DateTimeFilter | None = strawberry.field(description="When it was requested.")
    owner_id: ID | None = reference("user", description="The owner; useful to admins, who see everybody's.")

    def to_criteria(self) -> Criteria:
        conditions = (self.metrics or [], self.parameters or [])
        if max(map(len, conditions)) > MAX_CONDITIONS:
            raise BadUserInput(f"At most {MAX_CONDITIONS} conditions on metrics, and as many on parameters, are accepted at once.")
        if sum(len(parameter.in_ or ()) for parameter in conditions[1]) > MAX_VALUES:
            raise BadUserInput(
                f"At most {MAX_VALUES} values are accepted at once in the `in` of all parameters. Split the query into several operations."
            )
        return super().to_criteria()


MAX_VALUES = 100  # each is an index lookup too


@strawberry.input(one_of=True, description="The key to order runs by: a field or a metric.")
class RunOrderKey:
    field: RunOrderField | None = strawberry.field(default=UNSET, description="A field of the run.")
    metric: str | None = strawberry.field(
        default=UNSET,
        description="The last value of the metric with this name; runs without a finite one come last in either direction.",
    )


@strawberry.input(description="The order of a list of runs.")
class RunOrder(OrderInput):
    columns: ClassVar = tuple(member.value for member in RunOrderField)
    by: RunOrderKey = strawberry.field(description="The key to order by.")
    direction: OrderDirection = strawberry.field(default=OrderDirection.DESC, description="The direction; descending by default.")

    def to_order(self) -> Order | runs.MetricOrder:
        descending = self.direction is OrderDirection.DESC
        if isinstance(self.by.metric, str):
            return runs.MetricOrder(self.by.metric, descending)
        field = self.by.field
        assert isinstance(field, RunOrderField)
        return Order(field.value, descending)


@strawberry.input(description="The experiment to create.")
class CreateExperimentInput:
    name: str = strawberry.field(description="Unique among the owner's experiments, ignoring case; 1 to 200 characters.")
    description: str | None = strawberry.field(description="Free text, such as the question that it should answer.")
    notes: str | None = strawberry.field(description="Notes for your own use, such as Markdown.")
    owner_id: ID | None = strawberry.field(
        default=None, description="Who is to own it: a team in which you are MEMBER or ADMIN; you if left out."
    )
