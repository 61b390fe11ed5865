"""Partial dependence (J. Friedman, 2001) and individual conditional expectation (A. Goldstein et al., 2015)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from workers.ml.explaining.outputs import Outputs
from workers.ml.explaining.rows import sample

MAX_POINTS = 20
PERCENTILES = (0.05, 0.95)
MAX_INDIVIDUAL = 50
BATCH_CELLS = 2_000_000


@dataclass(frozen=True)
class Curve:
    """Of one column: its `values`, and what the model predicts with each, outputs × values, on average over all rows; `individual` of some rows,
    outputs × rows × values."""

    feature: str
    values: Sequence[Any]
    mean: np.ndarray
    individual: np.ndarray


def partial_dependence(
    outputs: Outputs, features: pl.DataFrame, chosen: Sequence[str], seed: int, progress: Callable[[float], None]
) -> list[Curve]:
    """Return the curve of each chosen column; a column without a value has none."""
    shown = sample(features.height, MAX_INDIVIDUAL, seed)
    curves: list[Curve] = []
    for number, name in enumerate(chosen):
        values = grid(features[name], is_categorical=outputs.predictor.categories(name) is not None)
        if len(values):
            curves.append(_curve(outputs, features, values, shown))
        progress((number + 1) / len(chosen))
    return curves


def _curve(outputs: Outputs, features: pl.DataFrame, values: pl.Series, shown: np.ndarray) -> Curve:
    count = features.height
    at_once = max(1, BATCH_CELLS // max(1, count * features.width))
    parts: list[np.ndarray] = []
    for start in range(0, len(values), at_once):
        some = values[start : start + at_once]
        frames = [features.with_columns(pl.Series(values.name, [value], dtype=values.dtype).new_from_index(0, count)) for value in some]
        parts.append(outputs.numbers(pl.concat(frames)).reshape(len(outputs.labels), len(some), count))
    predicted = np.concatenate(parts, axis=1)
    return Curve(values.name, values.to_list(), predicted.mean(axis=2), predicted[..., shown].transpose(0, 2, 1))


def grid(column: pl.Series, *, is_categorical: bool) -> pl.Series:
    """The values of a column that are looked at: all of a few, the most frequent categories, or evenly spaced ones between the outer percentiles."""
    known = (column.fill_nan(None) if column.dtype.is_float() else column).drop_nulls()
    distinct = known.unique().sort()
    if len(distinct) <= MAX_POINTS:
        return distinct
    if is_categorical or not column.dtype.is_numeric():
        counts = known.value_counts(sort=False).sort(["count", column.name], descending=[True, False])
        return counts[column.name].head(MAX_POINTS).sort()
    low, high = np.quantile(known.to_numpy().astype(np.float64), PERCENTILES)
    if low == high:
        low, high = float(distinct[0]), float(distinct[-1])
    return pl.Series(column.name, np.linspace(low, high, MAX_POINTS))
