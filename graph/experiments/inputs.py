"""Filters and orders of lists of experiments and runs, and inputs of mutations on experiments."""

from typing import Any, ClassVar

import strawberry
from strawberry import ID, UNSET, Maybe

from db.core.criteria import Criteria, Order
from db.queries import run_orders, runs
from graph.core.annotations import CHANGED_ANNOTATIONS, AnnotationFilter
from graph.core.errors import BadUserInput
from graph.core.filters import DateTimeFilter, DurationFilter, Filter, OrderDirection, OrderInput, StringFilter, order_input, reference
from graph.core.idempotency import IDEMPOTENCY_KEY
from graph.core.metric_filter import MAX_CONDITIONS, MetricFilter, check_key
from graph.core.scalars import JSON
from graph.experiments.enums import RunOrderField, RunSource, RunStatus
from graph.tags.filters import tagged_with


@strawberry.input(description="Conditions on experiments, all of which must hold.")
class ExperimentFilter(Filter):
    name: StringFilter | None = strawberry.field(description="The experiment's name.")
    algorithm: str | None = strawberry.field(
        description="The algorithm of the model that one of its runs trained, such as `RandomForestClassifier`; case matters."
    )
    tags: list[ID] | None = tagged_with()
    created_at: DateTimeFilter | None = strawberry.field(description="When it was created.")
    owner_id: ID | None = reference("user", description="The owner; useful to admins, who see everybody's.")


ExperimentOrder = order_input(
    "Experiment",
    "experiments",
    created_at="When it was created.",
    updated_at="When it was last changed; a new run is a change too.",
    name="Its name, ignoring case.",
)


@strawberry.input(description="Conditions on a hyperparameter, all of which must hold. Without any: the run has it.")
class ParameterFilter:
    key: str = strawberry.field(description="Its name; dots separate the levels of nested objects, as in `train.alpha`.")
    eq: Maybe[JSON | None] = strawberry.field(description="It equals this value; null matches runs that have it and where it is null.")
    in_: list[JSON] | None = strawberry.field(name="in", description="It equals one of these values; an empty list matches nothing.")
    gte: float | None = strawberry.field(description="It is a number and greater than or equal to this.")
    lte: float | None = strawberry.field(description="It is a number and less than or equal to this.")

    def to_criteria(self) -> runs.ParameterMatch:
        check_key(self.key)
        sets = ([] if self.eq is None else [[self.eq.value]]) + ([] if self.in_ is None else [self.in_])
        return runs.ParameterMatch.of(self.key, *sets, gte=self.gte, lte=self.lte)


@strawberry.input(description="Conditions on runs, all of which must hold. A list of statuses means any of them.")
class RunFilter(Filter):
    experiment_id: ID | None = reference("experiment", description="The experiment that it belongs to.")
    dataset_id: ID | None = reference("dataset", description="The dataset that it trains on.")
    dataset_version_id: ID | None = reference("version", description="The dataset version that it trains on.")
    pipeline_id: ID | None = reference("pipeline", description="The pipeline that it trains by.")
    name: StringFilter | None = strawberry.field(description="Its name.")
    study_id: ID | None = reference("study", description="The study of which it is a trial.")
    source: list[RunSource] | None = strawberry.field(description="Whether a job makes it, or code elsewhere.")
    parent_run_id: ID | None = reference("run", description="The run that it is a part of.")
    status: list[RunStatus] | None = strawberry.field(description="Its current status.")
    algorithm: str | None = strawberry.field(
        description="The algorithm of the model that it trained, such as `RandomForestClassifier`; case matters."
    )
    duration: DurationFilter | None = strawberry.field(description="The time from its first start to its end.")
    metrics: list[MetricFilter] | None = strawberry.field(description="Bounds on its metrics, all of which must hold.")
    parameters: list[ParameterFilter] | None = strawberry.field(description="Conditions on its hyperparameters, all of which must hold.")
    tags: list[ID] | None = tagged_with()
    annotations: list[AnnotationFilter] | None = strawberry.field(description="Conditions on its annotations, all of which must hold.")
    created_at: DateTimeFilter | None = strawberry.field(description="When it was requested.")
    owner_id: ID | None = reference("user", description="The owner; useful to admins, who see everybody's.")

    def to_criteria(self) -> Criteria:
        conditions = (self.metrics or [], self.parameters or [], self.annotations or [])
        if max(map(len, conditions)) > MAX_CONDITIONS:
            raise BadUserInput(
                f"At most {MAX_CONDITIONS} conditions on metrics, on parameters and on annotations each are accepted at once."
            )
        if sum(len(parameter.in_ or ()) for parameter in conditions[1]) > MAX_VALUES:
            raise BadUserInput(
                f"At most {MAX_VALUES} values are accepted at once in the `in` of all parameters. Split the query into several operations."
            )
        return super().to_criteria()


MAX_VALUES = 100  # each is an index lookup too


@strawberry.input(one_of=True, description="The key to order runs by: a field, a metric or a hyperparameter.")
class RunOrderKey:
    field: RunOrderField | None = strawberry.field(default=UNSET, description="A field of the run.")
    metric: str | None = strawberry.field(
        default=UNSET,
        description="The last value of the metric with this name; runs without a finite one come last in either direction.",
    )
    parameter: str | None = strawberry.field(
        default=UNSET,
        description="The hyperparameter with this name, whose dots separate the levels of nested objects; runs in which it is no number come last in"
        " either direction.",
    )

    def to_key(self) -> run_orders.RunKey:
        if isinstance(self.metric, str):
            return run_orders.ByMetric(self.metric)
        if isinstance(self.parameter, str):
            return run_orders.ByParameter(self.parameter)
        assert isinstance(self.field, RunOrderField)
        return run_orders.ByColumn(self.field.value)


@strawberry.input(description="The order of a list of runs. Runs without a value to order by come last in either direction.")
class RunOrder(OrderInput):
    columns: ClassVar = tuple(member.value for member in RunOrderField)
    by: RunOrderKey = strawberry.field(description="The key to order by.")
    direction: OrderDirection = strawberry.field(default=OrderDirection.DESC, description="The direction; descending by default.")
    then_by: RunOrderKey | None = strawberry.field(
        default=None,
        description="The key by which runs with equal values are ordered, in the same direction; those without a value come last of them. It sorts ties"
        " alone: with many thousands of them a page takes longer.",
    )

    def to_order(self) -> Order | run_orders.RunOrder:
        by, descending = self.by.to_key(), self.direction is OrderDirection.DESC
        if self.then_by is None and isinstance(by, run_orders.ByColumn) and not by.is_nullable:
            return Order(by.name, descending)
        return run_orders.RunOrder(by, descending, None if self.then_by is None else self.then_by.to_key())


@strawberry.input(description="The experiment to create.")
class CreateExperimentInput:
    name: str = strawberry.field(description="Unique among the owner's experiments, ignoring case; 1 to 200 characters.")
    description: str | None = strawberry.field(description="Free text, such as the question that it should answer.")
    notes: str | None = strawberry.field(description="Notes for your own use, such as Markdown.")
    owner_id: ID | None = strawberry.field(
        default=None, description="Who is to own it: a team in which you are MEMBER or ADMIN; you if left out."
    )


@strawberry.input(description="Changes to an experiment. Omitted fields stay unchanged; null clears a field.")
class UpdateExperimentInput:
    id: ID = strawberry.field(description="The experiment.")
    name: Maybe[str | None] = strawberry.field(description="A new name; it cannot be cleared.")
    description: Maybe[str | None] = strawberry.field(description="Free text, such as the question that it should answer.")
    notes: Maybe[str | None] = strawberry.field(description="Notes for your own use, such as Markdown.")
    annotations: Maybe[JSON | None] = strawberry.field(description=CHANGED_ANNOTATIONS)

    def changes(self) -> dict[str, Any]:
        """Return the given fields; None clears one."""
        fields = {"name": self.name, "description": self.description, "notes": self.notes, "annotations": self.annotations}
        return {name: change.value for name, change in fields.items() if change is not None}


@strawberry.input(description="Changes to what is written about a run. Omitted fields stay unchanged; null clears a field.")
class UpdateRunInput:
    id: ID = strawberry.field(description="The run.")
    name: Maybe[str | None] = strawberry.field(description="A name, at most 200 characters; several runs may have the same.")
    notes: Maybe[str | None] = strawberry.field(description="Notes for your own use, such as Markdown; at most 100,000 characters.")
    annotations: Maybe[JSON | None] = strawberry.field(description=CHANGED_ANNOTATIONS)

    def changes(self) -> dict[str, Any]:
        """Return the given fields; None clears one."""
        fields = {"name": self.name, "notes": self.notes, "annotations": self.annotations}
        return {name: change.value for name, change in fields.items() if change is not None}


@strawberry.input(description="A run to make again.")
class ReproduceRunInput:
    id: ID = strawberry.field(description="The run, which must have completed.")
    idempotency_key: str | None = strawberry.field(
        default=None,
        description=IDEMPOTENCY_KEY,
    )


@strawberry.input(description="Runs, and the experiment to move them to.")
class MoveRunsInput:
    ids: list[ID] = strawberry.field(description="The runs, at most 100, of any experiments of one account.")
    experiment_id: ID = strawberry.field(description="The experiment, of the same account.")
