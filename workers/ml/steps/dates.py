"""Step that replaces dates by numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from workers.ml.steps.columns import ColumnName
from workers.ml.steps.step import Parameters, PipelineNode, Step

if TYPE_CHECKING:
    from workers.ml.bundle import Bundle
    from workers.ml.columns import Column

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
    parts: list[Literal["year", "quarter", "month", "week", "day", "weekday", "ordinal_day", "hour", "minute", "second"]] | None = Field(
        default=None,
        title="Parts",
        description="The parts to keep, each once; a date has no hour, minute and second. By default year, month, day and weekday, and of a time hour and minute.",
        min_length=1,
        max_length=10,
    )


def run(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    """Raises BadInput: UNKNOWN_COLUMN, TARGET_TRANSFORMED, WRONG_COLUMN_TYPE."""
    columns = bundle.columns_to_transform(node, node.parameters.columns, ("time",))
    decompose(bundle, node, columns, node.parameters.parts)
    return {"columns": len(bundle.columns), "decomposed_columns": len(columns)}


def decompose(bundle: Bundle, node: PipelineNode, columns: list[Column], chosen: Sequence[str] | None = None) -> None:
    """Replace the dates that are still there by their parts."""
    import polars as pl  # the API imports the registry only for its schemas

    from workers.ml.columns import Derivation, unique

    schema = bundle.lazy.collect_schema()
    for column in columns:
        if column.name not in bundle.columns:
            continue
        value = pl.col(column.name).dt
        is_date = schema[column.name] == pl.Date
        parts = DATE_PARTS if is_date else (*DATE_PARTS, *TIME_PARTS)
        if chosen is not None:
            parts = [part for part in dict.fromkeys(chosen) if not is_date or part not in (*TIME_PARTS, "second")]
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
    description="Replaces each date by its year, month, day and weekday (1 is Monday), and a time by its hour and minute too, as `date_year` and so on, or by other "
    "parts. "
    "It runs before the rows are split and is not part of the model, which takes the parts; the code in the model card computes them.",
    parameters=DateParameters,
    place="choose",
    run=run,
    takes=("time",),
    gives="number",
    makes_columns=True,
)
