"""Mutations that create, update and delete datasets, and upload files."""

from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import strawberry
from strawberry import ID

from db.errors import Unavailable
from db.queries import datasets as dataset_queries
from db.queries import jobs, versions
from db.services import datasets, deletions, upload_parts, uploads
from db.services.upload_parts import SentPart
from graph.core.context import Info
from graph.core.costs import JOB, PRESIGN, costs
from graph.core.edges import one
from graph.core.ids import decode, owner_key
from graph.core.permissions import mutation
from graph.core.problems import Conflict, InvalidInput, NameTaken, NotFound, QuotaExceeded, UploadMismatch, WrongState
from graph.datasets.files import Upload
from graph.datasets.inputs import (
    AbortUploadInput,
    CompleteUploadInput,
    CreateDatasetInput,
    DeleteDatasetInput,
    RequestUploadInput,
    UpdateDatasetInput,
)
from graph.datasets.profiling import Profiling
from graph.datasets.row_comparison import RowComparisons
from graph.datasets.schedules import Schedules
from graph.datasets.sources import Sources
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
    restorable_until: datetime = strawberry.field(description="Until when `restore` brings it back.")


@strawberry.type(description="The upload can begin.")
class RequestUploadPayload:
    duplicate_of_id: strawberry.Private[UUID | None]
    upload: Upload = strawberry.field(description="Where and how to send the file.")
    duplicate_of: DatasetVersion | None = one(
        versions.by_id,
        key="duplicate_of_id",
        description="A warning: a READY version of the same owner that was read from a file with the announced SHA-256 and size. The upload goes on.",
    )


@strawberry.type(description="The upload was given up, and what had arrived of it is removed.")
class AbortUploadPayload:
    version_id: strawberry.Private[UUID]
    version: DatasetVersion = one(versions.by_id, key="version_id", description="The version that the file was to become, now FAILED.")


@strawberry.type(description="The file has arrived, and a job was submitted to read it.")
class CompleteUploadPayload:
    version_id: strawberry.Private[UUID]
    job_id: strawberry.Private[UUID]
    version: DatasetVersion = one(versions.by_id, key="version_id", description="The version that the file becomes.")
    job: Annotated["Job", strawberry.lazy("graph.jobs.types")] = one(
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
AbortUploadResult = Annotated[
    AbortUploadPayload | NotFound | WrongState,
    strawberry.union("AbortUploadResult", description="The possible results of `abortUpload`."),
]


@strawberry.type
class DatasetMutations(Sources, Schedules, Profiling, RowComparisons):
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
            schema_policy=input.schema_policy,
            metadata=input.metadata,
            owner_id=owner_key(input.owner_id),
        )
        async with info.context.work() as work:
            dataset_id = await datasets.create(work, new_dataset)
        return CreateDatasetPayload(dataset_id=dataset_id)

    @mutation(description="Change the name, description, problem type, target column, schema policy or metadata of a dataset.")
    async def update_dataset(
        self, info: Info, input: Annotated[UpdateDatasetInput, strawberry.argument(description="The changes.")]
    ) -> UpdateDatasetResult:
        async with info.context.work() as work:
            dataset_id = await datasets.update(work, decode("dataset", input.id), input.changes())
        return UpdateDatasetPayload(dataset_id=dataset_id)

    @mutation(
        description="Delete a dataset, unless a job or study on it has not ended or a model version with the alias `production` was trained on it. What was made from it"
        " is kept, and edges still lead to the dataset and its versions, but no longer to their"
        " files and rows."
    )
    async def delete_dataset(
        self, info: Info, input: Annotated[DeleteDatasetInput, strawberry.argument(description="The dataset to delete.")]
    ) -> DeleteDatasetResult:
        async with info.context.work() as work:
            restorable_until = await deletions.delete(work, "dataset", decode("dataset", input.id))
        return DeleteDatasetPayload(deleted_id=input.id, restorable_until=restorable_until)

    @mutation(
        metadata=costs(PRESIGN),
        description="Request a presigned URL for a file, or one for each of its parts. Creates the next version of the dataset, in status UPLOADING.",
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
            multipart=input.multipart,
            idempotency_key=input.idempotency_key,
        )
        context = info.context
        async with context.work() as work:
            requested = await uploads.request(work, new_upload)
        row = await upload_parts.begin(context.database, context.objects, context.signed_in_viewer, requested.row)
        return RequestUploadPayload(upload=Upload.of(row), duplicate_of_id=requested.duplicate_of_id)

    @mutation(
        metadata=costs(JOB),
        description="Confirm that the file has been sent. The file is verified against the announced size and checksum, and a job is submitted to read it.",
    )
    async def complete_upload(
        self, info: Info, input: Annotated[CompleteUploadInput, strawberry.argument(description="The upload.")]
    ) -> CompleteUploadResult:
        context = info.context
        sent = None if input.parts is None else [SentPart(part.number, part.etag) for part in input.parts]
        version_id, job_id = await uploads.complete(
            context.database, context.objects, context.signed_in_viewer, decode("upload", input.upload_id), input.idempotency_key, sent
        )
        return CompleteUploadPayload(version_id=version_id, job_id=job_id)

    @mutation(
        description="Give up an upload that is not completed. Its version becomes FAILED, and the storage that it reserved is free again."
    )
    async def abort_upload(
        self, info: Info, input: Annotated[AbortUploadInput, strawberry.argument(description="The upload.")]
    ) -> AbortUploadResult:
        async with info.context.work() as work:
            row = await uploads.abort(work, decode("upload", input.upload_id))
        with suppress(Unavailable):  # what stays is collected as an orphan, and its parts when the account is purged
            await upload_parts.remove(info.context.objects, row)
        return AbortUploadPayload(version_id=row.version_id)
