"""Filters and orders of lists of datasets, and inputs of mutations on datasets."""

from __future__ import annotations

from typing import Any

import strawberry
from strawberry import ID, Maybe

from graph.core.filters import DateTimeFilter, Filter, StringFilter, order_input, reference
from graph.core.scalars import JSON, BigInt
from graph.datasets.enums import DatasetSource, Modality, ProblemType


@strawberry.input(description="Conditions on datasets, all of which must hold. A list of values means any of them.")
class DatasetFilter(Filter):
    name: StringFilter | None = strawberry.field(description="The dataset's name.")
    modality: list[Modality] | None = strawberry.field(description="The kind of its data.")
    problem_type: list[ProblemType] | None = strawberry.field(description="The task of models trained on it.")
    source: list[DatasetSource] | None = strawberry.field(description="The origin of its data.")
    created_at: DateTimeFilter | None = strawberry.field(description="When it was created.")
    owner_id: ID | None = reference("user", description="The owner; useful to admins, who see everybody's.")


DatasetOrder = order_input(
    "Dataset",
    "datasets",
    created_at="When it was created.",
    updated_at="When it was last changed.",
    name="Its name, ignoring case.",
)


@strawberry.input(description="The dataset to create. It starts empty: upload a file with `requestUpload`.")
class CreateDatasetInput:
    name: str = strawberry.field(description="Unique among your datasets, ignoring case; 1 to 200 characters.")
    description: str | None = strawberry.field(description="Free text that describes its content.")
    modality: Modality = strawberry.field(
        default=Modality.TABULAR,
        description="The kind of data that it is for; only TABULAR can be read at present, any other is InvalidInput.",
    )
    problem_type: ProblemType | None = strawberry.field(description="The task of models trained on it, if known.")
    target_column: str | None = strawberry.field(description="The column that models predict, unless a training step names another.")
    metadata: JSON | None = strawberry.field(description="An object for your own use.")


@strawberry.input(description="Changes to a dataset. Omitted fields stay unchanged; null clears a field.")
class UpdateDatasetInput:
    id: ID = strawberry.field(description="The dataset.")
    name: Maybe[str | None] = strawberry.field(description="A new name; it cannot be cleared.")
    description: Maybe[str | None] = strawberry.field(description="Free text that describes its content.")
    problem_type: Maybe[ProblemType | None] = strawberry.field(description="The task of models trained on it.")
    target_column: Maybe[str | None] = strawberry.field(description="The column that models predict.")
    metadata: Maybe[JSON | None] = strawberry.field(description="Replaces the whole object; null makes it empty.")

    def changes(self) -> dict[str, Any]:
        """Return the given fields; None clears one."""
        fields = {
            "name": self.name,
            "description": self.description,
            "problem_type": self.problem_type,
            "target_column": self.target_column,
            "metadata": self.metadata,
        }
        return {name: change.value for name, change in fields.items() if change is not None}


@strawberry.input(description="The dataset to delete.")
class DeleteDatasetInput:
    id: ID = strawberry.field(description="The dataset.")


@strawberry.input(description="A file to upload as the next version of a dataset.")
class RequestUploadInput:
    dataset_id: ID = strawberry.field(description="The dataset that gets the version.")
    filename: str = strawberry.field(
        description="The name of the file, for display; the format is detected from its content. A name with the extension of a format that is"
        " not available yet is InvalidInput."
    )
    size_bytes: BigInt = strawberry.field(description="Its exact size; the URL accepts only a file of this size.")
    sha256: str | None = strawberry.field(description="Its SHA-256 in hexadecimal, if known; the uploaded file is verified against it.")
    content_type: str | None = strawberry.field(description="Its media type, sent with the file; `application/octet-stream` by default.")
    label: str | None = strawberry.field(description="A name for the version, such as `after cleaning`.")
    idempotency_key: str | None = strawberry.field(
        description="Makes retries safe: the same key with the same input returns the result of the first call; with another input it is a Conflict. Kept for a day."
    )


@strawberry.input(description="An upload whose file has been sent.")
class CompleteUploadInput:
    upload_id: ID = strawberry.field(description="The id of the upload, as returned by `requestUpload`.")
    idempotency_key: str | None = strawberry.field(
        description="Makes retries safe: the same key with the same input returns the result of the first call; with another input it is a Conflict. Kept for a day."
    )
