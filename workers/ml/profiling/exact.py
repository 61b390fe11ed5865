"""One column, all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import polars as pl

from workers.ml.profiling.distributions import Moments, bins_of, counts_between, edges, finite, most_common, quantiles, runs
from workers.ml.profiling.domains import Domain, Hashes, Keys, hashes
from workers.ml.profiling.report import TOP_VALUES, ColumnReport, ValueCount

_SLICE: Final = 131_072

Chunks = Callable[[], Iterator[pl.Series]]
"""The column's parts in row order, as often as asked."""


def profile_column(domain: Domain, chunks: Chunks, seed: int) -> tuple[ColumnReport, Hashes]:
    """The report, and a hash for each row."""
    return _ordered(domain, chunks, seed) if domain.has_order else _hashed(domain, chunks, seed)


def empty_report(domain: Domain) -> ColumnReport:
    return {
        "name": domain.name,
        "type": domain.type,
        "missing_count": 0,
        "distinct_count": 0,
        "min": None,
        "max": None,
        "mean": None,
        "standard_deviation": None,
        "quantiles": None,
        "histogram": [],
        "top_values": [],
    }


def _ordered(domain: Domain, chunks: Chunks, seed: int) -> tuple[ColumnReport, Hashes]:
    report = empty_report(domain)
    values = pl.concat([domain.prepared(chunk) for chunk in chunks()])
    row_hashes = hashes(values, seed)
    filled = values.drop_nulls()
    report["missing_count"] = values.len() - filled.len()
    keys = domain.keys(filled)
    if not keys.size:
        return report, row_hashes
    if domain.is_number:
        moments = Moments()
        moments.add(keys)
        report["mean"], report["standard_deviation"] = moments.mean_or_none, moments.deviation_or_none
    ordered = np.sort(keys)
    distinct, counts = runs(ordered)
    report["distinct_count"] = int(distinct.size)
    report["min"], report["max"] = domain.show(ordered[0].item()), domain.show(ordered[-1].item())
    report["top_values"] = _shown(domain, *most_common(distinct, counts, int(distinct.size)))
    if domain.has_histogram:
        report["quantiles"] = quantiles(ordered, domain)
        within = finite(ordered)
        if within.size:
            bounds = edges(within[0].item(), within[-1].item(), distinct=int(distinct.size), is_whole=within.dtype.kind != "f")
            report["histogram"] = bins_of(bounds, counts_between(within, bounds), domain)
    return report, row_hashes


def _shown(domain: Domain, values: Keys, counts: Keys) -> list[ValueCount]:
    return [
        {"value": domain.show(value.item()), "count": int(count)}
        for value, count in zip(values[:TOP_VALUES], counts[:TOP_VALUES], strict=True)
    ]


def _hashed(domain: Domain, chunks: Chunks, seed: int) -> tuple[ColumnReport, Hashes]:
    report = empty_report(domain)
    parts: list[Hashes] = []
    filled_parts: list[Hashes] = []
    extremes = Extremes()
    for chunk in chunks():
        values = domain.prepared(chunk)
        part = hashes(values, seed)
        parts.append(part)
        filled_parts.append(part if not values.null_count() else part[values.is_not_null().to_numpy()])
        extremes.add(values)
    row_hashes = np.concatenate(parts)
    ordered = np.concatenate(filled_parts)
    ordered.sort()
    distinct, counts = runs(ordered)
    report["missing_count"] = int(row_hashes.size - ordered.size)
    report["distinct_count"] = int(distinct.size)
    if domain.type in {"STRING", "CATEGORY"}:
        report["min"], report["max"] = domain.show(extremes.low), domain.show(extremes.high)
    chosen, times = most_common(distinct, counts, int(distinct.size))
    wanted = dict(zip(chosen.tolist(), times.tolist(), strict=True))
    found: dict[int, Any] = {}
    for chunk in chunks() if wanted else ():
        found.update(values_of_hashes(domain.prepared(chunk), seed, chosen, found))
        if len(found) == len(wanted):
            break
    report["top_values"] = ranked(domain, [(found[key], count) for key, count in wanted.items() if key in found])
    return report, row_hashes


def values_of_hashes(values: pl.Series, seed: int, wanted: Keys, known: dict[int, Any]) -> dict[int, Any]:
    """Values whose hashes are wanted and not yet known."""
    missing = {key for key in wanted.tolist() if key not in known}
    found: dict[int, Any] = {}
    # A common value lies near the beginning: the rest is not looked at.
    for start in range(0, values.len(), _SLICE):
        if not missing:
            break
        part = values.slice(start, _SLICE)
        of_rows = hashes(part, seed)
        places = pl.Series(of_rows).is_in(list(missing)).arg_true().to_numpy()
        keys, first = np.unique(of_rows[places], return_index=True)
        found.update(zip(keys.tolist(), part.gather(places[first]).to_list(), strict=True))
        missing -= found.keys()
    return found


def ranked(domain: Domain, values: list[tuple[Any, int]]) -> list[ValueCount]:
    """By count, then by value."""
    shown = [(domain.show(value), count) for value, count in values]
    shown.sort(key=lambda pair: (-pair[1], str(pair[0])))
    return [{"value": value, "count": count} for value, count in shown[:TOP_VALUES]]


class Extremes:
    """The first and the last of texts, by code point."""

    def __init__(self) -> None:
        self.low: Any = None
        self.high: Any = None

    def add(self, values: pl.Series) -> None:
        if values.dtype != pl.String or values.null_count() == values.len():
            return
        low, high = values.min(), values.max()
        self.low = low if self.low is None else min(self.low, low)
        self.high = high if self.high is None else max(self.high, high)
