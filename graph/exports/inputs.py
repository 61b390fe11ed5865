"""Filters and orders of lists of exports, and inputs of mutations on exports."""

import strawberry
from strawberry import ID

from graph.core.filters import DateTimeFilter, Filter, order_input, reference
from graph.core.idempotency import IDEMPOTENCY_KEY
from graph.core.scalars import JSON
from graph.exports.enums import ExportFormat, ExportTarget


@strawberry.input(description="Conditions on exports, all of which must hold. A list of values means any of them.")
class ExportFilter(Filter):
    format: list[ExportFormat] | None = strawberry.field(description="The format of its files.")
    target: list[ExportTarget] | None = strawberry.field(description="The list that it has; those of versions have none.")
    created_at: DateTimeFilter | None = strawberry.field(description="When it was requested.")
    owner_id: ID | None = reference("user", description="The owner; useful to admins, who see everybody's.")


ExportOrder = order_input("Export", "exports", created_at="When it was requested.")


@strawberry.input(description="What to export, and how.")
class CreateExportInput:
    dataset_version_id: ID | None = strawberry.field(
        default=None, description="The dataset version to export, in any format but ONNX; it must be READY."
    )
    model_version_id: ID | None = strawberry.field(default=None, description="The model version to export instead; the format is ONNX.")
    format: ExportFormat = strawberry.field(description="The format of the files.")
    options: JSON | None = strawberry.field(
        description="Options of the format, as an object; what is left out has its default. ONNX has none, all other formats `columns`, a list of names, for only"
        ' these columns in this order. CSV: `delimiter` (","), `header` (true), `nullText` (""), the text for missing values; `formulaGuard`'
        " (true) puts an apostrophe before text cells and names that begin with `=`, `+`, `-`, `@`, a tab or a carriage return, which"
        ' spreadsheets would run as formulas; `compression` ("none" or "gzip"). JSON and JSONL: `nonFinite`, "null", or "text" to write NaN and'
        ' infinities as the texts "NaN", "Infinity" and "-Infinity"; `compression` as of CSV. PARQUET: `compression` ("zstd", "snappy", "gzip" or'
        ' "none"). HUGGINGFACE, PYTORCH and TENSORFLOW: `target`, a column, by default that of the dataset; `splitColumn`, whose values are the'
        " splits, by default the column `split` if it has no values but train, validation and test; `archive` (true), all files as one zip as well;"
        " HUGGINGFACE and TENSORFLOW: `shardRows` (1,000,000), the most rows of a file. HUGGINGFACE and PYTORCH of a version with items: `contents`,"
        " their files instead of their table alone, true where the format has files of such items; the target then is `label` by default, the split `split`,"
        " and `archive` false;"
        " `shardBytes` (1,000,000,000), the most bytes of items in an archive. Decimals, dates and times are ISO 8601 and decimal texts in"
        " CSV, JSON and JSONL, durations `hours:minutes:seconds`, binary"
        " values Base64. In PYTORCH they are numbers, as `columns.json` tells; TFRecord keeps 32 bits of floating-point numbers."
    )
    idempotency_key: str | None = strawberry.field(description=IDEMPOTENCY_KEY)


@strawberry.input(description="Which rows of which list to export, and how.")
class ExportTableInput:
    target: ExportTarget = strawberry.field(description="The list.")
    parent_id: ID | None = strawberry.field(
        default=None,
        description="What the list is under, as `ExportTarget` says, such as a dataset or a study; not for lists that are under nothing.",
    )
    filter: JSON | None = strawberry.field(
        default=None, description="An object as the list takes it as `filter`, such as `{status: [FAILED]}` of runs; all rows if left out."
    )
    order_by: JSON | None = strawberry.field(
        default=None, description="An object as the list takes it as `orderBy`; the list's own order if left out."
    )
    columns: list[str] | None = strawberry.field(
        default=None,
        description="The columns in their order, at most 100; all fields of the list's type that are plain values if left out. A column is named as the field:"
        " `name`, `createdAt`. What the type refers to is a column with its id, such as `experimentId`. A dot leads into a field of JSON:"
        " `hyperparameters.model.depth`, `metadata.unit`. Of runs, `parameters.<name>` is a hyperparameter and `metrics.<name>` the last value of a metric.",
    )
    format: ExportFormat = strawberry.field(description="CSV, JSON, JSONL or PARQUET.")
    options: JSON | None = strawberry.field(
        default=None,
        description="Options of the format as of `CreateExportInput.options`, without `columns`. In CSV, `formulaGuard` (true) puts an apostrophe before text"
        " cells that spreadsheets would run as formulas; numbers stay as they are.",
    )
    idempotency_key: str | None = strawberry.field(
        default=None,
        description=IDEMPOTENCY_KEY,
    )


@strawberry.input(description="The export to delete.")
class DeleteExportInput:
    id: ID = strawberry.field(description="The export.")
