"""Mutations that create, update and run pipelines."""

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import strawberry

from db.queries import datasets, jobs, runs
from db.queries import pipelines as pipeline_queries
from db.services import pipelines
from graph.core.context import Info
from graph.core.costs import JOB, costs
from graph.core.edges import one
from graph.core.ids import decode, owner_key
from graph.core.permissions import Scope, mutation
from graph.core.problems import Conflict, InsufficientCredits, InvalidInput, NameTaken, NotFound, QuotaExceeded, WrongState
from graph.pipelines.inputs import CopyPipelineInput, CreatePipelineInput, RunPipelineInput, UpdatePipelineInput
from graph.pipelines.types import Pipeline

if TYPE_CHECKING:
    from graph.datasets.types import Dataset
    from graph.experiments.types import Run
    from graph.jobs.types import Job


@strawberry.type(description="The pipeline was created.")
class CreatePipelinePayload:
    pipeline_id: strawberry.Private[UUID]
    pipeline: Pipeline = one(
        pipeline_queries.by_id, key="pipeline_id", description="The new pipeline: VALIDATED if it is complete, else a DRAFT."
    )


@strawberry.type(description="The pipeline was changed.")
class UpdatePipelinePayload:
    pipeline_id: strawberry.Private[UUID]
    pipeline: Pipeline = one(pipeline_queries.by_id, key="pipeline_id", description="The updated pipeline.")


@strawberry.type(description="The pipeline was copied.")
class CopyPipelinePayload:
    pipeline_id: strawberry.Private[UUID]
    pipeline: Pipeline = one(
        pipeline_queries.by_id,
        key="pipeline_id",
        description="The copy, at version 1 and no template. Later changes of the original do not reach it.",
    )


@strawberry.type(description="A job was submitted to run the pipeline.")
class RunPipelinePayload:
    job_id: strawberry.Private[UUID]
    run_id: strawberry.Private[UUID | None]
    target_dataset_id: strawberry.Private[UUID | None]
    job: Annotated["Job", strawberry.lazy("graph.jobs.types")] = one(
        jobs.by_id, key="job_id", description="The job: TRAIN if the pipeline trains, else PROCESS. Follow it with `jobEvents`."
    )
    run: Annotated["Run", strawberry.lazy("graph.experiments.types")] | None = one(
        runs.by_id, key="run_id", description="The run, if the pipeline trains. Follow it with `runMetrics`."
    )
    target_dataset: Annotated["Dataset", strawberry.lazy("graph.datasets.types")] | None = one(
        datasets.by_id, key="target_dataset_id", description="The dataset that gets a new version, if the pipeline does not train."
    )


CreatePipelineResult = Annotated[
    CreatePipelinePayload | NameTaken | InvalidInput,
    strawberry.union("CreatePipelineResult", description="The possible results of `createPipeline`."),
]
UpdatePipelineResult = Annotated[
    UpdatePipelinePayload | NotFound | NameTaken | InvalidInput | Conflict | WrongState,
    strawberry.union("UpdatePipelineResult", description="The possible results of `updatePipeline`."),
]
CopyPipelineResult = Annotated[
    CopyPipelinePayload | NotFound | NameTaken | InvalidInput | Conflict,
    strawberry.union("CopyPipelineResult", description="The possible results of `copyPipeline`."),
]
RunPipelineResult = Annotated[
    RunPipelinePayload | NotFound | InvalidInput | WrongState | Conflict | QuotaExceeded | InsufficientCredits,
    strawberry.union("RunPipelineResult", description="The possible results of `runPipeline`."),
]


@strawberry.type
class PipelineMutations:
    @mutation(
        description="Create a pipeline. Unknown steps, wrong parameters, missing inputs and cycles are all reported with their paths."
    )
    async def create_pipeline(
        self, info: Info, input: Annotated[CreatePipelineInput, strawberry.argument(description="The pipeline to create.")]
    ) -> CreatePipelineResult:
        new_pipeline = pipelines.NewPipeline(
            name=input.name,
            description=input.description,
            modality=input.modality,
            definition=input.definition.to_document(),
            is_template=input.is_template,
            owner_id=owner_key(input.owner_id),
        )
        async with info.context.work() as work:
            pipeline_id = await pipelines.create(work, new_pipeline)
        return CreatePipelinePayload(pipeline_id=pipeline_id)

    @mutation(description="Change a pipeline: its name, description, definition, status or whether it is a template.")
    async def update_pipeline(
        self, info: Info, input: Annotated[UpdatePipelineInput, strawberry.argument(description="The changes.")]
    ) -> UpdatePipelineResult:
        async with info.context.work() as work:
            pipeline_id = await pipelines.update(work, decode("pipeline", input.id), input.expected_version, input.changes())
        return UpdatePipelinePayload(pipeline_id=pipeline_id)

    @mutation(
        description="Copy a pipeline into your account or a team's: to change it, or to run a template that ships. Its task is kept, its runs are not."
    )
    async def copy_pipeline(
        self, info: Info, input: Annotated[CopyPipelineInput, strawberry.argument(description="What to copy.")]
    ) -> CopyPipelineResult:
        pipeline_id, owner_id = decode("pipeline", input.id), owner_key(input.owner_id)
        async with info.context.work() as work:
            copy_id = await pipelines.copy(work, pipeline_id, input.name, owner_id, input.idempotency_key)
        return CopyPipelinePayload(pipeline_id=copy_id)

    @mutation(
        scope=Scope.RUN,
        metadata=costs(JOB),
        description="Run a pipeline on a dataset version. One that trains records a run and makes a model version; any other makes a new dataset version.",
    )
    async def run_pipeline(
        self, info: Info, input: Annotated[RunPipelineInput, strawberry.argument(description="The pipeline and what to run it on.")]
    ) -> RunPipelineResult:
        request = input.to_request()
        async with info.context.work() as work:
            started = await pipelines.run(work, request)
        return RunPipelinePayload(job_id=started.job_id, run_id=started.run_id, target_dataset_id=started.target_dataset_id)
