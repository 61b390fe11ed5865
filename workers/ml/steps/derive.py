"""Step that computes columns by formulas. A formula is compiled to polars expressions and never evaluated as Python."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from db.core.formulas import FUNCTIONS, FormulaError, Kind, Part, kind_of, parse
from workers.ml.errors import BadInput
from workers.ml.steps.columns import ColumnName, composed
from workers.ml.steps.step import Parameters, PipelineNode, Step

if TYPE_CHECKING:
    from workers.ml.bundle import Bundle

# Texts grow at most to this: a formula may replace a character by two many times over.
MAX_TEXT = 10_000
_KINDS: dict[str, Kind] = {"number": "number", "text": "text", "time": "time"}
_TYPES = {"number": "FLOAT", "text": "STRING", "boolean": "BOOLEAN", "time": "DATETIME"}


class DerivedColumn(Parameters):
    """A column and its formula."""

    name: ColumnName = Field(
        title="Name",
        description="The name of the new column. A column of that name is replaced.",
        json_schema_extra={"x-new-column": True},
    )
    formula: str = Field(
        min_length=1,
        max_length=2_000,
        title="Formula",
        description="Values: numbers, 'texts', true, false, null, columns by name (any name in `backticks`). Operators: + - * / % **, == != < <= > >=, and or "
        f"not, x if condition else y. Functions: {', '.join(FUNCTIONS)}. A value that is missing, or a number that is "
        "not finite, makes a missing one; min and max leave out missing values.",
        json_schema_extra={"x-formula": True},
    )


class DeriveParameters(Parameters):
    columns: list[DerivedColumn] = Field(
        min_length=1, max_length=100, title="Columns", description="The columns to compute, in order; a formula may use those before it."
    )


def run(bundle: Bundle, node: PipelineNode) -> dict[str, Any]:
    """Raises BadInput (BAD_FORMULA)."""
    import polars as pl  # the API imports the registry only for its schemas

    from workers.ml.columns import Derivation
    from workers.ml.columns import kind_of as column_kind

    for index, column in enumerate(node.parameters.columns):
        schema = bundle.lazy.collect_schema()
        kinds: dict[str, Kind] = {}
        for name in bundle.columns:
            column_type: Kind | None = "boolean" if schema[name] == pl.Boolean else _KINDS.get(column_kind(schema[name]))
            if column_type is not None:
                kinds[name] = column_type
        try:
            formula = parse(composed(column.formula))
            kind = kind_of(formula, kinds) or "text"  # always missing
            expression = _compile(formula, pl, kinds)
            (dtype,) = (
                pl.DataFrame(schema=schema).select(expression.alias("result")).dtypes
            )  # without rows, it tells what the types do not allow
        except FormulaError as error:
            raise BadInput(
                "BAD_FORMULA",
                f"The formula of the column '{column.name}' in step '{node.key}' cannot be computed. {error}",
                column=column.name,
                path=node.path("columns", str(index), "formula"),
            ) from None
        except pl.exceptions.PolarsError as error:
            bundle.reporter.log(f"{type(error).__name__} in step '{node.key}': {' '.join(str(error).split())}")
            raise BadInput(
                "BAD_FORMULA",
                f"The formula of the column '{column.name}' in step '{node.key}' does not suit the types of its columns; the job's log has what polars said. "
                "Dates have no hour, and times with and without a zone cannot be compared.",
                column=column.name,
                path=node.path("columns", str(index), "formula"),
            ) from None
        document = {"formula": column.formula, "columns": formula.columns}
        code = _compile(formula, Source("pl"), kinds)
        derivation = Derivation(
            column.name, tuple(formula.columns), document, code.text, "computed from" if formula.columns else "a constant"
        )
        type_ = "DATE" if dtype == pl.Date else _TYPES[kind]
        bundle.derive(derivation, expression, type_, "number" if kind == "boolean" else kind)
    return {"columns": len(bundle.columns), "computed_columns": len(node.parameters.columns)}


class Source:
    """Stands for polars where a formula is compiled: what is called on it becomes Python source, for the model card."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __getattr__(self, name: str) -> Source:
        return Source(f"{self.text}.{name}")

    def __call__(self, *arguments: Any, **named: Any) -> Source:
        texts = [_source(argument) for argument in arguments] + [f"{name}={_source(value)}" for name, value in named.items()]
        return Source(f"{self.text}({', '.join(texts)})")


def _source(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_source(item) for item in value)}]"
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    return value.text if isinstance(value, Source) else repr(value)


_BINARY = {
    "+": "add", "-": "sub", "*": "mul", "/": "truediv", "%": "mod", "**": "pow",
    "==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge", "and": "and_", "or": "or_",
}  # fmt: skip
_ARITHMETIC = ("+", "-", "*", "/", "%", "**")
_NUMERIC = {
    "abs": "abs",
    "sqrt": "sqrt",
    "exp": "exp",
    "log": "log",
    "log10": "log10",
    "log1p": "log1p",
    "floor": "floor",
    "ceil": "ceil",
    "sign": "sign",
}
_TRIGONOMETRIC = {"sin": "sin", "cos": "cos", "tan": "tan"}
_TEXT = {"lower": "to_lowercase", "upper": "to_uppercase", "trim": "strip_chars"}
_SEARCHES = {"starts_with": "starts_with", "ends_with": "ends_with"}
_DATES = ("year", "month", "day", "weekday", "hour", "minute")


def _compile(formula: Part, polars: Any, kinds: Mapping[str, Kind]) -> Any:
    """Return a polars expression, or its source if `polars` is a Source. Numbers are 64-bit floats; those that are not finite are missing."""
    if formula.operation == "literal":
        return polars.lit(formula.value)
    if formula.operation == "column":
        column = polars.col(formula.value)
        kind = kinds[str(formula.value)]
        return finite(column.cast(polars.Float64)) if kind == "number" else column.cast(polars.String) if kind == "text" else column
    parts = [_compile(part, polars, kinds) for part in formula.parts]
    if formula.operation == "if":
        return polars.when(parts[0]).then(parts[1]).otherwise(parts[2])
    if formula.operation in _BINARY:
        left, right = (_number(polars, part) if formula.operation in _ARITHMETIC else part for part in parts)
        result = getattr(left, _BINARY[formula.operation])(right)
        return finite(result) if formula.operation in _ARITHMETIC else result
    return _compile_call(formula, polars, parts)


def _number(polars: Any, value: Any) -> Any:
    return value.cast(polars.Float64)


def finite(value: Any) -> Any:
    """Make what is not finite missing. The expression names its value once: otherwise a nested formula would double at each level."""
    return value.replace([math.inf, -math.inf, math.nan], [None, None, None])


def _compile_call(formula: Part, polars: Any, parts: list[Any]) -> Any:  # noqa: C901 - one return a function of the language
    name, first = formula.operation, parts[0]
    literals = [part.value for part in formula.parts]
    if name == "not":
        return first.not_()
    if name == "negate":
        return _number(polars, first).neg()
    if name in _NUMERIC or name in _TRIGONOMETRIC:
        return finite(getattr(_number(polars, first), {**_NUMERIC, **_TRIGONOMETRIC}[name])())
    if name == "round":
        digits = int(min(max(float(literals[1] or 0), 0), 15)) if len(parts) > 1 else 0
        return _number(polars, first).round(digits)
    if name in ("min", "max"):
        return getattr(polars, f"{name}_horizontal")([_number(polars, part) for part in parts])
    if name in _TEXT:
        return getattr(first.str, _TEXT[name])()
    if name == "length":
        return first.str.len_chars().cast(polars.Float64)
    if name == "contains":
        return first.str.contains(literals[1], literal=True)
    if name in _SEARCHES:
        return getattr(first.str, _SEARCHES[name])(literals[1])
    if name == "replace":
        return first.str.replace_all(literals[1], literals[2], literal=True).str.slice(0, MAX_TEXT)
    if name == "concat":
        return polars.concat_str([part.cast(polars.String) for part in parts]).str.slice(0, MAX_TEXT)
    if name == "is_missing":
        return first.is_null()
    if name == "coalesce":
        return polars.coalesce(parts)
    if name == "number":
        return finite(first.cast(polars.Float64, strict=False))
    if name == "text":
        return first.cast(polars.String)
    if name in _DATES:
        return getattr(first.dt, name)().cast(polars.Float64)
    if name == "date":
        return polars.lit(literals[0]).str.to_date("%Y-%m-%d")
    assert name == "days_between", name
    start, end = (part.cast(polars.Datetime("us")) for part in parts)
    return end.sub(start).dt.total_seconds().truediv(86_400)


DERIVE = Step(
    key="derive_columns",
    type="TRANSFORM",
    title="Derive columns",
    description="Computes columns from others by formulas, such as `price / area` or `'old' if age > 60 else 'young'`. It runs before the rows are split and is not "
    "part of the model, which takes the results; the code in the model card computes them.",
    parameters=DeriveParameters,
    place="choose",
    run=run,
)
