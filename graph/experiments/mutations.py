"""Mutations on experiments."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

import strawberry

from db.queries import experiments as experiment_queries
from db.queries import jobs as job_queries
from db.queries import runs as run_queries
from db.services import experiments, moves, reproducing
from graph.core.context import Info
from graph.core.costs import JOB, costs
from graph.core.edges import one
from graph.core.ids import decode, owner_key
from graph.core.permissions import Scope, mutation
from graph.core.problems import Conflict, InsufficientCredits, InvalidInput, NameTaken, NotFound, QuotaExceeded, WrongState
from graph.experiments.inputs import CreateExperimentInput, MoveRunsInput, ReproduceRunInput, UpdateExperimentInput, UpdateRunInput
from graph.experiments.types import Experiment, Run
from graph.jobs.types import Job


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


@strawberry.type(description="A new job makes the run again.")
class ReproduceRunPayload:
    job_id: strawberry.Private[UUID]
    job: Job = one(job_queries.by_id, key="job_id", description="The new job, with the same definition, data and seed.")
    run: Run = one(
        run_queries.of_job,
        key="job_id",
        description="The new run. Once it has completed, its `reproduction` tells whether it is identical.",
    )


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

ReproduceRunResult = Annotated[
    ReproduceRunPayload | NotFound | InvalidInput | WrongState | Conflict | QuotaExceeded | InsufficientCredits,
    strawberry.union("ReproduceRunResult", description="The possible results of `reproduceRun`."),
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

    @mutation(
        scope=Scope.RUN,
        metadata=costs(JOB),
        description="Make a completed run again: the same definition of its pipeline, the same data and the same seed, in a new run of the same experiment"
        " whose model becomes the next version of the same model. Trials of studies cannot: run their pipeline with their parameters.",
    )
    async def reproduce_run(
        self, info: Info, input: Annotated[ReproduceRunInput, strawberry.argument(description="The run to make again.")]
    ) -> ReproduceRunResult:
        async with info.context.work() as work:
            job_id = await reproducing.reproduce(work, decode("run", input.id), input.idempotency_key)
        return ReproduceRunPayload(job_id=job_id)
