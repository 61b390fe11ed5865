"""Step that replaces dates by numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from workers.ml.steps.columns import ColumnName
from workers.ml.steps.step import Parameters, PipelineNode, Step

if TYPE_CHECKING:
    from workers.ml.bundle import Bundle

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
    import polars as pl  # the API imports the registry only for its schemas

    from workers.ml.bundle import Column, DatePart, unique

    schema = bundle.lazy.collect_schema()
    columns = bundle.columns_to_transform(node, node.parameters.columns, ("time",))
    for column in columns:
        if column.name not in bundle.columns:
            continue
        value = pl.col(column.name).dt
        parts = DATE_PARTS if schema[column.name] == pl.Date else (*DATE_PARTS, *TIME_PARTS)
        names = {part: unique(f"{column.name}_{part}", bundle.lazy.collect_schema().names()) for part in parts}
        bundle.lazy = bundle.lazy.with_columns(getattr(value, part)().cast(pl.Int32).alias(name) for part, name in names.items())
        bundle.drop(column.name, node, by_name=False)  # a split by time may still name it
        bundle.columns |= {name: Column(name, "INTEGER", "number") for name in names.values()}
        bundle.date_parts |= {name: DatePart(column.name, part) for part, name in names.items()}
    return {"columns": len(bundle.columns), "decomposed_columns": len(columns)}


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
