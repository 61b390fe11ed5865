"""Choosing rows by typed conditions. A condition is data, never an expression that is evaluated."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, StrictBool, StrictFloat, StrictInt, StrictStr

from workers.ml.errors import BadInput
from workers.ml.steps.columns import ColumnName
from workers.ml.steps.step import Node, Parameters, Step

if TYPE_CHECKING:
    import polars as pl

    from workers.ml.bundle import Bundle, Column

Operator = Literal[
    "equals", "not_equals", "less_than", "less_or_equal", "greater_than", "greater_or_equal", "between",
    "in", "not_in", "is_missing", "is_not_missing", "contains", "starts_with", "ends_with",
]  # fmt: skip
Scalar = StrictBool | StrictInt | StrictFloat | StrictStr
ORDERING = {"less_than", "less_or_equal", "greater_than", "greater_or_equal", "between"}
SEARCHING = {"contains", "starts_with", "ends_with"}


class Condition(Parameters):
    """One test of one column. A missing value meets no condition but `is_missing`."""

    column: ColumnName = Field(title="Column", description="The column whose values are tested.", json_schema_extra={"x-column": True})
    operator: Operator = Field(title="Operator", description="How a value is tested. `between` includes both ends.")
    value: Scalar | list[Scalar] | None = Field(
        default=None,
        title="Value",
        description="What it is compared with: one value; a list for `in` and `not_in`; [lowest, highest] for `between`; nothing for "
        "`is_missing` and `is_not_missing`. Dates are written as in ISO 8601.",
    )


class FilterParameters(Parameters):
    conditions: list[Condition] = Field(title="Conditions", description="The tests a row is put to.", min_length=1, max_length=50)
    match: Literal["all", "any"] = Field(
        default="all", title="Match", description="Whether a row has to meet all conditions or any one of them."
    )
    action: Literal["keep", "remove"] = Field(
        default="keep", title="Action", description="Whether the rows that match are kept or removed."
    )


def run(bundle: Bundle, node: Node) -> dict[str, Any]:
    import polars as pl  # the API imports the registry for its schemas alone

    before = bundle.count()
    schema = bundle.lazy.collect_schema()
    tests: list[pl.Expr] = []
    for number, condition in enumerate(node.parameters.conditions):
        column = bundle.column(condition.column, node, "conditions", str(number), "column")
        tests.append(_test(condition, column, schema[column.name], node, number).fill_null(value=False))
    match = pl.all_horizontal(tests) if node.parameters.match == "all" else pl.any_horizontal(tests)
    bundle.keep(match if node.parameters.action == "keep" else ~match, node, {condition.column for condition in node.parameters.conditions})
    after = bundle.count()
    if after == 0:
        raise BadInput("NO_ROWS", f"Step '{node.key}' leaves none of {before:,} rows. Loosen its conditions.", path=node.path("conditions"))
    return {"rows": after, "removed_rows": before - after, "columns": len(bundle.columns)}


def _test(condition: Condition, column: Column, dtype: pl.DataType, node: Node, number: int) -> pl.Expr:
    import polars as pl  # see run

    cell = pl.col(column.name)
    if dtype.is_float():
        cell = cell.fill_nan(None)
    if isinstance(dtype, pl.Categorical | pl.Enum):
        cell = cell.cast(pl.String)
    operator, given = condition.operator, condition.value
    if operator in ("is_missing", "is_not_missing"):
        return cell.is_null() if operator == "is_missing" else cell.is_not_null()
    orders = column.kind in ("number", "time") and dtype != pl.Boolean
    if column.kind == "other" or (operator in ORDERING and not orders) or (operator in SEARCHING and column.kind != "text"):
        raise BadInput(
            "WRONG_COLUMN_TYPE",
            f"Condition {number + 1} of step '{node.key}' tests the column '{column.name}' of type {column.type} with '{operator}', which does not suit it. "
            "Choose another operator.",
            column=column.name,
            path=node.path("conditions", str(number), "operator"),
        )
    values = [_literal(value, column, dtype, node, number) for value in _given(operator, given, column, node, number)]
    tests: dict[str, Callable[[pl.Expr], pl.Expr]] = {
        "less_than": cell.__lt__,
        "less_or_equal": cell.__le__,
        "greater_than": cell.__gt__,
        "greater_or_equal": cell.__ge__,
        "contains": lambda value: cell.str.contains(value, literal=True),
        "starts_with": cell.str.starts_with,
        "ends_with": cell.str.ends_with,
    }
    if operator in tests:
        return tests[operator](values[0])
    if operator == "between":
        return (cell >= values[0]) & (cell <= values[1])
    if operator in ("equals", "in"):
        return pl.any_horizontal([cell == value for value in values])
    return pl.all_horizontal([cell != value for value in values])


def _given(operator: Operator, given: Any, column: Column, node: Node, number: int) -> list[Any]:
    if operator in ("in", "not_in"):
        wanted, fits = "a list of values", isinstance(given, list) and len(given) > 0
    elif operator == "between":
        wanted, fits = "two values, [lowest, highest]", isinstance(given, list) and len(given) == 2
    else:
        wanted, fits = "one value", given is not None and not isinstance(given, list)
    if not fits:
        raise BadInput(
            "BAD_PARAMETER",
            f"Condition {number + 1} of step '{node.key}': '{operator}' takes {wanted}.",
            column=column.name,
            path=node.path("conditions", str(number), "value"),
        )
    return given if isinstance(given, list) else [given]


def _literal(value: Any, column: Column, dtype: pl.DataType, node: Node, number: int) -> pl.Expr:
    """The value as one of the column's type; BadInput where it cannot be."""
    import polars as pl  # see run

    if dtype == pl.Boolean and isinstance(value, bool):
        return pl.lit(value)
    if (
        dtype != pl.Boolean
        and column.kind == "number"
        and isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
    ):
        # Beyond 64 bits a whole number has no type of its own in the column's engine; as a float it still compares rightly.
        return pl.lit(value if abs(value) < 2**63 else float(value))
    if column.kind == "text" and isinstance(value, str):
        return pl.lit(value)
    if column.kind == "time" and isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            pass
        else:
            if dtype == pl.Date:
                return pl.lit(date(moment.year, moment.month, moment.day)) if len(value) <= 10 else pl.lit(moment.replace(tzinfo=None))
            zone = getattr(dtype, "time_zone", None)
            aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return pl.lit(aware.astimezone(UTC)).dt.convert_time_zone(zone) if zone else pl.lit(aware.astimezone(UTC).replace(tzinfo=None))
    raise BadInput(
        "BAD_PARAMETER",
        f"Condition {number + 1} of step '{node.key}' compares the column '{column.name}' of type {column.type} with {value!r}. Give a value of that type"
        + (", e.g. '2024-05-01'." if column.kind == "time" else "."),
        column=column.name,
        path=node.path("conditions", str(number), "value"),
    )


FILTER = Step(
    key="filter_rows",
    type="FILTER",
    title="Filter rows",
    description="Keeps or removes the rows that meet conditions on the dataset's values. It chooses what is learnt from and tested on; it is no part of the model.",
    parameters=FilterParameters,
    place="choose",
    run=run,
)
