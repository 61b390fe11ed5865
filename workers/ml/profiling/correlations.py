"""Pearson correlation over the rows in which both columns have a value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl

_SLICE_ROWS = 32_768


class Correlations:
    """Pairwise-complete correlations; infinities count as missing. Null if a column is constant over the rows of the pair.

    Values are centred and scaled by the first frame's means and standard deviations, so that sums of squares keep their precision.
    """

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._center: Any = None
        self._scale: Any = None
        width = len(names)
        # Sums over the rows in which both columns of a pair have a number; the first index is the summed column.
        self._count, self._sums, self._squares, self._products = (np.zeros((width, width)) for _ in range(4))

    def add(self, frame: pl.DataFrame) -> None:
        if not self._names:
            return
        numbers = frame.select(pl.col(name).cast(pl.Float64) for name in self._names)
        # Overflows end as null, as in pandas.
        with np.errstate(all="ignore"):
            if self._center is None:
                finite = [column.filter(column.is_finite()) for column in numbers.fill_null(math.nan)]
                self._center = np.array([_finite_or(column.mean(), 0.0) for column in finite])
                self._scale = np.array([_finite_or(column.std(), 1.0) or 1.0 for column in finite])
            for start in range(0, frame.height, _SLICE_ROWS):
                self._add((numbers.slice(start, _SLICE_ROWS).to_numpy() - self._center) / self._scale)

    def report(self) -> dict[str, Any]:
        with np.errstate(all="ignore"):
            matrix = self._matrix()
        return {
            "method": "pearson",
            "columns": self._names,
            "matrix": [[float(cell) if math.isfinite(cell) else None for cell in row] for row in matrix.tolist()],
        }

    def _add(self, numbers: Any) -> None:
        is_missing = ~np.isfinite(numbers)
        if not is_missing.any():
            self._count += numbers.shape[0]
            self._sums += numbers.sum(axis=0)[:, None]
            self._squares += np.square(numbers).sum(axis=0)[:, None]
        else:
            present = (~is_missing).astype(np.float64)
            numbers[is_missing] = 0.0
            self._count += present.T @ present
            self._sums += numbers.T @ present
            self._squares += np.square(numbers).T @ present
        self._products += numbers.T @ numbers

    def _matrix(self) -> Any:
        covariance = self._products - self._sums * self._sums.T / self._count
        variance = self._squares - self._sums * self._sums / self._count
        # The computed variance of a constant column is only the rounding error of its squares.
        variance[variance <= 1e-13 * self._squares] = np.nan
        matrix = np.clip(covariance / np.sqrt(variance * variance.T), -1.0, 1.0)
        diagonal = np.diagonal(matrix)
        np.fill_diagonal(matrix, np.where(np.isnan(diagonal), np.nan, 1.0))
        return matrix


def _finite_or(value: Any, default: float) -> float:
    return float(value) if isinstance(value, float | int) and math.isfinite(value) else default
