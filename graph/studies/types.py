"""Studies, their trials, and what they tell of them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Self
from uuid import UUID

import strawberry

from db.queries import accounts, experiments, jobs, pipelines, runs, studies, tags, versions
from graph.accounts.types import Profile, User
from graph.core.costs import costs
from graph.core.edges import connection, extend, many, one
from graph.core.ids import Node, RowObject
from graph.core.paging import Connection
from graph.core.permissions import Scope
from graph.core.scalars import JSON, BigInt, Duration
from graph.datasets.types import DatasetVersion
from graph.experiments.architectures import Architecture
from graph.experiments.enums import Goal
from graph.experiments.types import Experiment, Run
from graph.jobs.types import Job, duration
from graph.pipelines.types import Pipeline
from graph.studies.enums import SearchParameterType, StudyKind, StudyMethod, StudyReason, StudyStatus, TrialStatus
from graph.studies.inputs import StudyFilter, StudyOrder, TrialFilter, TrialOrder
from graph.tags.types import Tag, Taggable, tags_of


def _float(value: float | None) -> float | None:
    """PostgreSQL's jsonb returns a float without fraction as an integer."""
    return None if value is None else float(value)


@strawberry.type(description="What a study makes better.")
class Objective:
    metric: str = strawberry.field(description="The metric's name; its last value of a run counts.")
    goal: Goal = strawberry.field(description="Which of its values are better.")
    target: float | None = strawberry.field(description="The value that ends the study; null for none.")


@strawberry.type(description="A parameter of a node of the pipeline, and the values among which it is searched.")
class SearchParameter:
    node: str = strawberry.field(description="The key of the node.")
    name: str = strawberry.field(description="The parameter's name. In `Trial.parameters` it is `<node>.<name>`.")
    type: SearchParameterType = strawberry.field(description="What values it has.")
    low: float | None = strawberry.field(description="The least value; null of CATEGORICAL.")
    high: float | None = strawberry.field(description="The greatest value; null of CATEGORICAL.")
    step: float | None = strawberry.field(description="The distance of two values; null where any is possible.")
    log: bool = strawberry.field(description="Whether orders of magnitude are searched rather than values.")
    choices: list[JSON] | None = strawberry.field(description="The values of CATEGORICAL; null of others.")
    condition: JSON | None = strawberry.field(
        description="When it is searched, as {node, name, in}: only where that parameter has one of these values. Null for always."
    )

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        return cls(
            node=document["node"],
            name=document["name"],
            type=SearchParameterType(document["type"]),
            low=_float(document["low"]),
            high=_float(document["high"]),
            step=_float(document["step"]),
            log=document["log"],
            choices=document["choices"],
            condition=document["condition"],
        )


@strawberry.type(description="The limits of a study.")
class StudyBudget:
    max_trials: int = strawberry.field(description="How many trials it makes.")
    max_parallel: int = strawberry.field(description="How many trials may wait or run at once.")
    max_failed: int = strawberry.field(description="It ends when more trials than this have failed.")
    max_seconds: int | None = strawberry.field(description="How long it may run, without pauses; null for no limit.")
    max_credits: BigInt | None = strawberry.field(description="What its trials may cost together; null for no limit.")
    held: BigInt = strawberry.field(description="The credits that its unfinished trials hold.")
    charged: BigInt = strawberry.field(description="The credits that its completed trials were charged.")
    min_steps: int | None = strawberry.field(
        description="After how many steps trials of HYPERBAND are first compared; then after `reductionFactor` times as many each. Null for other methods."
    )
    max_steps: int | None = strawberry.field(description="After how many steps its trials end. Null for other methods.")
    reduction_factor: int | None = strawberry.field(
        description="Of how many trials the best one goes on where they are compared. Null for other methods."
    )


@strawberry.type(description="How much a parameter matters.")
class ParameterImportance:
    parameter: str = strawberry.field(description="The parameter, as `<node>.<name>`.")
    importance: float = strawberry.field(
        description="How much the best tenth of the trials differs in it from all of them (PED-ANOVA), as a share: all importances together are 1."
    )


@strawberry.type(description="Why a trial was ended at a rung, where the trials of a study by HYPERBAND are compared.")
class PruneDecision:
    rung: int = strawberry.field(
        description="The rung, counted from 0: after `minSteps` steps, and `reductionFactor` times as many for each next one."
    )
    step: int = strawberry.field(description="The last step of its training, counted from 0 as in its metrics.")
    value: float = strawberry.field(description="The study's metric after that step.")
    rank: int = strawberry.field(description="The rank of this value, 1 for the best.")
    of: int = strawberry.field(description="Among how many trials that had reached the rung, itself included.")


@strawberry.type(description="A value that was better than those of all trials that had ended before.")
class BestValue(RowObject):
    study_id: strawberry.Private[UUID]
    number: strawberry.Private[int]
    completed_at: strawberry.Private[datetime]
    value: float = strawberry.field(description="The value of the study's metric.")

    @strawberry.field(description="The number of the trial that has it.")
    def trial_number(self) -> int:
        return self.number

    @strawberry.field(description="When that trial ended.")
    def at(self) -> datetime:
        return self.completed_at


@strawberry.type(
    description="A search for the parameters of a pipeline, or for the architecture of what it trains, with which a metric is best. Its trials are runs,"
    " each with other parameters; nothing waits for others, so that a study goes on whatever happens to workers."
)
class Study(Node, Taggable, prefix="study", found_by=studies.live_by_id, scope=Scope.READ):
    owner_id: strawberry.Private[UUID]
    created_by_id: strawberry.Private[UUID | None]
    experiment_id: strawberry.Private[UUID]
    pipeline_id: strawberry.Private[UUID | None]
    dataset_version_id: strawberry.Private[UUID]
    best_trial_id: strawberry.Private[UUID | None]
    metric: strawberry.Private[str]
    goal: strawberry.Private[Goal]
    target: strawberry.Private[float | None]
    searched: strawberry.Private[Sequence[Mapping[str, Any]]]
    max_trials: strawberry.Private[int]
    max_parallel: strawberry.Private[int]
    max_failed: strawberry.Private[int]
    max_seconds: strawberry.Private[int | None]
    max_credits: strawberry.Private[int | None]
    credits_held: strawberry.Private[int]
    credits_charged: strawberry.Private[int]
    min_steps: strawberry.Private[int | None]
    max_steps: strawberry.Private[int | None]
    reduction_factor: strawberry.Private[int | None]
    ranked: strawberry.Private[Sequence[Mapping[str, Any]]]
    name: str = strawberry.field(description="Unique among the owner's studies, ignoring case.")
    kind: StudyKind = strawberry.field(description="What it searches for.")
    method: StudyMethod = strawberry.field(description="How the parameters of a trial are chosen.")
    status: StudyStatus = strawberry.field(description="Its current status.")
    reason: StudyReason | None = strawberry.field(description="Why it makes no further trials; null while it does.")
    seed: BigInt = strawberry.field(description="The seed of parameters and of all trainings.")
    is_reproducible: bool = strawberry.field(description="Whether the same seed makes the same trials, in whatever order they end.")
    trials_total: int = strawberry.field(description="How many trials it makes, if nothing ends it before.")
    trials_completed: int = strawberry.field(description="How many trials have a value.")
    trials_pruned: int = strawberry.field(description="How many trials were ended early.")
    trials_failed: int = strawberry.field(description="How many trials failed.")
    created_at: datetime = strawberry.field(description="When it was created.")
    updated_at: datetime = strawberry.field(description="When it was last changed; a trial that ends is a change too.")
    started_at: datetime | None = strawberry.field(description="When its first trial began.")
    completed_at: datetime | None = strawberry.field(description="When it ended, after its last trial.")
    deleted_at: datetime | None = strawberry.field(description="When it was deleted; edges still lead to it.")
    purged_at: datetime | None = strawberry.field(
        description="When its contents were removed for good; this row is what lineage needs of it."
    )
    tags: list[Tag] = tags_of(tags.of_study)
    best_trial: "Trial | None" = one(
        studies.trial_by_id, key="best_trial_id", description="The completed trial with the best value, the first of equal ones."
    )
    best_values: list[BestValue] = many(
        studies.best_values,
        metadata=costs(entries=10),
        description="The best value over time: each that was better than all before, the worst first.",
    )
    pareto_front: "list[Trial]" = many(
        studies.pareto_front,
        metadata=costs(entries=20),
        description="Of the completed trials that trained a neural network, those that no other one is both smaller than and at least as good as, the smallest"
        " network first: each is the best of its `architecture.parameterCount` or fewer. At most 500, those with the best values; empty where no networks are trained.",
    )
    trials: "Connection[Trial]" = connection(
        studies.trials_of_study, filtered_by=TrialFilter, ordered_by=TrialOrder, description="Its trials, newest first by default."
    )
    experiment: Experiment = one(experiments.by_id, key="experiment_id", description="The experiment that the runs of its trials are in.")
    pipeline: Pipeline | None = one(pipelines.by_id, key="pipeline_id", description="The pipeline that the trials run.")
    dataset_version: DatasetVersion = one(versions.by_id, key="dataset_version_id", description="The data that the trials train on.")
    owner: User = one(accounts.by_id, key="owner_id", description="The account that owns it: a person's, or a team's.")
    created_by: Profile | None = one(
        accounts.profile_by_id, key="created_by_id", description="Who made it, such as a member of the team; null if that was not kept."
    )

    @strawberry.field(description="What it makes better.")
    def objective(self) -> Objective:
        return Objective(metric=self.metric, goal=self.goal, target=self.target)

    @strawberry.field(metadata=costs(entries=5), description="The parameters that it searches.")
    def space(self) -> list[SearchParameter]:
        return [SearchParameter.of(document) for document in self.searched]

    @strawberry.field(description="Its limits.")
    def budget(self) -> StudyBudget:
        return StudyBudget(
            max_trials=self.max_trials,
            max_parallel=self.max_parallel,
            max_failed=self.max_failed,
            max_seconds=self.max_seconds,
            max_credits=self.max_credits,
            held=BigInt(self.credits_held),
            charged=BigInt(self.credits_charged),
            min_steps=self.min_steps,
            max_steps=self.max_steps,
            reduction_factor=self.reduction_factor,
        )

    @strawberry.field(
        metadata=costs(entries=5),
        description="How much each parameter matters, the most important first, of the trials that had completed when that was last found out. Empty"
        " before 10 have.",
    )
    def importances(self) -> list[ParameterImportance]:
        return [ParameterImportance(parameter=each["parameter"], importance=float(each["importance"])) for each in self.ranked]


@strawberry.type(description="One run of a study, with the parameters that were chosen for it.")
class Trial(Node, prefix="trial", found_by=studies.live_trial_by_id, scope=Scope.READ):
    study_id: strawberry.Private[UUID]
    job_id: strawberry.Private[UUID]
    run_id: strawberry.Private[UUID]
    drawn: strawberry.Private[Mapping[str, Any] | None]
    decision: strawberry.Private[Mapping[str, Any] | None]
    network: strawberry.Private[Mapping[str, Any] | None]
    number: int = strawberry.field(description="Counts up from 1 within the study.")
    status: TrialStatus = strawberry.field(description="Its current status, which follows that of its job within moments.")
    suggested_from: int | None = strawberry.field(
        description="The highest number of the ended trials that its parameters were chosen from; null where none was looked at."
    )
    value: float | None = strawberry.field(description="The last value of the study's metric of its run; null until it is COMPLETED.")
    created_at: datetime = strawberry.field(description="When it was made.")
    started_at: datetime | None = strawberry.field(description="When a worker first claimed its job.")
    completed_at: datetime | None = strawberry.field(description="When its job ended.")
    run: Run | None = one(runs.by_id, key="run_id", description="The run that records its training.")
    job: Job | None = one(jobs.by_id, key="job_id", description="The TRAIN job that does it.")
    study: Study = one(studies.by_id, key="study_id", description="The study that it belongs to.")

    @strawberry.field(
        description="The parameters that were chosen for it, as {`<node>.<name>`: value}, without those whose condition does not hold. Empty until its"
        " job has drawn them."
    )
    def parameters(self) -> JSON:
        return self.drawn or {}

    @strawberry.field(
        description="What the neural network that it trained is made of; null until its training has ended, and for other algorithms. In a study of kind"
        " NAS, no other trial has one of the same `hash`."
    )
    def architecture(self) -> Architecture | None:
        return None if self.network is None else Architecture.of_document(self.network)

    @strawberry.field(description="Why it was ended early; null if it was not.")
    def pruning(self) -> PruneDecision | None:
        decision = self.decision
        if decision is None:
            return None
        rest = {name: decision[name] for name in ("rung", "step", "rank", "of")}
        return PruneDecision(value=float(decision["value"]), **rest)

    @strawberry.field(description="The time from its first start to its end, or until now while it has not ended.")
    def duration(self) -> Duration | None:
        return duration(self.started_at, self.completed_at)


@strawberry.type(description="A trial was made, began or ended.")
class TrialEvent:
    cursor: str = strawberry.field(description="The position of the event: pass it as `after` to go on behind it.")
    trial_id: strawberry.Private[UUID]
    study_id: strawberry.Private[UUID]
    trial: Trial = one(studies.trial_by_id, key="trial_id", description="The trial, as it is now.")
    study: Study = one(studies.by_id, key="study_id", description="The study, as it is now.")


@strawberry.type(description="What a study would cost and how long it would take, as far as can be told beforehand.")
class StudyCostEstimate:
    credits: BigInt = strawberry.field(description="What all trials cost at the present price of a training.")
    seconds: float | None = strawberry.field(
        description="How long it would take if workers were free: the median of earlier trainings, times the trials, divided by those at once. Null"
        " if there are none."
    )
    based_on: int = strawberry.field(description="On how many earlier trainings the time is based, at most the newest 100.")
    basis: str = strawberry.field(description="Which trainings these are, for display.")


extend(
    User,
    "studies",
    Connection[Study],
    connection(studies.of_owner, filtered_by=StudyFilter, ordered_by=StudyOrder, description="The studies that the user owns."),
)
extend(Run, "study", Study | None, one(studies.by_id, key="study_id", description="The study of which it is a trial; null for other runs."))
extend(
    Run,
    "trial",
    Trial | None,
    one(studies.trial_of_run, description="The trial of a study that it is; null for other runs."),
)
