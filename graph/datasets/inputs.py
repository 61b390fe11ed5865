"""Filters and orders of lists of datasets, and inputs of mutations on datasets."""

from typing import Any

import strawberry
from strawberry import ID, Maybe

from db.services.reading_options import ReadingOptions
from graph.core.filters import DateTimeFilter, Filter, StringFilter, order_input, reference
from graph.core.idempotency import IDEMPOTENCY_KEY
from graph.core.scalars import JSON, BigInt
from graph.datasets.enums import ColumnType, DatasetSource, Modality, ProblemType, SchemaPolicy
from graph.tags.filters import tagged_with


@strawberry.input(description="Conditions on datasets, all of which must hold. A list of values means any of them.")
class DatasetFilter(Filter):
    name: StringFilter | None = strawberry.field(description="The dataset's name.")
    modality: list[Modality] | None = strawberry.field(description="The kind of its data.")
    problem_type: list[ProblemType] | None = strawberry.field(description="The task of models trained on it.")
    source: list[DatasetSource] | None = strawberry.field(description="The origin of its data.")
    tags: list[ID] | None = tagged_with()
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
    name: str = strawberry.field(description="Unique among the owner's datasets, ignoring case; 1 to 200 characters.")
    description: str | None = strawberry.field(description="Free text that describes its content.")
    modality: Modality = strawberry.field(
        default=Modality.TABULAR,
        description="The kind of data that it is for, which decides what files it takes and how they are read.",
    )
    problem_type: ProblemType | None = strawberry.field(description="The task of models trained on it, if known.")
    target_column: str | None = strawberry.field(description="The column that models predict, unless a training step names another.")
    schema_policy: SchemaPolicy = strawberry.field(
        default=SchemaPolicy.WARN, description="What happens to a version that breaks the accepted schema."
    )
    metadata: JSON | None = strawberry.field(description="An object for your own use.")
    owner_id: ID | None = strawberry.field(
        default=None, description="Who is to own it: a team in which you are MEMBER or ADMIN; you if left out."
    )


@strawberry.input(description="Changes to a dataset. Omitted fields stay unchanged; null clears a field.")
class UpdateDatasetInput:
    id: ID = strawberry.field(description="The dataset.")
    name: Maybe[str | None] = strawberry.field(description="A new name; it cannot be cleared.")
    description: Maybe[str | None] = strawberry.field(description="Free text that describes its content.")
    problem_type: Maybe[ProblemType | None] = strawberry.field(description="The task of models trained on it.")
    target_column: Maybe[str | None] = strawberry.field(description="The column that models predict.")
    schema_policy: Maybe[SchemaPolicy | None] = strawberry.field(
        description="What happens to later versions that break the accepted schema; it cannot be cleared."
    )
    metadata: Maybe[JSON | None] = strawberry.field(description="Replaces the whole object; null makes it empty.")

    def changes(self) -> dict[str, Any]:
        """Return the given fields; None clears one."""
        fields = {
            "name": self.name,
            "description": self.description,
            "problem_type": self.problem_type,
            "target_column": self.target_column,
            "schema_policy": self.schema_policy,
            "metadata": self.metadata,
        }
        return {name: change.value for name, change in fields.items() if change is not None}


@strawberry.input(description="The dataset to delete.")
class DeleteDatasetInput:
    id: ID = strawberry.field(description="The dataset.")


@strawberry.input(description="The type of one column.")
class ColumnTypeInput:
    column: str = strawberry.field(description="The column's name in the file.")
    type: ColumnType = strawberry.field(
        description="Its type: any but JSON and BINARY. Cells that do not fit become missing, each an issue."
    )


@strawberry.input(
    description="How to read a file, where it is known. What is left out is detected, and what was assumed is listed in `issues`."
)
class ReadingOptionsInput:
    delimiter: str | None = strawberry.field(description="The character between the fields of delimited text, such as `;`.")
    decimal_mark: str | None = strawberry.field(
        description="`.` or `,` in the numbers of delimited text and of text cells; the other one may stand between groups of three digits."
    )
    encoding: str | None = strawberry.field(description="The encoding of text, such as `utf-8`, `cp1252` or `shift_jis`.")
    header_row: int | None = strawberry.field(
        description="For delimited text and workbooks: the row with the column names, 1 to 200, not counting blank rows; rows before it are"
        " skipped. 0: no row has names. Then every row is data, the first one too, whatever it looks like, and the columns are named"
        " `column_1`, `column_2` and so on. If it is left out, the first rows decide, and the issue `NO_HEADER` says that they look like data."
    )
    sheet: str | None = strawberry.field(description="The sheet of a workbook; by default the first visible one that has cells.")
    missing_words: list[str] | None = strawberry.field(
        description="The words that mean a missing value, in place of the usual ones, such as `NA`. An empty cell is missing in any case."
    )
    column_types: list[ColumnTypeInput] | None = strawberry.field(
        description="The types of columns, instead of those that their values suggest."
    )
    sample_rate: float | None = strawberry.field(
        description="Of signals: the samples per second of files that do not say it; a rate in a file counts for more."
    )
    text_lines: bool = strawberry.field(
        default=False,
        description="Of texts: whether each line that is not blank is a text, in a file that is uploaded alone. In an archive each file is one.",
    )

    def options(self) -> ReadingOptions:
        types = tuple((entry.column, entry.type) for entry in self.column_types or ())
        return ReadingOptions(
            self.delimiter,
            self.decimal_mark,
            self.encoding,
            self.header_row,
            self.sheet,
            self.missing_words,
            types,
            self.sample_rate,
            self.text_lines,
        )


@strawberry.input(description="A file to upload as the next version of a dataset.")
class RequestUploadInput:
    dataset_id: ID = strawberry.field(description="The dataset that gets the version.")
    filename: str = strawberry.field(
        description="The name of the file, for display; the format is detected from its content. A name with the extension of a file that a"
        " dataset of this modality does not take is InvalidInput."
    )
    size_bytes: BigInt = strawberry.field(description="Its exact size; the URL accepts only a file of this size.")
    sha256: str | None = strawberry.field(description="Its SHA-256 in hexadecimal, if known; the uploaded file is verified against it.")
    content_type: str | None = strawberry.field(description="Its media type, sent with the file; `application/octet-stream` by default.")
    label: str | None = strawberry.field(description="A name for the version, such as `after cleaning`.")
    reading: ReadingOptionsInput | None = strawberry.field(
        description="How to read the file, where detection would fail; a retry keeps it."
    )
    multipart: bool = strawberry.field(
        default=False,
        description="Send the file in parts, each to a URL of its own, in any order and again after a break: required above 5 GiB, and good for"
        " large files.",
    )
    idempotency_key: str | None = strawberry.field(description=IDEMPOTENCY_KEY)


@strawberry.input(description="A part that has been sent.")
class UploadedPartInput:
    number: int = strawberry.field(description="The number of the part.")
    etag: str = strawberry.field(description="The `ETag` that the object store answered.")


@strawberry.input(description="An upload to give up.")
class AbortUploadInput:
    upload_id: ID = strawberry.field(description="The id of the upload, as returned by `requestUpload`.")


@strawberry.input(description="An upload whose file has been sent.")
class CompleteUploadInput:
    upload_id: ID = strawberry.field(description="The id of the upload, as returned by `requestUpload`.")
    parts: list[UploadedPartInput] | None = strawberry.field(
        default=None,
        description="All parts of an upload in parts, in order, to be compared with those that have arrived. Not needed: the store knows them.",
    )
    idempotency_key: str | None = strawberry.field(description=IDEMPOTENCY_KEY)
