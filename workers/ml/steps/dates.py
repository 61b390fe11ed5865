"""Step that replaces dates by numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from workers.ml.steps.columns import ColumnName
from workers.ml.steps.step import Parameters, PipelineNode, Step

if TYPE_CHECKING:
    from workers.ml.bundle import Bundle, Column

DATE_PARTS = ("year", "month", "day", "weekday")
TIME_PARTS = ("hour", "minute")


class DateParameters(Parameters):
    columns: list[ColumnName] | None = Field(
        default=None,
        title="Columns",
        description="The dates and times to decompose; by default all that are not the target.",
        min_length=1,
        max_length=20_000,
        json_schema_extra={"x-column": True},
    )


def run(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    """Raises BadInput: UNKNOWN_COLUMN, TARGET_TRANSFORMED, WRONG_COLUMN_TYPE."""
    columns = bundle.columns_to_transform(node, node.parameters.columns, ("time",))
    decompose(bundle, node, columns)
    return {"columns": len(bundle.columns), "decomposed_columns": len(columns)}


def decompose(bundle: Bundle, node: PipelineNode, columns: list[Column]) -> None:
    """Replace the dates that are still there by their parts."""
    import polars as pl  # the API imports the registry only for its schemas

    from workers.ml.bundle import Derivation, unique

    schema = bundle.lazy.collect_schema()
    for column in columns:
        if column.name not in bundle.columns:
            continue
        value = pl.col(column.name).dt
        parts = DATE_PARTS if schema[column.name] == pl.Date else (*DATE_PARTS, *TIME_PARTS)
        names = {part: unique(f"{column.name}_{part}", bundle.lazy.collect_schema().names()) for part in parts}
        bundle.drop(column.name, node, by_name=False)  # a split by time may still name it
        for part, name in names.items():
            document = {"column": column.name, "part": part}
            code = f"pl.col({column.name!r}).dt.{part}().cast(pl.Int32)"
            derivation = Derivation(name, (column.name,), document, code, f"the {part} of")
            bundle.derive(derivation, getattr(value, part)().cast(pl.Int32), "INTEGER", "number")


DECOMPOSE_DATES = Step(
    key="decompose_dates",
    type="TRANSFORM",
    title="Decompose dates",
    description="Replaces each date by its year, month, day and weekday (1 is Monday), and a time by its hour and minute too, as `date_year` and so on. "
    "It runs before the rows are split and is not part of the model, which takes the parts; the code in the model card computes them.",
    parameters=DateParameters,
    place="choose",
    run=run,
    takes=("time",),
    gives="number",
)
