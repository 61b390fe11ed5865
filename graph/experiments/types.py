"""Experiments and the runs in them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

import strawberry

from db.queries import accounts, experiments, jobs, leaderboard, metrics, runs, versions
from graph.accounts.types import User
from graph.core.context import Info
from graph.core.costs import costs
from graph.core.edges import connection, extend, many, one
from graph.core.errors import BadUserInput
from graph.core.ids import Node
from graph.core.loading import identity
from graph.core.paging import Connection
from graph.core.scalars import JSON, BigInt, Duration
from graph.datasets.types import DatasetVersion
from graph.experiments.enums import Goal, RunStatus
from graph.experiments.inputs import ExperimentFilter, ExperimentOrder, RunFilter, RunOrder
from graph.experiments.metrics import MetricSeries, MetricSummary
from graph.jobs.types import Job, duration

MAX_KEYS = 100


@strawberry.type(description="A question that runs try to answer.")
class Experiment(Node, prefix="experiment", found_by=experiments.live_by_id):
    owner_id: strawberry.Private[UUID]
    name: str = strawberry.field(description="Unique among the owner's experiments, ignoring case.")
    description: str | None = strawberry.field(description="The question, for people.")
    notes: str | None = strawberry.field(description="Notes of the owner, such as Markdown.")
    created_at: datetime = strawberry.field(description="When it was created.")
    updated_at: datetime = strawberry.field(description="When it was last changed; a new run is a change too.")
    deleted_at: datetime | None = strawberry.field(
        description="When it was deleted. A deleted one is absent from lists and lookups, but still reachable through edges."
    )
    owner: User = one(accounts.by_id, key="owner_id", description="The user who owns it.")
    runs: Connection[Run] = connection(
        leaderboard.of_experiment, filtered_by=RunFilter, ordered_by=RunOrder, description="Its runs, newest first unless asked otherwise."
    )

    @strawberry.field(
        description="The run with the best last value of a metric: the first one of its runs in that order. Null where none has a finite value."
    )
    async def best_run(
        self,
        info: Info,
        metric: Annotated[str, strawberry.argument(description="The metric's name.")],
        goal: Annotated[Goal, strawberry.argument(description="Which values are good.")] = Goal.MAXIMIZE,
    ) -> Run | None:
        return await info.context.loaders.one(runs.BestRuns(metric, goal is Goal.MAXIMIZE), Run.of).load(self.uuid)


@strawberry.type(description="One training: what it was given and what it measured. It follows its job.")
class Run(Node, prefix="run", found_by=runs.live_by_id):
    owner_id: strawberry.Private[UUID]
    experiment_id: strawberry.Private[UUID]
    job_id: strawberry.Private[UUID | None]
    dataset_version_id: strawberry.Private[UUID | None]
    number: int = strawberry.field(description="Counts up from 1 within the experiment.")
    name: str | None = strawberry.field(description="An optional name.")
    status: RunStatus = strawberry.field(description="Its current status.")
    hyperparameters: JSON = strawberry.field(description="The parameters that it trains with, as an object.")
    config: JSON = strawberry.field(description="What else it was told, as an object.")
    notes: str | None = strawberry.field(description="Notes of the owner, such as Markdown.")
    seed: BigInt = strawberry.field(description="The seed of everything random in it: the same seed and inputs give the same metrics.")
    created_at: datetime = strawberry.field(description="When it was requested.")
    started_at: datetime | None = strawberry.field(description="When a worker first took its job.")
    completed_at: datetime | None = strawberry.field(description="When it ended, successfully or not.")
    experiment: Experiment = one(
        experiments.by_id, key="experiment_id", description="The experiment that it belongs to, also where that is deleted."
    )
    job: Job | None = one(jobs.by_id, key="job_id", description="The job that does it; null for one that was imported.")
    dataset_version: DatasetVersion | None = one(versions.by_id, key="dataset_version_id", description="The data that it trains on.")
    owner: User = one(accounts.by_id, key="owner_id", description="The user who owns it.")
    metrics: list[MetricSummary] = many(
        metrics.summaries, metadata=costs(entries=10), description="What became of each metric so far, by key."
    )

    @strawberry.field(description="From its first start to its end; so far, while it has not ended.")
    def duration(self) -> Duration | None:
        return duration(self.started_at, self.completed_at)

    @strawberry.field(
        metadata=costs(10, entries=10, scaled=("maxPoints", 100)),
        description="Its metrics step by step, by key. A series of more than `maxPoints` is made smaller, always in the same way: it is divided"
        " into equal stretches of steps, and of each the points with the least and the greatest value stay, and of the whole the first and the"
        " last; so no extreme is lost, from two points on. A single point is the last one.",
    )
    async def metric_history(
        self,
        info: Info,
        keys: Annotated[list[str] | None, strawberry.argument(description="The metrics, at most 100; all of them when not given.")] = None,
        max_points: Annotated[int, strawberry.argument(description="How many points a series may have, 1 to 10,000.")] = 1000,
    ) -> list[MetricSeries]:
        if not 1 <= max_points <= metrics.MAX_POINTS:
            raise BadUserInput(f"`maxPoints` is {max_points}; it must be between 1 and {metrics.MAX_POINTS}.")
        if keys is not None and len(keys) > MAX_KEYS:
            raise BadUserInput(f"`keys` has {len(keys)} entries; at most {MAX_KEYS} are taken at once.")
        selected_keys = None if keys is None else tuple(sorted(set(keys)))
        series = await info.context.loaders.many(metrics.History(selected_keys, max_points), identity).load(self.uuid)
        return [MetricSeries.of(item) for item in series]


extend(
    User,
    "experiments",
    Connection[Experiment],
    connection(
        experiments.of_owner, filtered_by=ExperimentFilter, ordered_by=ExperimentOrder, description="The experiments that are theirs."
    ),
)
extend(Job, "run", Run | None, one(runs.of_job, description="The run that records its training; null for a job that does not train."))
