"""Mutations that create, update and delete datasets, and upload files."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import strawberry
from strawberry import ID

from db.queries import datasets as dataset_queries
from db.queries import jobs, versions
from db.services import datasets, uploads
from graph.core.context import Info
from graph.core.costs import JOB, PRESIGN, costs
from graph.core.edges import one
from graph.core.ids import decode, owner_key
from graph.core.permissions import mutation
from graph.core.problems import Conflict, InvalidInput, NameTaken, NotFound, QuotaExceeded, UploadMismatch, WrongState
from graph.datasets.files import Upload
from graph.datasets.inputs import CompleteUploadInput, CreateDatasetInput, DeleteDatasetInput, RequestUploadInput, UpdateDatasetInput
from graph.datasets.types import Dataset, DatasetVersion

if TYPE_CHECKING:
    from graph.jobs.types import Job


@strawberry.type(description="The dataset was created.")
class CreateDatasetPayload:
    dataset_id: strawberry.Private[UUID]
    dataset: Dataset = one(dataset_queries.by_id, key="dataset_id", description="The new dataset.")


@strawberry.type(description="The dataset was changed.")
class UpdateDatasetPayload:
    dataset_id: strawberry.Private[UUID]
    dataset: Dataset = one(dataset_queries.by_id, key="dataset_id", description="The updated dataset.")


@strawberry.type(
    description="The dataset was deleted. It is absent from lists and lookups and its name is free, but it is still reachable through edges."
)
class DeleteDatasetPayload:
    deleted_id: ID = strawberry.field(description="The id of the deleted dataset, to remove it from caches.")


@strawberry.type(description="The upload can begin.")
class RequestUploadPayload:
    upload: Upload = strawberry.field(description="Where and how to send the file.")


@strawberry.type(description="The file has arrived, and a job was submitted to read it.")
class CompleteUploadPayload:
    version_id: strawberry.Private[UUID]
    job_id: strawberry.Private[UUID]
    version: DatasetVersion = one(versions.by_id, key="version_id", description="The version that the file becomes.")
    job: Annotated[Job, strawberry.lazy("graph.jobs.types")] = one(
        jobs.by_id, key="job_id", description="The INGEST job; follow it with `jobEvents`."
    )


CreateDatasetResult = Annotated[
    CreateDatasetPayload | NameTaken | InvalidInput,
    strawberry.union("CreateDatasetResult", description="The possible results of `createDataset`."),
]
UpdateDatasetResult = Annotated[
    UpdateDatasetPayload | NotFound | NameTaken | InvalidInput,
    strawberry.union("UpdateDatasetResult", description="The possible results of `updateDataset`."),
]
DeleteDatasetResult = Annotated[
    DeleteDatasetPayload | NotFound | WrongState,
    strawberry.union("DeleteDatasetResult", description="The possible results of `deleteDataset`."),
]
RequestUploadResult = Annotated[
    RequestUploadPayload | NotFound | InvalidInput | Conflict | QuotaExceeded,
    strawberry.union("RequestUploadResult", description="The possible results of `requestUpload`."),
]
CompleteUploadResult = Annotated[
    CompleteUploadPayload | NotFound | InvalidInput | UploadMismatch | WrongState | Conflict | QuotaExceeded,
    strawberry.union("CompleteUploadResult", description="The possible results of `completeUpload`."),
]


@strawberry.type
class DatasetMutations:
    @mutation(description="Create an empty dataset.")
    async def create_dataset(
        self, info: Info, input: Annotated[CreateDatasetInput, strawberry.argument(description="The dataset to create.")]
    ) -> CreateDatasetResult:
        new_dataset = datasets.NewDataset(
            name=input.name,
            description=input.description,
            modality=input.modality,
            problem_type=input.problem_type,
            target_column=input.target_column,
            metadata=input.metadata,
            owner_id=owner_key(input.owner_id),
        )
        async with info.context.work() as work:
            dataset_id = await datasets.create(work, new_dataset)
        return CreateDatasetPayload(dataset_id=dataset_id)

    @mutation(description="Change the name, description, problem type, target column or metadata of a dataset.")
    async def update_dataset(
        self, info: Info, input: Annotated[UpdateDatasetInput, strawberry.argument(description="The changes.")]
    ) -> UpdateDatasetResult:
        async with info.context.work() as work:
            dataset_id = await datasets.update(work, decode("dataset", input.id), input.changes())
        return UpdateDatasetPayload(dataset_id=dataset_id)

    @mutation(
        description="Delete a dataset. What was made from it is kept, and edges still lead to the dataset and its versions, but no longer to their"
        " files and rows."
    )
    async def delete_dataset(
        self, info: Info, input: Annotated[DeleteDatasetInput, strawberry.argument(description="The dataset to delete.")]
    ) -> DeleteDatasetResult:
        async with info.context.work() as work:
            await datasets.delete(work, decode("dataset", input.id))
        return DeleteDatasetPayload(deleted_id=input.id)

    @mutation(
        metadata=costs(PRESIGN),
        description="Request a presigned URL for a file. Creates the next version of the dataset, in status UPLOADING.",
    )
    async def request_upload(
        self, info: Info, input: Annotated[RequestUploadInput, strawberry.argument(description="The file to upload.")]
    ) -> RequestUploadResult:
        new_upload = uploads.NewUpload(
            dataset_id=decode("dataset", input.dataset_id),
            filename=input.filename,
            size_bytes=input.size_bytes,
            sha256=input.sha256,
            content_type=input.content_type,
            label=input.label,
            reading=None if input.reading is None else input.reading.options(),
            idempotency_key=input.idempotency_key,
        )
        async with info.context.work() as work:
            row = await uploads.request(work, new_upload)
        # The URL of a repeated call expires when the first one does.
        expires_in = max(1, int((row.expires_at - datetime.now(UTC)).total_seconds()))
        url, headers = await info.context.objects.presign_put(row.object_key, row.size_bytes, row.content_type, row.sha256, expires_in)
        return RequestUploadPayload(upload=Upload.of(row, url, headers))

    @mutation(
        metadata=costs(JOB),
        description="Confirm that the file has been sent. The file is verified against the announced size and checksum, and a job is submitted to read it.",
    )
    async def complete_upload(
        self, info: Info, input: Annotated[CompleteUploadInput, strawberry.argument(description="The upload.")]
    ) -> CompleteUploadResult:
        context = info.context
        version_id, job_id = await uploads.complete(
            context.database, context.objects, context.signed_in_viewer, decode("upload", input.upload_id), input.idempotency_key
        )
        return CompleteUploadPayload(version_id=version_id, job_id=job_id)
