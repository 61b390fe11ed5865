"""What lists of datasets can be narrowed and ordered by, and what the mutations on datasets take."""

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
    modality: list[Modality] | None = strawberry.field(description="What kind of data it holds.")
    problem_type: list[ProblemType] | None = strawberry.field(description="What models on it are to do.")
    source: list[DatasetSource] | None = strawberry.field(description="How its data came to be here.")
    created_at: DateTimeFilter | None = strawberry.field(description="When it was made.")
    owner_id: ID | None = reference("user", description="Whose it is; of use to admins, who see everybody's.")


DatasetOrder = order_input(
    "Dataset",
    "datasets",
    created_at="When it was made.",
    updated_at="When it was last changed.",
    name="Its name, upper and lower case alike.",
)


@strawberry.input(description="A dataset to be made. It starts empty: bring a file with `requestUpload`.")
class CreateDatasetInput:
    name: str = strawberry.field(description="Unique among your datasets, whatever the case; 1 to 200 characters.")
    description: str | None = strawberry.field(description="What is in it, for people.")
    modality: Modality = strawberry.field(default=Modality.TABULAR, description="What kind of data it will hold.")
    problem_type: ProblemType | None = strawberry.field(description="What models on it are to do, where that is known.")
    target_column: str | None = strawberry.field(description="The column that models are to predict, unless a training step names another.")
    metadata: JSON | None = strawberry.field(description="An object with whatever you want to keep beside it.")


@strawberry.input(description="Changes to a dataset. What is left out stays; null clears it.")
class UpdateDatasetInput:
    id: ID = strawberry.field(description="The dataset.")
    name: Maybe[str | None] = strawberry.field(description="A new name; it cannot be cleared.")
    description: Maybe[str | None] = strawberry.field(description="What is in it, for people.")
    problem_type: Maybe[ProblemType | None] = strawberry.field(description="What models on it are to do.")
    target_column: Maybe[str | None] = strawberry.field(description="The column that models are to predict.")
    metadata: Maybe[JSON | None] = strawberry.field(description="Replaces the whole object; null makes it empty.")

    def changes(self) -> dict[str, Any]:
        """The fields that were given, None where one is to be cleared."""
        fields = {
            "name": self.name,
            "description": self.description,
            "problem_type": self.problem_type,
            "target_column": self.target_column,
            "metadata": self.metadata,
        }
        return {name: change.value for name, change in fields.items() if change is not None}


@strawberry.input(description="A dataset to be deleted.")
class DeleteDatasetInput:
    id: ID = strawberry.field(description="The dataset.")


@strawberry.input(description="A file to be uploaded as the next version of a dataset.")
class RequestUploadInput:
    dataset_id: ID = strawberry.field(description="The dataset that gets the version.")
    filename: str = strawberry.field(description="The file's name, for people; the format is found by looking into the file.")
    size_bytes: BigInt = strawberry.field(description="Its exact size; the URL takes a file of this size only.")
    sha256: str | None = strawberry.field(description="Its SHA-256 in hexadecimal, when you know it; what arrives is checked against it.")
    content_type: str | None = strawberry.field(
        description="Its media type, sent with the file; `application/octet-stream` when not given."
    )
    label: str | None = strawberry.field(description="A name for the version, such as `after cleaning`.")
    idempotency_key: str | None = strawberry.field(
        description="The same key with the same input answers what the first call answered; with another input it is a Conflict. Kept for a day."
    )


@strawberry.input(description="An upload whose file has been sent.")
class CompleteUploadInput:
    upload_id: ID = strawberry.field(description="The upload, as `requestUpload` answered it.")
    idempotency_key: str | None = strawberry.field(
        description="The same key with the same input answers what the first call answered; with another input it is a Conflict. Kept for a day."
    )
