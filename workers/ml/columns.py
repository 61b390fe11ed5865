"""The columns of the rows that a pipeline works on: their kinds, their transforms so far, and how they were derived."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import count
from typing import Any

import polars as pl

from workers.ml.node import Node, ValueKind


@dataclass(frozen=True)
class Stage:
    """One transform of a column. Columns that share the same transformer objects are transformed together."""

    name: str
    transformer: Any


@dataclass(frozen=True)
class Column:
    """A column of the dataset. `kind` and the number of `missing` values apply after the stages; `type` is the raw ColumnType."""

    name: str
    type: str
    kind: ValueKind
    missing: int = 0
    stages: tuple[Stage, ...] = ()


@dataclass(frozen=True)
class Derivation:
    """How a column is computed from others before the rows are split, which is not part of the model: its users compute it likewise.

    `document` tells it in `signature.json`, `code` is the polars expression for the model card, None if it takes another
    table or the contents of items, and `words`, followed by the sources, tell people. Instead of `code`, columns that are computed together have the same
    `statements`, which add them to `rows`.
    """

    name: str
    sources: tuple[str, ...]
    document: dict[str, Any]
    code: str | None
    words: str
    statements: str | None = None

    @property
    def is_from_contents(self) -> bool:
        return "content" in self.document


def unique(name: str, taken: Collection[str]) -> str:
    """Return the name, with the first free number from 2 if it is taken."""
    return name if name not in taken else next(other for number in count(2) if (other := f"{name}_{number}") not in taken)


def as_features(frame: pl.DataFrame) -> pl.DataFrame:
    """Convert raw columns to what a model's Pipeline takes."""
    changes: list[pl.Expr] = []
    for name, dtype in frame.schema.items():
        if dtype == pl.Boolean or dtype.is_decimal():
            changes.append(pl.col(name).cast(pl.Float64))
        elif isinstance(dtype, pl.Categorical | pl.Enum):
            changes.append(pl.col(name).cast(pl.String))
        elif dtype.is_float():
            changes.append(pl.col(name).fill_nan(None))
    return frame.with_columns(changes)


def kind_of(dtype: pl.DataType) -> ValueKind:
    """Return the kind of a column's values; booleans are numbers."""
    if dtype.is_numeric() or dtype == pl.Boolean:
        return "number"
    if dtype == pl.String or isinstance(dtype, pl.Categorical | pl.Enum):
        return "text"
    return "time" if dtype == pl.Date or dtype == pl.Datetime else "other"


def wrong_kind_message(node: Node, column: Column, kinds: tuple[ValueKind, ...]) -> str:
    """Say what a column is, what the step takes, and which step before it would help."""
    description = {"text": "text", "number": "numeric"}.get(column.kind, f"of type {column.type}")
    encoding_advice = " or link a one_hot_encode or ordinal_encode step before it." if column.kind == "text" else ""
    accepted = " or ".join({"number": "numeric", "text": "text"}.get(kind, kind) for kind in kinds)
    removal_advice = "Remove it from the columns" + ("," if encoding_advice else ".")
    return f"The column '{column.name}' is {description}, and step '{node.key}' takes {accepted} columns. {removal_advice}{encoding_advice}"
