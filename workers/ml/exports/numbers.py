"""Columns as numbers, for the libraries of neural networks: what becomes of each type, as `columns.json` tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from workers.ml.exports.categories import Categories
from workers.ml.exports.source import Rows
from workers.ml.exports.texts import is_text

UNITS = {"DATE": "days since 1970-01-01", "DATETIME": "microseconds since 1970-01-01T00:00:00Z"}
_CLOCK = "microseconds"


@dataclass(frozen=True)
class NumberColumn:
    """A column and its values: `kind` is int, float or bool. `has_missing` if a value of it may be null."""

    name: str
    type: str
    kind: str
    has_missing: bool
    categories: Sequence[str] | None = None

    @property
    def unit(self) -> str | None:
        return UNITS.get(self.type, _CLOCK if self.type in ("TIME", "DURATION") else None)

    def values(self, categories: Categories) -> pl.Expr:
        """The values as Int64, Float64 or Boolean; missing ones are null."""
        column = pl.col(self.name)
        if self.categories is not None:
            return categories.codes(self.name)
        match self.type:
            case "DATE":
                return column.cast(pl.Int32).cast(pl.Int64)
            case "DATETIME":
                return column.dt.epoch("us")
            case "TIME":
                return column.cast(pl.Int64) // 1_000
            case "DURATION":
                return column.dt.total_microseconds()
            case _:
                return column.cast({"int": pl.Int64, "float": pl.Float64, "bool": pl.Boolean}[self.kind])


def number_columns(rows: Rows, names: Sequence[str], categories: Categories) -> tuple[list[NumberColumn], dict[str, str]]:
    """Return the columns that are numbers, and of each other one why it is not."""
    kept: list[NumberColumn] = []
    omitted: dict[str, str] = {}
    schema = rows.schema
    for name in names:
        column_type, dtype = rows.types[name], schema[name]
        if column_type in ("JSON", "BINARY") or dtype.is_nested():
            omitted[name] = f"Values of the type {column_type} are no numbers."
        elif is_text(dtype) and categories.values.get(name) is None:
            omitted[name] = "It is text with more distinct values than are numbered."
        else:
            kept.append(NumberColumn(name, column_type, _kind(dtype), rows.has_missing(name), categories.values.get(name)))
    return kept, omitted


def _kind(dtype: pl.DataType) -> str:
    if dtype == pl.Boolean:
        return "bool"
    return "float" if dtype.is_float() or dtype.is_decimal() else "int"


def described(column: NumberColumn, **more: Any) -> dict[str, Any]:
    """The entry of a column in `columns.json`."""
    categories = None if column.categories is None else list(column.categories)
    entry = {"name": column.name, "type": column.type, "unit": column.unit, "categories": categories, **more}
    return {key: value for key, value in entry.items() if value is not None}
