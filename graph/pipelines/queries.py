"""Root queries for pipelines and for the available steps."""

from typing import Annotated

import strawberry
from strawberry import ID

from db.errors import NotFound, Unsupported, WrongState
from db.queries import pipelines
from db.services import pipelines as pipeline_services
from db.services.ml_tasks import TASKS
from graph.core.context import Info
from graph.core.costs import COMPUTED, costs
from graph.core.edges import listing, lookup
from graph.core.errors import BadUserInput
from graph.core.ids import lookup_key
from graph.core.paging import Connection
from graph.core.permissions import Scope, query
from graph.core.problems import NotFound as NotFoundProblem
from graph.core.problems import sent_texts
from graph.datasets.enums import Modality
from graph.pipelines.comparison import SnapshotComparison, compare
from graph.pipelines.inputs import PipelineFilter, PipelineOrder, RunPipelineInput
from graph.pipelines.types import CostEstimate, MlTask, Pipeline, PipelineSnapshot, StepDefinition


@strawberry.type
class PipelineQueries:
    pipeline: Pipeline | None = lookup(pipelines.live_by_id, prefix="pipeline", description="A pipeline by its id.")
    pipelines: Connection[Pipeline] = listing(
        pipelines.listing, filtered_by=PipelineFilter, ordered_by=PipelineOrder, description="Your pipelines; for admins, everybody's."
    )

    @query(metadata=costs(entries=30), description="The steps available to pipelines, in the order of their usual use.")
    async def step_definitions(
        self,
        info: Info,
        modality: Annotated[Modality | None, strawberry.argument(description="Return only steps that process this kind of data.")] = None,
    ) -> list[StepDefinition]:
        steps = [StepDefinition.of(row) for row in await pipelines.steps(info.context.database)]
        return [step for step in steps if not modality or modality in step.modalities]

    @query(
        metadata=costs(entries=len(TASKS)),
        description="The tasks of machine learning that the steps can do, each with templates to copy and run: a place to begin.",
    )
    def ml_tasks(
        self, modality: Annotated[Modality | None, strawberry.argument(description="Return only tasks on this kind of data.")] = None
    ) -> list[MlTask]:
        return [MlTask.of(task) for task in TASKS.values() if modality in (None, task.modality)]

    @query(
        metadata=costs(COMPUTED),
        description="Compare two snapshots, of one pipeline or of two: the nodes, parameters and links that differ. Null if one of them does not exist or you"
        " may not see it.",
    )
    async def compare_snapshots(
        self,
        info: Info,
        from_: Annotated[ID, strawberry.argument(name="from", description="The first snapshot, such as the older one.")],
        to: Annotated[ID, strawberry.argument(description="The second snapshot.")],
    ) -> SnapshotComparison | None:
        keys = [lookup_key(PipelineSnapshot.prefix, text) for text in (from_, to)]
        if None in keys:
            return None
        before, after = await info.context.loaders.one(pipelines.snapshot_by_id, PipelineSnapshot.of).load_many(keys)
        return None if before is None or after is None else await compare(info, before, after)

    @query(
        scope=Scope.BILLING,
        metadata=costs(COMPUTED),
        description="What `runPipeline` would cost with this input. Nothing is written or held; what it would refuse is an error here, with the same message.",
    )
    async def estimate_cost(
        self, info: Info, input: Annotated[RunPipelineInput, strawberry.argument(description="The pipeline and what it would be run on.")]
    ) -> CostEstimate:
        try:
            async with info.context.work() as work:
                found = await pipeline_services.estimate_cost(work, input.to_request())
        except NotFound as error:  # with the id as it was sent, as the problem of `runPipeline` has it
            raise NotFound(NotFoundProblem.of(error, *sent_texts(input)).id) from None
        except (WrongState, Unsupported) as error:
            raise BadUserInput(str(error)) from None
        is_affordable = found.available >= found.credits
        return CostEstimate(credits=found.credits, available=found.available, is_affordable=is_affordable, basis=found.basis)
