"""Experiments and the runs in them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import strawberry

from db.queries import (
    accounts,
    artifacts,
    datasets,
    experiments,
    jobs,
    leaderboard,
    metrics,
    pipelines,
    reproductions,
    runs,
    tags,
    versions,
)
from db.queries.goals import goal_of
from graph.accounts.types import Profile, User
from graph.core.annotations import annotations_field
from graph.core.context import Info
from graph.core.costs import costs
from graph.core.edges import connection, extend, many, one
from graph.core.errors import BadUserInput
from graph.core.ids import Node
from graph.core.loading import identity
from graph.core.paging import Connection
from graph.core.permissions import Scope
from graph.core.scalars import JSON, BigInt, Duration
from graph.datasets.files import Artifact
from graph.datasets.types import Dataset, DatasetVersion
from graph.experiments.architectures import Architecture
from graph.experiments.enums import Goal, RunSource, RunStatus
from graph.experiments.inputs import ExperimentFilter, ExperimentOrder, RunFilter, RunOrder
from graph.experiments.metrics import MetricSeries, MetricSummary
from graph.experiments.reproduction import Reproduction
from graph.jobs.parts import JobError
from graph.jobs.types import Job, duration
from graph.pipelines.types import Pipeline
from graph.tags.types import Tag, Taggable, tags_of

MAX_KEYS = 100


@strawberry.type(description="A group of runs that answer one question.")
class Experiment(Node, Taggable, prefix="experiment", found_by=experiments.live_by_id, scope=Scope.READ):
    owner_id: strawberry.Private[UUID]
    created_by_id: strawberry.Private[UUID | None]
    name: str = strawberry.field(description="Unique among the owner's experiments, ignoring case.")
    description: str | None = strawberry.field(description="Free text, such as the question that it should answer.")
    notes: str | None = strawberry.field(description="Notes of the owner, such as Markdown.")
    annotations: JSON = annotations_field()
    created_at: datetime = strawberry.field(description="When it was created.")
    updated_at: datetime = strawberry.field(description="When it was last changed; a new run is a change too.")
    deleted_at: datetime | None = strawberry.field(description="When it was deleted, with its runs; edges still lead to them.")
    purged_at: datetime | None = strawberry.field(
        description="When its contents were removed for good; this row is what lineage needs of it."
    )
    owner: User = one(accounts.by_id, key="owner_id", description="The account that owns it: a person's, or a team's.")
    created_by: Profile | None = one(
        accounts.profile_by_id, key="created_by_id", description="Who made it, such as a member of the team; null if that was not kept."
    )
    tags: list[Tag] = tags_of(tags.of_experiment)
    runs: "Connection[Run]" = connection(
        leaderboard.of_experiment, filtered_by=RunFilter, ordered_by=RunOrder, description="Its runs, newest first by default."
    )

    @strawberry.field(
        description="The run with the best last value of a metric: the first of `runs` in that order. Null if no run has a finite value."
    )
    async def best_run(
        self,
        info: Info,
        metric: Annotated[str, strawberry.argument(description="The metric's name.")],
        goal: Annotated[
            Goal | None,
            strawberry.argument(
                description="Whether greater or smaller values are better; by default what is known of the metric by its name, such as"
                " MINIMIZE for `rmse` and `validation_loss`. Required for a metric that is not known."
            ),
        ] = None,
    ) -> "Run | None":
        goal = goal or goal_of(metric)
        if goal is None:
            raise BadUserInput(
                f"Whether greater or smaller values of the metric {metric!r} are better is not known. Say so with `goal: MAXIMIZE` or `goal: MINIMIZE`."
            )
        return await info.context.loaders.one(runs.BestRuns(metric, goal is Goal.MAXIMIZE), Run.of).load(self.uuid)


@strawberry.type(
    description="One training with its hyperparameters and metrics. Its status follows that of its job. An external run has none: code elsewhere makes"
    " it with `createRun` and logs to it."
)
class Run(Node, Taggable, prefix="run", found_by=runs.live_by_id, scope=Scope.READ):
    owner_id: strawberry.Private[UUID]
    experiment_id: strawberry.Private[UUID]
    job_id: strawberry.Private[UUID | None]
    dataset_id: strawberry.Private[UUID | None]
    dataset_version_id: strawberry.Private[UUID | None]
    network: strawberry.Private[Mapping[str, Any] | None]
    pipeline_id: strawberry.Private[UUID | None]
    study_id: strawberry.Private[UUID | None]
    parent_run_id: strawberry.Private[UUID | None]
    original_run_id: strawberry.Private[UUID | None]
    failure: strawberry.Private[Mapping[str, Any] | None]
    source: RunSource = strawberry.field(description="Whether a job makes it, or code elsewhere.")
    number: int = strawberry.field(
        description="Counts up from 1 within the experiment. A run that moves to another experiment gets the next number there."
    )
    name: str | None = strawberry.field(description="A name that somebody gave it; several runs may have the same.")
    status: RunStatus = strawberry.field(description="Its current status.")
    hyperparameters: JSON = strawberry.field(description="The parameters that it trains with, as an object.")
    config: JSON = strawberry.field(description="Its other settings, as an object.")
    notes: str | None = strawberry.field(description="Notes of the owner, such as Markdown.")
    annotations: JSON = annotations_field()
    seed: BigInt = strawberry.field(description="The random seed: the same seed and inputs give the same metrics. 0 for an external run.")
    algorithm: str | None = strawberry.field(
        description="The algorithm of its model, such as RandomForestClassifier; null until that is trained."
    )
    best_step: int | None = strawberry.field(
        description="The step of its training that the model is of, counted from 0 as in the curves: the best one by the measure of early stopping. Null"
        " if it does not stop early, or has not completed."
    )
    created_at: datetime = strawberry.field(description="When it was requested.")
    deleted_at: datetime | None = strawberry.field(
        description="When it was deleted by itself; edges still lead to it. `experiment.deletedAt` tells when all were."
    )
    purged_at: datetime | None = strawberry.field(
        description="When its contents were removed for good; this row is what lineage needs of it."
    )
    updated_at: datetime = strawberry.field(description="When it was last changed; a recorded metric is no change.")
    started_at: datetime | None = strawberry.field(description="When a worker first claimed its job, or its code began.")
    completed_at: datetime | None = strawberry.field(description="When it ended, successfully or not.")
    experiment: Experiment = one(
        experiments.by_id, key="experiment_id", description="The experiment that it belongs to, even if that is deleted."
    )
    job: Job | None = one(jobs.by_id, key="job_id", description="The job that executes it; null for an external run.")
    dataset_version: DatasetVersion | None = one(versions.by_id, key="dataset_version_id", description="The data that it trains on.")
    dataset: Dataset | None = one(datasets.by_id, key="dataset_id", description="The dataset of that version, even if it is deleted.")
    pipeline: Pipeline | None = one(
        pipelines.by_id,
        key="pipeline_id",
        description="The pipeline that it trains by, in its present state; `job.snapshot` is the definition.",
    )
    owner: User = one(accounts.by_id, key="owner_id", description="The user who owns it.")
    tags: list[Tag] = tags_of(tags.of_run)
    parent_run: "Run | None" = one(
        runs.by_id, key="parent_run_id", description="The run that it is a part of, such as a search of which it is a trial; null for most."
    )
    child_runs: "Connection[Run]" = connection(
        leaderboard.of_parent,
        filtered_by=RunFilter,
        ordered_by=RunOrder,
        description="The runs that are parts of it, newest first by default.",
    )
    reproductions: "Connection[Run]" = connection(
        leaderboard.of_original,
        filtered_by=RunFilter,
        ordered_by=RunOrder,
        description="The runs that `reproduceRun` made of it, newest first by default.",
    )
    metrics: list[MetricSummary] = many(
        metrics.summaries, metadata=costs(entries=10), description="A summary of each metric so far, ordered by key."
    )

    artifacts: Connection[Artifact] = connection(
        artifacts.of_run,
        narrowed_by={"path": "Return only the file at this path, or the files in the folder at it, such as `checkpoints`."},
        description="The files that its training left, such as the model, its plots and checkpoints, by their paths.",
    )

    @strawberry.field(
        description="If `reproduceRun` made it: the run that it reproduces, and what differs. Null for other runs, and if the original is gone for good."
    )
    async def reproduction(self, info: Info) -> Reproduction | None:
        if self.original_run_id is None:
            return None
        return await info.context.loaders.one(reproductions.of_run, Reproduction.of).load(self.uuid)

    @strawberry.field(description="The summary of one of its metrics so far; null if it has no point of it.")
    async def metric(
        self, info: Info, key: Annotated[str, strawberry.argument(description="The metric's name, such as `validation.accuracy`.")]
    ) -> MetricSummary | None:
        return await info.context.loaders.one(metrics.Summary(key), MetricSummary.of).load(self.uuid)

    @strawberry.field(
        description="Why it failed: the failure of its job or, of an external run, ABANDONED if its code was not heard of any more. Null if it did not, and"
        " where its code did not say why."
    )
    async def error(self, info: Info) -> JobError | None:
        if self.job_id is None or self.status is not RunStatus.FAILED:
            return JobError.of(self.failure, self.owner_id)
        job = await info.context.loaders.one(jobs.by_id, Job.of).load(self.job_id)
        return None if job is None else JobError.of(job.failure, self.owner_id)

    @strawberry.field(description="The time from its first start to its end, or until now while it has not ended.")
    def duration(self) -> Duration | None:
        return duration(self.started_at, self.completed_at)

    @strawberry.field(
        description="What the neural network that it trained is made of; null until it has completed, and for other algorithms."
    )
    def architecture(self) -> Architecture | None:
        return None if self.network is None else Architecture.of_document(self.network)

    @strawberry.field(
        metadata=costs(10, entries=10, scaled=("maxPoints", 100)),
        description="The points of its metrics, ordered by key, step and time. A series of more than `maxPoints` is downsampled deterministically: it"
        " is divided into equal ranges of steps, or of times if all points are of one step, and the points with the least and the greatest value of each"
        " range are kept, as are the first and the last point of the series. No extreme is lost, unless `maxPoints` is 1: then the last point is"
        " returned. Some time after the end of the run, as the operators set it, points are let go: such a series has `isPruned`.",
    )
    async def metric_history(
        self,
        info: Info,
        keys: Annotated[
            list[str] | None, strawberry.argument(description="The keys of the metrics, at most 100; all metrics by default.")
        ] = None,
        max_points: Annotated[int, strawberry.argument(description="How many points a series may have, 1 to 10,000.")] = 1000,
    ) -> list[MetricSeries]:
        if not 1 <= max_points <= metrics.MAX_POINTS:
            raise BadUserInput(f"`maxPoints` is {max_points}; it must be between 1 and {metrics.MAX_POINTS}.")
        if keys is not None and len(keys) > MAX_KEYS:
            raise BadUserInput(f"`keys` has {len(keys)} entries; at most {MAX_KEYS} are accepted at once.")
        selected_keys = None if keys is None else tuple(sorted(set(keys)))
        series = await info.context.loaders.many(metrics.History(selected_keys, max_points), identity).load(self.uuid)
        return [MetricSeries.of(item) for item in series]


extend(
    User,
    "experiments",
    Connection[Experiment],
    connection(
        experiments.of_owner, filtered_by=ExperimentFilter, ordered_by=ExperimentOrder, description="The experiments that the user owns."
    ),
)
extend(
    User,
    "runs",
    Connection[Run],
    connection(
        leaderboard.of_owner, filtered_by=RunFilter, ordered_by=RunOrder, description="The runs of all experiments that the user owns."
    ),
)
extend(
    Dataset,
    "runs",
    Connection[Run],
    connection(leaderboard.of_dataset, filtered_by=RunFilter, ordered_by=RunOrder, description="The runs that trained on its versions."),
)
extend(
    DatasetVersion,
    "runs",
    Connection[Run],
    connection(leaderboard.of_version, filtered_by=RunFilter, ordered_by=RunOrder, description="The runs that trained on it."),
)
extend(Job, "run", Run | None, one(runs.of_job, description="The run that records its training; null for a job that does not train."))
