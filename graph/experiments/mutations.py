"""Mutations on experiments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

import strawberry

from db.queries import experiments as experiment_queries
from db.queries import runs as run_queries
from db.services import experiments, moves
from graph.core.context import Info
from graph.core.costs import costs
from graph.core.edges import one
from graph.core.ids import decode, owner_key
from graph.core.permissions import Scope, mutation
from graph.core.problems import InvalidInput, NameTaken, NotFound
from graph.experiments.inputs import CreateExperimentInput, MoveRunsInput, UpdateExperimentInput, UpdateRunInput
from graph.experiments.types import Experiment, Run


@strawberry.type(description="The experiment was created.")
class CreateExperimentPayload:
    experiment_id: strawberry.Private[UUID]
    experiment: Experiment = one(experiment_queries.by_id, key="experiment_id", description="The new experiment.")


@strawberry.type(description="The experiment was changed.")
class UpdateExperimentPayload:
    experiment_id: strawberry.Private[UUID]
    experiment: Experiment = one(experiment_queries.by_id, key="experiment_id", description="The updated experiment.")


@strawberry.type(description="What is written about the run was changed.")
class UpdateRunPayload:
    run_id: strawberry.Private[UUID]
    run: Run = one(run_queries.by_id, key="run_id", description="The run with its new name and notes.")


@strawberry.type(description="All of the runs are in the experiment.")
class MoveRunsPayload:
    experiment_id: strawberry.Private[UUID]
    run_ids: strawberry.Private[Sequence[UUID]]
    experiment: Experiment = one(experiment_queries.by_id, key="experiment_id", description="The experiment that they are in now.")

    @strawberry.field(metadata=costs(entries=10), description="The runs, in the order of the input.")
    async def runs(self, info: Info) -> list[Run]:
        return list(await info.context.loaders.one(run_queries.by_id, Run.of).load_many(self.run_ids))


CreateExperimentResult = Annotated[
    CreateExperimentPayload | NameTaken | InvalidInput,
    strawberry.union("CreateExperimentResult", description="The possible results of `createExperiment`."),
]

UpdateExperimentResult = Annotated[
    UpdateExperimentPayload | NotFound | NameTaken | InvalidInput,
    strawberry.union("UpdateExperimentResult", description="The possible results of `updateExperiment`."),
]
UpdateRunResult = Annotated[
    UpdateRunPayload | NotFound | InvalidInput, strawberry.union("UpdateRunResult", description="The possible results of `updateRun`.")
]
MoveRunsResult = Annotated[
    MoveRunsPayload | NotFound | InvalidInput, strawberry.union("MoveRunsResult", description="The possible results of `moveRuns`.")
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

    @mutation(description="Change the name, the description or the notes of an experiment.")
    async def update_experiment(
        self, info: Info, input: Annotated[UpdateExperimentInput, strawberry.argument(description="The changes.")]
    ) -> UpdateExperimentResult:
        async with info.context.work() as work:
            experiment_id = await experiments.update(work, decode("experiment", input.id), input.changes())
        return UpdateExperimentPayload(experiment_id=experiment_id)

    @mutation(description="Change the name or the notes of a run.")
    async def update_run(
        self, info: Info, input: Annotated[UpdateRunInput, strawberry.argument(description="The changes.")]
    ) -> UpdateRunResult:
        async with info.context.work() as work:
            run_id = await experiments.update_run(work, decode("run", input.id), input.changes())
        return UpdateRunPayload(run_id=run_id)

    @mutation(
        description="Move runs to another experiment of the same account, those under way included: all of them, or none. Each gets the next number there,"
        " in the order of the input, and its old number stays free. Those that are in the experiment already stay as they are."
    )
    async def move_runs(
        self, info: Info, input: Annotated[MoveRunsInput, strawberry.argument(description="The runs and the experiment.")]
    ) -> MoveRunsResult:
        run_ids = [decode("run", text) for text in input.ids]
        async with info.context.work() as work:
            moved = await moves.move_runs(work, run_ids, decode("experiment", input.experiment_id))
        return MoveRunsPayload(experiment_id=decode("experiment", input.experiment_id), run_ids=moved)
