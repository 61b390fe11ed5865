"""Filters and orders of lists of studies and trials, and inputs of their mutations."""

import strawberry
from strawberry import ID

from db.core import search_space
from db.services.studies.budgets import BudgetChange
from graph.core.filters import DateTimeFilter, Filter, StringFilter, order_input, reference
from graph.core.idempotency import IDEMPOTENCY_KEY
from graph.core.scalars import JSON, BigInt
from graph.experiments.enums import Goal
from graph.studies.enums import SearchParameterType, StudyKind, StudyMethod, StudyStatus, TrialStatus
from graph.tags.filters import tagged_with


@strawberry.input(description="Conditions on studies, all of which must hold. A list of statuses means any of them.")
class StudyFilter(Filter):
    name: StringFilter | None = strawberry.field(description="The study's name.")
    status: list[StudyStatus] | None = strawberry.field(description="Its current status.")
    created_at: DateTimeFilter | None = strawberry.field(description="When it was created.")
    tags: list[ID] | None = tagged_with()
    owner_id: ID | None = reference("user", description="The owner; useful to admins, who see everybody's.")


StudyOrder = order_input(
    "Study",
    "studies",
    created_at="When it was created.",
    updated_at="When it was last changed; a trial that ends is a change too.",
    name="Its name, ignoring case.",
)


@strawberry.input(description="Conditions on the trials of a study, all of which must hold.")
class TrialFilter(Filter):
    status: list[TrialStatus] | None = strawberry.field(description="Its current status; a list means any of them.")


TrialOrder = order_input(
    "Trial",
    "trials",
    created_at="When it was made.",
    number="Its number, the order in which trials are made.",
    value="Its value of the study's metric; trials without one come last in either direction.",
)


@strawberry.input(description="What a study makes better: a metric that the runs of its pipeline report.")
class ObjectiveInput:
    metric: str = strawberry.field(
        description="The metric's name, such as `validation_loss`, `cv_accuracy_mean` or `accuracy`; its last value of a run counts. Prefer one of"
        " validation rows or folds: the best of many trials looks better on the rows that chose it than it is."
    )
    goal: Goal | None = strawberry.field(
        default=None, description="Which values are better; by default what is known of the metric by its name."
    )
    target: float | None = strawberry.field(default=None, description="The study ends when a trial has this value, or a better one.")


@strawberry.input(description="A parameter is searched only where another one of the space has one of these values.")
class SearchConditionInput:
    node: str = strawberry.field(description="The key of the other parameter's node.")
    name: str = strawberry.field(description="The other parameter's name.")
    in_: list[JSON] = strawberry.field(name="in", description="The values of the other parameter.")

    def to_condition(self) -> search_space.Condition:
        return search_space.Condition(self.node, self.name, tuple(self.in_))


@strawberry.input(description="A parameter of a node of the pipeline, and the values among which it is searched.")
class SearchParameterInput:
    node: str = strawberry.field(description="The key of the node.")
    name: str = strawberry.field(description="The parameter's name, as in the step's `parameterSchema`.")
    type: SearchParameterType = strawberry.field(description="What values it has.")
    low: float | None = strawberry.field(default=None, description="The least value, of DOUBLE and INT.")
    high: float | None = strawberry.field(default=None, description="The greatest value, of DOUBLE and INT.")
    step: float | None = strawberry.field(default=None, description="The distance of two values; it must lead from `low` to `high`.")
    log: bool = strawberry.field(default=False, description="Search orders of magnitude rather than values, as of a learning rate.")
    choices: list[JSON] | None = strawberry.field(default=None, description="The values, of CATEGORICAL.")
    condition: SearchConditionInput | None = strawberry.field(
        default=None, description="When it is searched; always by default. Where it is not, the pipeline's own value holds."
    )

    def to_parameter(self) -> search_space.SearchParameter:
        return search_space.SearchParameter(
            node=self.node,
            name=self.name,
            type=self.type,
            low=self.low,
            high=self.high,
            step=self.step,
            log=self.log,
            choices=None if self.choices is None else tuple(self.choices),
            condition=None if self.condition is None else self.condition.to_condition(),
        )


@strawberry.input(description="Limits of a study. Those that are left out have their defaults, or in `updateStudy` stay as they are.")
class StudyBudgetInput:
    max_trials: int | None = strawberry.field(
        default=None, description="How many trials it makes, 1 to 100,000; 20 by default. Of a GRID, at least all of its points."
    )
    max_parallel: int | None = strawberry.field(
        default=None,
        description="How many trials may wait or run at once, 1 to 100; 2 by default. They count in the limit of the account's running jobs too.",
    )
    max_failed: int | None = strawberry.field(
        default=None, description="The study ends when more trials than this have failed; 5 by default."
    )
    max_seconds: int | None = strawberry.field(
        default=None, description="How long it may run, without pauses. Then its trials are cancelled; no limit by default."
    )
    max_credits: BigInt | None = strawberry.field(
        default=None, description="What its trials may cost together: what they hold and what was charged. No limit by default."
    )
    min_steps: int | None = strawberry.field(
        default=None,
        description="Of HYPERBAND, after how many steps trials are first compared; `maxSteps` divided by `reductionFactor`² by default.",
    )
    max_steps: int | None = strawberry.field(
        default=None,
        description="Of HYPERBAND, how many steps a trial has at most: rounds, trees or epochs. Those of the pipeline by default.",
    )
    reduction_factor: int | None = strawberry.field(
        default=None, description="Of HYPERBAND, of how many trials the best one goes on where they are compared, 2 to 10; 3 by default."
    )

    def to_change(self) -> BudgetChange:
        return BudgetChange(
            self.max_trials,
            self.max_parallel,
            self.max_failed,
            self.max_seconds,
            self.max_credits,
            self.min_steps,
            self.max_steps,
            self.reduction_factor,
        )


@strawberry.input(description="The study to create.")
class CreateStudyInput:
    name: str = strawberry.field(description="Unique among the owner's studies, ignoring case; 1 to 200 characters.")
    method: StudyMethod = strawberry.field(description="How the parameters of a trial are chosen.")
    pipeline_id: ID = strawberry.field(description="The pipeline, which must train. Nodes that explain or export are left out of trials.")
    dataset_version_id: ID = strawberry.field(description="The READY version that the trials train on.")
    objective: ObjectiveInput = strawberry.field(description="What it makes better.")
    space: list[SearchParameterInput] = strawberry.field(description="The parameters that it searches, 1 to 50.")
    kind: StudyKind = strawberry.field(
        default=StudyKind.HPO,
        description="What it searches for. With NAS, the space has parameters that the architecture depends on (`x-architecture` in the"
        " `parameterSchema` of the training step), any method but GRID is used, and a `reproducible` study has `maxParallel` 1.",
    )
    experiment_id: ID | None = strawberry.field(
        default=None, description='The experiment of its runs; the owner\'s experiment "Default" if left out.'
    )
    budget: StudyBudgetInput | None = strawberry.field(default=None, description="Its limits.")
    seed: BigInt | None = strawberry.field(
        default=None, description="The seed of parameters and of the trainings, which all have the same; a random one by default."
    )
    reproducible: bool = strawberry.field(
        default=False,
        description="Make the same trials for the same seed, in whatever order they end: trial n waits for all trials up to n − `maxParallel`, and"
        " is drawn from these alone. Trials of different lengths then leave places unused.",
    )
    idempotency_key: str | None = strawberry.field(
        default=None,
        description=IDEMPOTENCY_KEY,
    )


@strawberry.input(description="The study to pause.")
class PauseStudyInput:
    id: ID = strawberry.field(description="The study.")


@strawberry.input(description="The study to resume.")
class ResumeStudyInput:
    id: ID = strawberry.field(description="The study.")


@strawberry.input(description="The study to cancel.")
class CancelStudyInput:
    id: ID = strawberry.field(description="The study.")


@strawberry.input(description="The study to change, and its new limits.")
class UpdateStudyInput:
    id: ID = strawberry.field(description="The study.")
    budget: StudyBudgetInput = strawberry.field(description="The limits to change.")


@strawberry.input(description="The trial whose model is registered.")
class RegisterTrialInput:
    id: ID = strawberry.field(description="The trial.")
    model_name: str | None = strawberry.field(
        default=None, description="The model that gets a new version; it is created if missing. By default it is named like the study."
    )
