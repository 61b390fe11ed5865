"""Steps on columns and rows before the split: rename, cast and deduplicate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from workers.ml.errors import BadInput
from workers.ml.node import ValueKind
from workers.ml.steps.columns import ColumnName
from workers.ml.steps.step import Parameters, PipelineNode, Step

if TYPE_CHECKING:
    import polars as pl

    from workers.ml.bundle import Bundle

CAST_KINDS: dict[str, tuple[str, ValueKind]] = {
    "number": ("FLOAT", "number"),
    "integer": ("INTEGER", "number"),
    "boolean": ("BOOLEAN", "number"),
    "text": ("STRING", "text"),
    "date": ("DATE", "time"),
    "datetime": ("DATETIME", "time"),
}
TRUE_WORDS, FALSE_WORDS = ["true", "yes", "t", "y", "1"], ["false", "no", "f", "n", "0"]


class Renaming(Parameters):
    """A column and its new name."""

    column: ColumnName = Field(title="Column", description="The column to rename.", json_schema_extra={"x-column": True})
    name: ColumnName = Field(title="Name", description="Its new name, which no other column has.", json_schema_extra={"x-new-column": True})


class RenameParameters(Parameters):
    columns: list[Renaming] = Field(
        min_length=1,
        max_length=20_000,
        title="Columns",
        description="The columns to rename, in order.",
        json_schema_extra={"x-renames": True},
    )


class CastParameters(Parameters):
    columns: list[ColumnName] = Field(
        min_length=1, max_length=20_000, title="Columns", description="The columns to convert.", json_schema_extra={"x-column": True}
    )
    type: Literal["number", "integer", "boolean", "text", "date", "datetime"] = Field(
        title="Type",
        description="What the values become. Text is read as a number, as a date or time in ISO 8601, or as true, yes, t, y, 1 and their opposites; "
        "numbers are cut to integers; true is 1.",
        json_schema_extra={"x-gives-by-value": {name: kind for name, (_, kind) in CAST_KINDS.items()}},
    )
    errors: Literal["fail", "missing"] = Field(
        default="fail", title="Errors", description="Whether a value that cannot be converted fails the job or becomes a missing one."
    )


class DeduplicateParameters(Parameters):
    columns: list[ColumnName] | None = Field(
        default=None,
        min_length=1,
        max_length=2_000,
        title="Columns",
        description="Rows with equal values in these columns are duplicates; by default in all. Missing values are equal to each other.",
        json_schema_extra={"x-column": True},
    )
    keep: Literal["first", "last", "none"] = Field(default="first", title="Keep", description="Which of the duplicates is kept.")


def rename(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    """Raises BadInput: UNKNOWN_COLUMN, NAME_TAKEN."""
    import polars as pl  # the API imports the registry only for its schemas

    from workers.ml.columns import Derivation

    for index, renaming in enumerate(node.parameters.columns):
        column = bundle.column(renaming.column, node, "columns", str(index), "column")
        if not bundle.is_free(renaming.name):
            raise BadInput(
                "NAME_TAKEN",
                f"Step '{node.key}' renames the column '{column.name}' to '{renaming.name}', but there is one of that name. Choose another name.",
                column=renaming.name,
                path=node.path("columns", str(index), "name"),
            )
        position = list(bundle.columns).index(column.name) if column.name in bundle.columns else len(bundle.columns)
        code = f"pl.col({column.name!r})"
        derivation = Derivation(renaming.name, (column.name,), {"column": column.name}, code, "which is")
        bundle.derive(derivation, pl.col(column.name), column.type, column.kind)
        if column.name in bundle.columns:
            bundle.drop(column.name, node, by_name=True)
        others = [name for name in bundle.columns if name != renaming.name]
        bundle.columns = {name: bundle.columns[name] for name in [*others[:position], renaming.name, *others[position:]]}
    return {"columns": len(bundle.columns), "renamed_columns": len(node.parameters.columns)}


def cast(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    """Raises BadInput: UNKNOWN_COLUMN, WRONG_COLUMN_TYPE, BAD_VALUE."""
    import polars as pl  # see rename

    from workers.ml.columns import Derivation

    parameters: CastParameters = node.parameters
    type_, kind = CAST_KINDS[parameters.type]
    missing: dict[str, int] = {}
    for index, name in enumerate(dict.fromkeys(parameters.columns)):
        column = bundle.column(name, node, "columns", str(index))
        cast_ = _cast(name, column.kind, parameters.type)
        if cast_ is None:
            raise BadInput(
                "WRONG_COLUMN_TYPE",
                f"The column '{name}' is of type {column.type}, which step '{node.key}' cannot make {parameters.type} of. Convert it to text or a number before, "
                "or remove it from the columns.",
                column=name,
                path=node.path("columns", str(index)),
            )
        expression, code = cast_
        lost = expression.is_null() & pl.col(name).is_not_null()
        count = int(bundle.lazy.select(lost.sum()).collect(engine="streaming").item())
        if count and parameters.errors == "fail":
            example = bundle.lazy.filter(lost).select(pl.col(name)).head(1).collect().item()
            raise BadInput(
                "BAD_VALUE",
                f"{count:,} values of the column '{name}' are no {parameters.type}, such as {str(example)[:50]!r}. Filter such rows, or set errors to missing.",
                column=name,
                path=node.path("errors"),
            )
        if count:
            missing[name] = count
        position = list(bundle.columns)
        document = {"column": name, "cast": type_}
        bundle.derive(Derivation(name, (name,), document, code, f"made {parameters.type} of"), expression, type_, kind)
        bundle.columns = {each: bundle.columns[each] for each in [*position, *([] if name in position else [name])]}
    return {"columns": len(bundle.columns), "cast_columns": len(parameters.columns), "became_missing": missing}


def _cast(name: str, kind: str, target: str) -> tuple[pl.Expr, str] | None:
    """Return the expression and its source; None for types that cannot be converted."""
    import polars as pl  # see rename

    from workers.ml.steps.derive import Source, finite

    def build(polars: Any) -> Any:
        value = polars.col(name)
        text = value.cast(polars.String).str.strip_chars()
        if target == "text":
            return None if kind == "other" else value.cast(polars.String)
        if target in ("date", "datetime"):
            if kind == "text":
                return (
                    text.str.to_date("%Y-%m-%d", strict=False) if target == "date" else text.str.to_datetime(time_unit="us", strict=False)
                )
            return value.cast(polars.Date if target == "date" else polars.Datetime("us")) if kind == "time" else None
        if kind not in ("number", "text"):
            return None
        number = text.cast(polars.Float64, strict=False) if kind == "text" else value.cast(polars.Float64)
        number = finite(number)
        if target == "boolean" and kind == "text":
            word = text.str.to_lowercase()
            return polars.when(word.is_in(TRUE_WORDS)).then(True).when(word.is_in(FALSE_WORDS)).then(False).otherwise(None)  # noqa: FBT003 - values
        if target == "boolean":
            return number.ne(0)
        return number.cast(polars.Int64, strict=False) if target == "integer" else number

    expression = build(pl)
    return None if expression is None else (expression, build(Source("pl")).text)


def deduplicate(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    """Raises BadInput: UNKNOWN_COLUMN, WRONG_COLUMN_TYPE, NO_ROWS."""
    parameters: DeduplicateParameters = node.parameters
    rows_before = bundle.count()
    named = [bundle.column(name, node, "columns", str(index)) for index, name in enumerate(dict.fromkeys(parameters.columns or []))]
    columns = named or list(bundle.columns.values())
    for column in columns:
        if column.kind == "other":
            raise BadInput(
                "WRONG_COLUMN_TYPE",
                f"The column '{column.name}' is of type {column.type}, whose values step '{node.key}' does not compare. Name the columns to compare.",
                column=column.name,
                path=node.path("columns"),
            )
    bundle.lazy = bundle.lazy.unique([column.name for column in columns], keep=parameters.keep, maintain_order=True)
    rows_after = bundle.count()
    if rows_after == 0:
        message = f"All {rows_before:,} rows have duplicates, and step '{node.key}' keeps none of them. Set keep to first."
        raise BadInput("NO_ROWS", message, path=node.path("keep"))
    return {"rows": rows_after, "removed_rows": rows_before - rows_after, "columns": len(bundle.columns)}


RENAME = Step(
    key="rename_columns",
    type="TRANSFORM",
    title="Rename columns",
    description="Gives columns other names, which later steps and the model use. The code in the model card renames them.",
    parameters=RenameParameters,
    place="choose",
    run=rename,
)
CAST = Step(
    key="cast_columns",
    type="TRANSFORM",
    title="Convert columns",
    description="Converts columns to another type. It runs before the rows are split and is not part of the model; the code in the model card converts them.",
    parameters=CastParameters,
    place="choose",
    run=cast,
)
DEDUPLICATE = Step(
    key="deduplicate_rows",
    type="FILTER",
    title="Deduplicate rows",
    description="Removes rows that equal another in some columns or all, so that none is on both sides of the split. The order of the rows stays.",
    parameters=DeduplicateParameters,
    place="choose",
    run=deduplicate,
)
