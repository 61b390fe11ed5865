"""Pearson correlation over the rows where both columns hold a value."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

_SLICE = 32_768


def correlations(names: list[str], frames: Iterator[pl.DataFrame], centres: list[float], scales: list[float]) -> dict[str, Any]:
    """Pairwise complete, infinities as missing; null where a column is constant over the pair.

    Columns are centred and scaled first, so that sums of squares keep their digits.
    """
    centre, scale = np.array(centres), np.array(scales)
    sums = _Sums(len(names))
    # What overflows becomes null in the end, as it does in pandas.
    with np.errstate(all="ignore"):
        for frame in frames:
            numbers = frame.select(pl.col(name).cast(pl.Float64) for name in names)
            for start in range(0, frame.height, _SLICE):
                sums.add((numbers.slice(start, _SLICE).to_numpy() - centre) / scale)
        matrix = sums.matrix()
    return {
        "method": "pearson",
        "columns": names,
        "matrix": [[float(cell) if math.isfinite(cell) else None for cell in row] for row in matrix.tolist()],
    }


class _Sums:
    """Over the rows where both columns of a pair hold a number; the first index is the column that is summed."""

    def __init__(self, width: int) -> None:
        self._count, self._sums, self._squares, self._products = (np.zeros((width, width)) for _ in range(4))

    def add(self, numbers: Any) -> None:
        holes = ~np.isfinite(numbers)
        if not holes.any():
            self._count += numbers.shape[0]
            self._sums += numbers.sum(axis=0)[:, None]
            self._squares += np.square(numbers).sum(axis=0)[:, None]
        else:
            present = (~holes).astype(np.float64)
            numbers[holes] = 0.0
            self._count += present.T @ present
            self._sums += numbers.T @ present
            self._squares += np.square(numbers).T @ present
        self._products += numbers.T @ numbers

    def matrix(self) -> Any:
        covariance = self._products - self._sums * self._sums.T / self._count
        spread = self._squares - self._sums * self._sums / self._count
        # A column that is constant over the pair leaves nothing but the rounding of its squares.
        spread[spread <= 1e-13 * self._squares] = np.nan
        matrix = np.clip(covariance / np.sqrt(spread * spread.T), -1.0, 1.0)
        diagonal = np.diagonal(matrix)
        np.fill_diagonal(matrix, np.where(np.isnan(diagonal), np.nan, 1.0))
        return matrix
