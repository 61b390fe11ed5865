"""Mutations that make and delete explanations."""

from typing import Annotated
from uuid import UUID

import strawberry
from strawberry import ID

from db.queries import explanations as explanation_queries
from db.queries import jobs
from db.services import explanations
from graph.core.context import Info
from graph.core.costs import JOB, costs
from graph.core.edges import one
from graph.core.ids import decode, decode_optional
from graph.core.permissions import Scope, mutation
from graph.core.problems import Conflict, InsufficientCredits, InvalidInput, NotFound, QuotaExceeded, Unsupported, WrongState
from graph.explanations.inputs import CreateExplanationInput, DeleteExplanationInput
from graph.explanations.types import Explanation
from graph.jobs.types import Job


@strawberry.type(description="A job was submitted that makes the explanation.")
class CreateExplanationPayload:
    explanation_id: strawberry.Private[UUID]
    job_id: strawberry.Private[UUID]
    explanation: Explanation = one(
        explanation_queries.by_id, key="explanation_id", description="The explanation; it tells something once its job has completed."
    )
    job: Job = one(jobs.by_id, key="job_id", description="The EXPLAIN job; follow it with `jobEvents`.")


@strawberry.type(description="The explanation, its data and its plots were deleted.")
class DeleteExplanationPayload:
    deleted_id: ID = strawberry.field(description="The id of the deleted explanation, to remove it from caches.")


CreateExplanationResult = Annotated[
    CreateExplanationPayload | NotFound | InvalidInput | WrongState | Unsupported | Conflict | QuotaExceeded | InsufficientCredits,
    strawberry.union("CreateExplanationResult", description="The possible results of `createExplanation`."),
]
DeleteExplanationResult = Annotated[
    DeleteExplanationPayload | NotFound | WrongState,
    strawberry.union("DeleteExplanationResult", description="The possible results of `deleteExplanation`."),
]


@strawberry.type
class ExplanationMutations:
    @mutation(
        scope=Scope.RUN,
        metadata=costs(JOB),
        description="Explain what the predictions of a model version depend on: by which columns on many rows, or by which parts of one item.",
    )
    async def create_explanation(
        self, info: Info, input: Annotated[CreateExplanationInput, strawberry.argument(description="What to explain, and how.")]
    ) -> CreateExplanationResult:
        context = info.context
        new_explanation = explanations.NewExplanation(
            model_version_id=decode("mversion", input.model_version_id),
            method=input.method,
            dataset_version_id=decode_optional("version", input.dataset_version_id),
            item_id=decode_optional("item", input.item_id),
            rows=input.rows,
            max_rows=input.max_rows,
            features=input.features,
            class_label=input.class_label,
            seed=input.seed,
            idempotency_key=input.idempotency_key,
        )
        explanation_id, job_id = await explanations.create(context.database, context.objects, context.signed_in_viewer, new_explanation)
        return CreateExplanationPayload(explanation_id=explanation_id, job_id=job_id)

    @mutation(description="Delete an explanation, its data and its plots. One whose job has not ended is WrongState: cancel the job first.")
    async def delete_explanation(
        self, info: Info, input: Annotated[DeleteExplanationInput, strawberry.argument(description="The explanation to delete.")]
    ) -> DeleteExplanationResult:
        async with info.context.work() as work:
            await explanations.remove(work, decode("explanation", input.id))
        return DeleteExplanationPayload(deleted_id=input.id)
