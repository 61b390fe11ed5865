"""Step that filters rows by typed conditions. A condition is data, never an evaluated expression."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from workers.ml.errors import BadInput
from workers.ml.steps.columns import ColumnName
from workers.ml.steps.step import Parameters, PipelineNode, Step

if TYPE_CHECKING:
    import polars as pl

    from workers.ml.bundle import Bundle
    from workers.ml.columns import Column

Operator = Literal[
    "equals", "not_equals", "less_than", "less_or_equal", "greater_than", "greater_or_equal", "between",
    "in", "not_in", "is_missing", "is_not_missing", "contains", "starts_with", "ends_with",
]  # fmt: skip
Scalar = StrictBool | StrictInt | StrictFloat | StrictStr
ORDER_OPERATORS = {"less_than", "less_or_equal", "greater_than", "greater_or_equal", "between"}
TEXT_OPERATORS = {"contains", "starts_with", "ends_with"}


_MISSING, _EQUALITY = ["is_missing", "is_not_missing"], ["equals", "not_equals", "in", "not_in"]
OPERATORS_BY_KIND = {
    "number": [*_MISSING, *_EQUALITY, *sorted(ORDER_OPERATORS)],
    "boolean": [*_MISSING, *_EQUALITY],
    "text": [*_MISSING, *_EQUALITY, *sorted(TEXT_OPERATORS)],
    "time": [*_MISSING, *_EQUALITY, *sorted(ORDER_OPERATORS)],
    "other": _MISSING,
}


def _takes(operators: Iterable[str], what: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema of the rule that these operators take such a value."""
    listed = sorted(operators)
    subject = {1: f"'{listed[0]}' takes", 2: f"'{listed[0]}' and '{listed[-1]}' take"}.get(len(listed), "This operator takes")
    message = f"{subject} {what}."
    return {
        "if": {"properties": {"operator": {"enum": listed}}, "required": ["operator"]},
        "then": {"required": ["value"], "x-message": message, "properties": {"value": {**schema, "x-message": message}}},
    }


class Condition(Parameters):
    """One test of one column. A missing value meets no condition except `is_missing`."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-operators": cast("Any", OPERATORS_BY_KIND),
            "allOf": [
                _takes(["between"], "two values, [lowest, highest]", {"type": "array", "minItems": 2, "maxItems": 2}),
                _takes(["in", "not_in"], "a list of values", {"type": "array", "minItems": 1}),
                _takes(
                    {"equals", "not_equals", *ORDER_OPERATORS, *TEXT_OPERATORS} - {"between"},
                    "one value",
                    {"type": ["boolean", "number", "string"]},
                ),
            ],
        }
    )

    column: ColumnName = Field(title="Column", description="The column whose values are tested.", json_schema_extra={"x-column": True})
    operator: Operator = Field(title="Operator", description="How a value is tested. `between` includes both ends.")
    value: Scalar | list[Scalar] | None = Field(
        default=None,
        title="Value",
        description="What the column is compared with: one value; a list for `in` and `not_in`; [lowest, highest] for `between`; nothing for "
        "`is_missing` and `is_not_missing`. Dates are ISO 8601.",
    )


class FilterParameters(Parameters):
    conditions: list[Condition] = Field(title="Conditions", description="The tests applied to each row.", min_length=1, max_length=50)
    match: Literal["all", "any"] = Field(
        default="all", title="Match", description="Whether a row must meet all conditions or any one of them."
    )
    action: Literal["keep", "remove"] = Field(
        default="keep", title="Action", description="Whether the rows that match are kept or removed."
    )


def run(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    """Raises BadInput: UNKNOWN_COLUMN, WRONG_COLUMN_TYPE, BAD_PARAMETER, NO_ROWS."""
    import polars as pl  # the API imports the registry only for its schemas

    rows_before = bundle.count()
    schema = bundle.lazy.collect_schema()
    tests: list[pl.Expr] = []
    for index, condition in enumerate(node.parameters.conditions):
        column = bundle.column(condition.column, node, "conditions", str(index), "column")
        tests.append(_condition_expression(condition, column, schema[column.name], node, index).fill_null(value=False))
    match = pl.all_horizontal(tests) if node.parameters.match == "all" else pl.any_horizontal(tests)
    bundle.filter_rows(
        match if node.parameters.action == "keep" else ~match, node, {condition.column for condition in node.parameters.conditions}
    )
    rows_after = bundle.count()
    if rows_after == 0:
        raise BadInput(
            "NO_ROWS", f"Step '{node.key}' removes all {rows_before:,} rows. Relax its conditions.", path=node.path("conditions")
        )
    return {"rows": rows_after, "removed_rows": rows_before - rows_after, "columns": len(bundle.columns)}


def _condition_expression(condition: Condition, column: Column, dtype: pl.DataType, node: PipelineNode, index: int) -> pl.Expr:
    import polars as pl  # see run

    value_expression = pl.col(column.name)
    if dtype.is_float():
        value_expression = value_expression.fill_nan(None)
    if isinstance(dtype, pl.Categorical | pl.Enum):
        value_expression = value_expression.cast(pl.String)
    operator, operand = condition.operator, condition.value
    if operator in ("is_missing", "is_not_missing"):
        return value_expression.is_null() if operator == "is_missing" else value_expression.is_not_null()
    is_orderable = column.kind in ("number", "time") and dtype != pl.Boolean
    if (
        column.kind == "other"
        or (operator in ORDER_OPERATORS and not is_orderable)
        or (operator in TEXT_OPERATORS and column.kind != "text")
    ):
        raise BadInput(
            "WRONG_COLUMN_TYPE",
            f"Condition {index + 1} of step '{node.key}' tests the column '{column.name}' of type {column.type} with '{operator}', which does not support that type. "
            "Choose another operator.",
            column=column.name,
            path=node.path("conditions", str(index), "operator"),
        )
    values = [_literal(value, column, dtype, node, index) for value in _operands(operator, operand, column, node, index)]
    comparisons: dict[str, Callable[[pl.Expr], pl.Expr]] = {
        "less_than": value_expression.__lt__,
        "less_or_equal": value_expression.__le__,
        "greater_than": value_expression.__gt__,
        "greater_or_equal": value_expression.__ge__,
        "contains": lambda value: value_expression.str.contains(value, literal=True),
        "starts_with": value_expression.str.starts_with,
        "ends_with": value_expression.str.ends_with,
    }
    if operator in comparisons:
        return comparisons[operator](values[0])
    if operator == "between":
        return (value_expression >= values[0]) & (value_expression <= values[1])
    if operator in ("equals", "in"):
        return pl.any_horizontal([value_expression == value for value in values])
    return pl.all_horizontal([value_expression != value for value in values])


def _operands(operator: Operator, operand: Any, column: Column, node: PipelineNode, index: int) -> list[Any]:
    if operator in ("in", "not_in"):
        expected, is_valid = "a list of values", isinstance(operand, list) and len(operand) > 0
    elif operator == "between":
        expected, is_valid = "two values, [lowest, highest]", isinstance(operand, list) and len(operand) == 2
    else:
        expected, is_valid = "one value", operand is not None and not isinstance(operand, list)
    if not is_valid:
        raise BadInput(
            "BAD_PARAMETER",
            f"Condition {index + 1} of step '{node.key}': '{operator}' takes {expected}.",
            column=column.name,
            path=node.path("conditions", str(index), "value"),
        )
    return operand if isinstance(operand, list) else [operand]


def _literal(value: Any, column: Column, dtype: pl.DataType, node: PipelineNode, index: int) -> pl.Expr:
    """Return the value as a literal of the column's type. Raises BadInput (BAD_PARAMETER)."""
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
        # polars has no integer literal beyond 64 bits; as a float the value still compares correctly.
        return pl.lit(value if abs(value) < 2**63 else float(value))
    if column.kind == "text" and isinstance(value, str):
        return pl.lit(value)
    if column.kind == "time" and isinstance(value, str):
        try:
            timestamp = datetime.fromisoformat(value)
        except ValueError:
            pass
        else:
            if dtype == pl.Date:
                return (
                    pl.lit(date(timestamp.year, timestamp.month, timestamp.day))
                    if len(value) <= 10
                    else pl.lit(timestamp.replace(tzinfo=None))
                )
            zone = getattr(dtype, "time_zone", None)
            aware_timestamp = timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)
            return (
                pl.lit(aware_timestamp.astimezone(UTC)).dt.convert_time_zone(zone)
                if zone
                else pl.lit(aware_timestamp.astimezone(UTC).replace(tzinfo=None))
            )
    raise BadInput(
        "BAD_PARAMETER",
        f"Condition {index + 1} of step '{node.key}' compares the column '{column.name}' of type {column.type} with {value!r}. Give a value of that type"
        + (", e.g. '2024-05-01'." if column.kind == "time" else "."),
        column=column.name,
        path=node.path("conditions", str(index), "value"),
    )


FILTER = Step(
    key="filter_rows",
    type="FILTER",
    title="Filter rows",
    description="Keeps or removes rows by conditions on the dataset's values, before training and test. It is not part of the model.",
    parameters=FilterParameters,
    place="choose",
    run=run,
)
