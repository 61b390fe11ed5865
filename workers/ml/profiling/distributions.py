"""Unique counts, quantiles, histograms and moments of numpy keys."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import polars as pl

from workers.ml.profiling.domains import Domain, Keys
from workers.ml.profiling.report import BINS, QUANTILES, TOP_VALUES, Bin

_MAGNITUDE = np.int64(0x7FFF_FFFF_FFFF_FFFF)


def sort_keys(keys: Keys) -> Keys:
    """Return the keys in ascending order; they have no NaN, and -0.0 comes before 0.0.

    Polars takes 15 ns a key on every processor. numpy.sort takes 50 ns on those of AMD with AVX-512, because its store of selected lanes is slow
    there (https://github.com/numpy/x86-simd-sort/issues/6).
    """
    if keys.dtype != np.float64:
        return pl.Series(keys).sort(multithreaded=False).to_numpy()
    # Integers sort in half the time: the bits of a double order like its value if those of a negative one are inverted.
    ordered = pl.Series(_flip_negative(keys.view(np.int64))).sort(multithreaded=False).to_numpy()
    return _flip_negative(ordered).view(np.float64)


def _flip_negative(bits: Keys) -> Keys:
    """Invert all bits but the sign of negative numbers; done twice, it changes nothing."""
    flipped = bits >> 63
    flipped &= _MAGNITUDE
    flipped ^= bits
    return flipped


def unique_counts(ordered: Keys) -> tuple[Keys, Keys]:
    """Return the distinct values of a sorted array and their counts."""
    if not ordered.size:
        return ordered, np.empty(0, dtype=np.int64)
    starts = np.concatenate(([0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1))
    return ordered[starts], np.diff(starts, append=ordered.size)


def unique_values(keys: Keys) -> Keys:
    """Return the sorted distinct values. numpy.unique hashes; sorting is several times as fast."""
    return unique_counts(sort_keys(keys))[0]


def most_common(values: Keys, counts: Keys, distinct: int) -> tuple[Keys, Keys]:
    """Return the ten most common values and all ties with the tenth, at most 1,000, and their counts.

    With more than ten `distinct` values, those that occur once are omitted.
    """
    if counts.size > TOP_VALUES:
        # numpy.partition takes eighty times as long if nearly all counts are 1, on the processors that `sort_keys` names.
        tenth = cast("int", pl.Series(counts).top_k(TOP_VALUES).min())
        threshold = max(tenth, 2 if distinct > TOP_VALUES else 1)
        indices = np.flatnonzero(counts >= threshold)[:1_000]
    else:
        indices = np.arange(counts.size)
    order = indices[np.argsort(-counts[indices], kind="stable")]
    return values[order], counts[order]


def quantiles(ordered: Keys, domain: Domain) -> dict[str, Any] | None:
    """Return the quantiles of sorted keys by share, such as "0.25", with linear interpolation; None without keys."""
    if not ordered.size:
        return None
    result: dict[str, Any] = {}
    for share in QUANTILES:
        position = share * (ordered.size - 1)
        low = math.floor(position)
        high = min(low + 1, ordered.size - 1)
        below, above, fraction = ordered[low].item(), ordered[high].item(), position - low
        # Interpolate from the nearer end, as numpy does, so that equal neighbours stay equal.
        value = below + (above - below) * fraction if fraction < 0.5 else above - (above - below) * (1 - fraction)
        if below == above:
            value = below
        result[f"{share:g}"] = float(value) if domain.type == "INTEGER" else domain.to_json(value)
    return result


def bin_edges(low: float, high: float, *, distinct: int | None, is_whole: bool) -> Keys:
    """Return the finite, distinct edges of up to 30 bins of equal width. Halving avoids overflow over the full range of doubles."""
    if low == high:
        return np.array([low, high], dtype=np.float64)
    bins = BINS
    if is_whole and high - low < BINS:
        bins = max(1, int(high - low))
    elif distinct is not None and distinct < BINS:
        bins = max(2, distinct)
    edges = np.linspace(low / 2, high / 2, bins + 1) * 2
    edges[0], edges[-1] = low, high
    return np.unique(edges)


def bin_counts(ordered: Keys, edges: Keys) -> Keys:
    """Count the sorted keys in each bin; the last bin includes its upper edge."""
    if edges.size == 2 and edges[0] == edges[1]:
        return np.array([int((ordered == edges[0]).sum())], dtype=np.int64)
    inner = np.searchsorted(ordered, edges[1:-1], side="left")
    first, last = np.searchsorted(ordered, edges[0], side="left"), np.searchsorted(ordered, edges[-1], side="right")
    return np.diff(np.concatenate(([first], inner, [last])))


def make_bins(edges: Keys, counts: Keys, domain: Domain) -> list[Bin]:
    return [
        {"lower": domain.to_axis(edges[index].item()), "upper": domain.to_axis(edges[index + 1].item()), "count": int(counts[index])}
        for index in range(counts.size)
    ]


def finite_keys(ordered: Keys) -> Keys:
    """Return sorted keys without the infinities at their ends."""
    if ordered.dtype.kind != "f" or not ordered.size or (np.isfinite(ordered[0]) and np.isfinite(ordered[-1])):
        return ordered
    return ordered[np.isfinite(ordered)]


@dataclass
class Moments:
    """Count, mean and sum of squared deviations, merged as in Chan, Golub and LeVeque (1979)."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, keys: Keys) -> None:
        if not keys.size:
            return
        with np.errstate(all="ignore"):
            numbers = keys.astype(np.float64, copy=False)
            mean = float(numbers.sum()) / numbers.size
            squares = float(np.square(numbers - mean).sum())
        self.merge(Moments(int(keys.size), mean, squares))

    def merge(self, other: Moments) -> None:
        total = self.count + other.count
        if not total:
            return
        distance = other.mean - self.mean
        self.squares += other.squares + distance * distance * (self.count * other.count / total)
        self.mean = other.mean if not self.count else self.mean + distance * (other.count / total)
        self.count = total

    @property
    def mean_or_none(self) -> float | None:
        return self.mean if self.count and math.isfinite(self.mean) else None

    @property
    def deviation_or_none(self) -> float | None:
        if self.count < 2 or not math.isfinite(self.squares):
            return None
        return math.sqrt(self.squares / (self.count - 1))
