"""What the values of columns must be before anything is fitted to them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl

from workers.ml.columns import Column, kind_of
from workers.ml.errors import BadInput
from workers.ml.node import Node

MAX_FEATURE_VALUE = 1e37


def check_finite(frame: pl.DataFrame, node: Node) -> None:
    """Raises BadInput (INFINITE_VALUES)."""
    float_columns = frame.select(pl.selectors.float())
    has_infinite = float_columns.select(pl.all().is_infinite().any()).row(0, named=True) if float_columns.width else {}
    for name, is_infinite in has_infinite.items():
        if is_infinite:
            row = int(frame[name].is_infinite().arg_max() or 0)
            raise BadInput(
                "INFINITE_VALUES",
                f"The column '{name}' has an infinite value (row {row + 1} of the rows in use), which step '{node.key}' cannot use. "
                "Filter such rows, or drop the column.",
                column=name,
                path=node.path(),
            )


def check_range(frame: pl.DataFrame, node: Node) -> None:
    """Raise BadInput for features that a float32 cannot hold or whose squares overflow: INFINITE_VALUES, VALUES_TOO_LARGE."""
    check_finite(frame, node)
    float_columns = frame.select(pl.selectors.float())
    maxima = float_columns.select(pl.all().abs().max()).row(0, named=True) if float_columns.width else {}
    for name, greatest in maxima.items():
        if greatest is not None and greatest > MAX_FEATURE_VALUE:
            raise BadInput(
                "VALUES_TOO_LARGE",
                f"The column '{name}' has values as large as {greatest:.3g}; step '{node.key}' accepts numbers up to {MAX_FEATURE_VALUE:g}. "
                "Filter such rows, or drop the column.",
                column=name,
                path=node.path(),
            )


def check_texts(frame: pl.DataFrame, columns: Iterable[Column], rows: np.ndarray, node: Node) -> None:
    """Raise BadInput (ALL_MISSING) for a text column without a value in the training rows: no categories can be learned from it."""
    for column in columns:
        name = column.name
        if not column.stages or column.stages[0].name.startswith("impute") or kind_of(frame[name].dtype) != "text":
            continue
        if frame[name][rows].null_count() == len(rows):
            raise BadInput(
                "ALL_MISSING",
                f"The column '{name}' has no value in any of the {len(rows):,} training rows, so step '{node.key}' cannot learn from it. "
                "Drop the column, or fill it with a constant.",
                column=name,
                path=node.path(),
            )
