"""Pearson correlation over the rows where both columns hold a value."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

_SLICE = 32_768


def correlations(names: list[str], frames: Iterator[pl.DataFrame], centres: list[float], scales: list[float]) -> dict[str, Any]:
    """Pairwise complete; null where a column is constant over the pair; infinities count as missing. Columns are centred and scaled first, so that sums of squares keep their digits."""
    width = len(names)
    centre, scale = np.array(centres), np.array(scales)
    count, sums, squares, products = (np.zeros((width, width)) for _ in range(4))
    for frame in frames:
        for start in range(0, frame.height, _SLICE):
            part = frame.slice(start, _SLICE)
            numbers = part.select(pl.col(name).cast(pl.Float64) for name in names).to_numpy()
            with np.errstate(all="ignore"):
                numbers = (numbers - centre) / scale
            numbers[np.isinf(numbers)] = np.nan
            holes = np.isnan(numbers)
            if not holes.any():
                rows, total = float(part.height), numbers.sum(axis=0)
                count += rows
                sums += total[:, None]
                squares += np.square(numbers).sum(axis=0)[:, None]
                products += numbers.T @ numbers
                continue
            present = (~holes).astype(np.float64)
            numbers[holes] = 0.0
            count += present.T @ present
            sums += numbers.T @ present
            squares += np.square(numbers).T @ present
            products += numbers.T @ numbers
    with np.errstate(all="ignore"):
        covariance = products - sums * sums.T / count
        spread = squares - sums * sums / count
        # A column that is constant over the pair leaves nothing but the rounding of its squares.
        spread[spread <= 1e-13 * squares] = np.nan
        matrix = np.clip(covariance / np.sqrt(spread * spread.T), -1.0, 1.0)
    for index in range(width):
        if not math.isnan(matrix[index, index]):
            matrix[index, index] = 1.0
    return {
        "method": "pearson",
        "columns": names,
        "matrix": [[float(cell) if math.isfinite(cell) else None for cell in row] for row in matrix.tolist()],
    }
