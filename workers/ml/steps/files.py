"""The step that says which column of a table names the files whose contents are read."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from workers.ml.contents.content import ContentOperation
from workers.ml.errors import BadInput
from workers.ml.steps.columns import ColumnName
from workers.ml.steps.contents import content_step
from workers.ml.steps.step import Parameters, PipelineNode

if TYPE_CHECKING:
    from workers.ml.bundle import Bundle
    from workers.ml.contents.named import Names


class UseFilesParameters(Parameters):
    column: ColumnName | None = Field(
        default=None,
        title="Column",
        description="The column whose cells name files; by default the one that names most, of those that no step computes.",
        json_schema_extra={"x-column": True},
    )
    kind: Literal["image", "audio", "video", "signal"] | None = Field(
        default=None,
        title="Kind",
        description="Which files are used; by default all. A row that names a file of another kind is as one whose file is missing or damaged.",
    )


def use_files(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    """Have the steps after it read the named files. Raises BadInput: NO_ITEMS, NO_FILES, UNKNOWN_COLUMN, WRONG_COLUMN_TYPE, NOT_SUPPORTED."""
    import polars as pl  # the API imports the registry only for its schemas

    from workers.ml.contents.named import Names
    from workers.ml.contents.state import files_column

    contents = bundle.contents_for(node)
    parameters: UseFilesParameters = node.parameters
    names = Names.of(contents.items, parameters.kind)
    column = _default_column(bundle, names) if parameters.column is None else _column(bundle, node, parameters.column)
    item = files_column(node)
    if column is not None:
        bundle.lazy = bundle.lazy.with_columns(names.number(column).alias(item))
    rows = bundle.count()
    used = 0 if column is None else int(bundle.lazy.select(pl.col(item).count()).collect(engine="streaming").item())
    if column is None or not used:
        files = "a file" if parameters.kind is None else f"a file of the kind {parameters.kind}"
        which = "No column of text has" if column is None else f"The column '{column}' has no"
        message = f"{which} cells that name {files} that can be read, which step '{node.key}' needs. Name a column that does."
        raise BadInput("NO_FILES", message, column=column, path=node.path("column"))
    bundle.extra_columns.add(item)
    # A prediction uses the same column, whatever other columns the version has.
    contents.add(replace(node, parameters=parameters.model_copy(update={"column": column})))
    if used < rows:
        bundle.reporter.log(
            f"{node.step.title} '{node.key}': in {rows - used:,} of {rows:,} rows, the column '{column}' names no file that can be read. There, what steps read "
            "of it is missing."
        )
    return {"rows": rows, "column": column, "rows_without_file": rows - used}


def _column(bundle: Bundle, node: PipelineNode, name: str) -> str:
    column = bundle.column(name, node, "column")
    if column.kind != "text":
        message = f"The column '{name}' is of type {column.type}, and step '{node.key}' takes texts that name files. Name another column."
        raise BadInput("WRONG_COLUMN_TYPE", message, column=name, path=node.path("column"))
    if any(derivation.name == name for derivation in bundle.derivations):
        message = f"The column '{name}' is computed, and a prediction reads files by the columns that a version has. Link '{node.key}' before it is computed."
        raise BadInput("NOT_SUPPORTED", message, column=name, path=node.path("column"))
    return name


def _default_column(bundle: Bundle, names: Names) -> str | None:
    """The column of text that names most files, the first of several."""
    computed = {derivation.name for derivation in bundle.derivations}
    texts = [column.name for column in bundle.columns.values() if column.kind == "text" and column.name not in computed]
    if not texts:
        return None
    counts = bundle.lazy.select(names.number(name).count().alias(name) for name in texts).collect(engine="streaming").row(0)
    most = max(counts)
    return texts[counts.index(most)] if most else None


def _nothing(parameters: UseFilesParameters) -> Any:
    raise AssertionError(f"{parameters!r} is no operation on contents")


USE_FILES = content_step(
    "use_files",
    title="Use files",
    description="Says which column names the files that the steps after it read, up to the next such step: images, recordings, videos or signals beside the numbers "
    "and texts of a table.",
    parameters=UseFilesParameters,
    modalities=("MULTIMODAL",),
    content=ContentOperation("files", _nothing),
    run=use_files,
)
