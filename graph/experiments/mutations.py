"""Mutations on experiments."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import strawberry

from db.queries import experiments as experiment_queries
from db.services import experiments
from graph.core.context import Info
from graph.core.edges import one
from graph.core.ids import owner_key
from graph.core.permissions import Scope, mutation
from graph.core.problems import InvalidInput, NameTaken
from graph.experiments.inputs import CreateExperimentInput
from graph.experiments.types import Experiment


@strawberry.type(description="The experiment was created.")
class CreateExperimentPayload:
    experiment_id: strawberry.Private[UUID]
    experiment: Experiment = one(experiment_queries.by_id, key="experiment_id", description="The new experiment.")


CreateExperimentResult = Annotated[
    CreateExperimentPayload | NameTaken | InvalidInput,
    strawberry.union("CreateExperimentResult", description="The possible results of `createExperiment`."),
]


@strawberry.type
class ExperimentMutations:
    @mutation(scope=Scope.TRACK, description="Create an experiment, which groups runs; pass its id to `runPipeline`.")
    async def create_experiment(
        self, info: Info, input: Annotated[CreateExperimentInput, strawberry.argument(description="The experiment to create.")]
    ) -> CreateExperimentResult:
        owner_id = owner_key(input.owner_id)
        new_experiment = experiments.NewExperiment(input.name, input.description, input.notes, owner_id)
        async with info.context.work() as work:
            experiment_id = await experiments.create(work, new_experiment)
        return CreateExperimentPayload(experiment_id=experiment_id)
