"""Mutations that make and delete exports."""

from functools import partial
from typing import Annotated, Any
from uuid import UUID

import strawberry
from strawberry import ID

from db.queries import exports as export_queries
from db.queries import jobs
from db.queries.list_exports import LISTS
from db.services import exports, list_exports
from graph.core.context import Info
from graph.core.costs import JOB, costs
from graph.core.edges import one
from graph.core.ids import decode, decode_optional, filter_id
from graph.core.permissions import Scope, mutation
from graph.core.problems import Conflict, InsufficientCredits, InvalidInput, NotFound, QuotaExceeded, Unsupported, WrongState
from graph.exports.inputs import CreateExportInput, DeleteExportInput, ExportTableInput
from graph.exports.lists import make_plan
from graph.exports.types import Export
from graph.jobs.types import Job


@strawberry.type(description="A job was submitted that makes the export.")
class CreateExportPayload:
    export_id: strawberry.Private[UUID]
    job_id: strawberry.Private[UUID]
    export: Export = one(export_queries.by_id, key="export_id", description="The export; it has files once its job has completed.")
    job: Job = one(jobs.by_id, key="job_id", description="The EXPORT job; follow it with `jobEvents`.")


@strawberry.type(
    description="The export and its files were deleted; they no longer count in the storage quota once their objects are removed."
)
class DeleteExportPayload:
    deleted_id: ID = strawberry.field(description="The id of the deleted export, to remove it from caches.")


@strawberry.type(description="A job was submitted that writes the rows of the list.")
class ExportTablePayload:
    export_id: strawberry.Private[UUID]
    job_id: strawberry.Private[UUID]
    export: Export = one(export_queries.by_id, key="export_id", description="The export; it has a file once its job has completed.")
    job: Job = one(jobs.by_id, key="job_id", description="The EXPORT_LIST job; follow it with `jobEvents`.")


CreateExportResult = Annotated[
    CreateExportPayload | NotFound | InvalidInput | WrongState | Unsupported | Conflict | QuotaExceeded | InsufficientCredits,
    strawberry.union("CreateExportResult", description="The possible results of `createExport`."),
]
ExportTableResult = Annotated[
    ExportTablePayload | NotFound | InvalidInput | Conflict | QuotaExceeded | InsufficientCredits,
    strawberry.union("ExportTableResult", description="The possible results of `exportTable`."),
]
DeleteExportResult = Annotated[
    DeleteExportPayload | NotFound | WrongState,
    strawberry.union("DeleteExportResult", description="The possible results of `deleteExport`."),
]


@strawberry.type
class ExportMutations:
    @mutation(
        scope=Scope.RUN,
        metadata=costs(JOB),
        description="Write a version in another format. Exports with equal files share their objects in the store.",
    )
    async def create_export(
        self, info: Info, input: Annotated[CreateExportInput, strawberry.argument(description="What to export, and how.")]
    ) -> CreateExportResult:
        new_export = exports.NewExport(
            format=input.format,
            dataset_version_id=decode_optional("version", input.dataset_version_id),
            model_version_id=decode_optional("mversion", input.model_version_id),
            options=input.options,
            idempotency_key=input.idempotency_key,
        )
        async with info.context.work() as work:
            export_id, job_id = await exports.create(work, new_export)
        return CreateExportPayload(export_id=export_id, job_id=job_id)

    @mutation(
        scope=Scope.RUN,
        metadata=costs(JOB),
        description="Write the rows of a list as a file, in a job: under a filter, in an order, however many they are. The rows are those that you may see"
        " when they are read, as they are then; where you lose a right meanwhile, the job fails and keeps nothing. The export is yours, not a team's. Needs"
        " the scope READ as well.",
    )
    async def export_table(
        self, info: Info, input: Annotated[ExportTableInput, strawberry.argument(description="Which rows, and how.")]
    ) -> ExportTableResult:
        parent = LISTS[input.target].parent
        new_export = list_exports.NewListExport(
            target=input.target,
            format=input.format,
            parent_id=None if input.parent_id is None else filter_id("" if parent is None else parent.prefix, input.parent_id),
            filter=input.filter,
            order_by=input.order_by,
            columns=input.columns,
            options=input.options,
            idempotency_key=input.idempotency_key,
        )
        schema: Any = info.schema
        async with info.context.work() as work:
            export_id, job_id = await list_exports.create(work, new_export, partial(make_plan, schema))
        return ExportTablePayload(export_id=export_id, job_id=job_id)

    @mutation(description="Delete an export and its files. One whose job has not ended is WrongState: cancel the job first.")
    async def delete_export(
        self, info: Info, input: Annotated[DeleteExportInput, strawberry.argument(description="The export to delete.")]
    ) -> DeleteExportResult:
        async with info.context.work() as work:
            await exports.remove(work, decode("export", input.id))
        return DeleteExportPayload(deleted_id=input.id)
