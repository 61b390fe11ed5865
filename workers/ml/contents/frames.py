"""Operations on videos: which frames are read, and what is read of all of them together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from workers.ml.contents import images
from workers.ml.contents.content import Content, ContentError
from workers.ml.contents.films import Choice, Film
from workers.ml.contents.program import MAX_COLUMNS

Statistic = Literal["mean", "std", "min", "max"]


def sample(film: Film, *, method: Literal["even", "every", "seconds"], count: int, every: int, seconds: float) -> Film:
    """Choose frames: `count` of them at the middles of as many equal parts of the video, each `every`th, or one in so many `seconds`."""
    if film.choose is not None:
        raise ContentError("is sampled twice. Keep one of the steps.")

    def choose() -> Choice:
        if method == "even":
            frames = film.counted()
            middles = {(2 * part + 1) * frames // (2 * count) for part in range(count)}
            return lambda number, _: number in middles
        return _first_of_each(seconds) if method == "seconds" else lambda number, _: number % every == 0

    return replace(film, choose=choose)


def _first_of_each(seconds: float) -> Choice:
    last = -1

    def choose(_: int, time: float) -> bool:
        nonlocal last
        interval = int((time + 1e-6) // seconds)  # times are rounded
        if interval <= last:
            return False
        last = interval
        return True

    return choose


def pixels(film: Film, *, statistics: Sequence[Statistic]) -> dict[str, float | None]:
    return _summary(film, images.pixels, statistics)


def edges(film: Film, *, orientations: int, cell: int, block: int, statistics: Sequence[Statistic]) -> dict[str, float | None]:
    """Of the histograms of oriented gradients of the frames."""
    return _summary(film, lambda frame: images.hog(frame, orientations=orientations, cell=cell, block=block), statistics)


def colours(film: Film, *, bins: int, statistics: Sequence[Statistic]) -> dict[str, float | None]:
    """Of the shares of the pixels of each frame that have each of `bins` equal ranges of each band."""

    def shares(frame: Content) -> np.ndarray:
        places = np.clip((frame.values * bins).astype(np.int64), 0, bins - 1).reshape(-1, frame.values.shape[2])
        return np.concatenate([np.bincount(band, minlength=bins) for band in places.T]) / len(places)

    return _summary(film, shares, statistics)


def motion(film: Film, *, grid: int, parts: int) -> dict[str, float | None]:
    """How much consecutive frames differ: the mean absolute difference of their brightness, from 0 to 1.

    `mean`, `std` and `max` are over all pairs of frames; `<part>_<row>_<column>` is the mean in a cell of the picture during a part of the video. The
    `drift` is the slope of the centre of what changes, by least squares that are weighted with how much does: 1 for one that goes from the left, or the
    top, to the other side. Without two frames, or with fewer pairs than parts, what is not known is missing.
    """
    cells, centres, totals = _differences(film, grid)
    is_known = len(cells) > 0
    found: dict[str, float | None] = {
        "mean": float(totals.mean()) if is_known else None,
        "std": float(totals.std()) if is_known else None,
        "max": float(totals.max()) if is_known else None,
        "drift_right": _slope(centres[:, 0], totals),
        "drift_down": _slope(centres[:, 1], totals),
    }
    part_of = np.arange(len(cells)) * parts // max(len(cells), 1)
    for part in range(parts):
        chosen = cells[part_of == part]
        for row, column in np.ndindex(grid, grid):
            found[f"{part + 1}_{row + 1}_{column + 1}"] = float(chosen[:, row, column].mean()) if len(chosen) else None
    return found


def _differences(film: Film, grid: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each pair of frames: the mean absolute difference in each cell, pairs × rows × columns; the centre of it, pairs × 2, from 0 to 1; and its mean."""
    cells: list[np.ndarray] = []
    centres: list[tuple[float, float]] = []
    totals: list[float] = []
    before: np.ndarray | None = None
    for frame in film.frames():
        light = images.grayscale(frame).values[..., 0]
        height, width = light.shape
        if height < grid or width < grid:
            raise ContentError(f"has frames of {width}×{height} pixels, and a grid of {grid}×{grid} needs as many. Make the grid smaller.")
        if before is not None:
            _check_shape(light.shape, before.shape)
            change = np.abs(light - before).astype(np.float64)
            rows, columns = (np.arange(grid) * size // grid for size in (height, width))
            sums = np.add.reduceat(np.add.reduceat(change, rows, axis=0), columns, axis=1)
            cells.append(sums / np.outer(np.diff([*rows, height]), np.diff([*columns, width])))
            totals.append(float(change.mean()))
            centres.append((_centre(change.sum(axis=0)), _centre(change.sum(axis=1))))
        before = light
    return np.array(cells).reshape(-1, grid, grid), np.array(centres).reshape(-1, 2), np.array(totals)


def _centre(change: np.ndarray) -> float:
    total = float(change.sum())
    return float(change @ np.linspace(0, 1, len(change))) / total if total else 0.5


def _slope(values: np.ndarray, weights: np.ndarray) -> float | None:
    """Of the weighted line through the values, from the first to the last of which is 1. None without two that count."""
    if np.count_nonzero(weights) < 2:
        return None
    times = np.linspace(0, 1, len(values))
    shares = weights / weights.sum()
    deviations = times - shares @ times
    return float(shares @ (deviations * values) / (shares @ deviations**2))


def _summary(film: Film, read: Callable[[Content], np.ndarray], statistics: Sequence[Statistic]) -> dict[str, float | None]:
    """Statistics over the frames of each number that is read of a frame, without all frames in memory (B. Welford, 1962)."""
    count = 0
    mean = squares = low = high = np.zeros(0)
    shape: tuple[int, ...] | None = None
    for frame in film.frames():
        _check_shape(frame.values.shape, shape or frame.values.shape)
        shape = frame.values.shape
        values = read(frame).astype(np.float64)
        count += 1
        if count == 1:
            if len(values) * len(statistics) > MAX_COLUMNS:
                raise ContentError(
                    f"gives {len(values) * len(statistics):,} columns; the maximum is {MAX_COLUMNS:,}. Link a resize_image step before, or ask for fewer."
                )
            mean, squares, low, high = values.copy(), np.zeros_like(values), values, values
            continue
        deviation = values - mean
        mean += deviation / count
        squares += deviation * (values - mean)
        low, high = np.minimum(low, values), np.maximum(high, values)
    found = {"mean": mean, "std": np.sqrt(squares / count), "min": low, "max": high}
    return {f"{name}_{number}": float(value) for name in statistics for number, value in enumerate(found[name], 1)}


def _check_shape(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if shape != expected:
        raise ContentError(
            f"has frames of {expected[1]}×{expected[0]} and of {shape[1]}×{shape[0]} pixels. Link a resize_image step before."
        )
