"""Exact profile of one column."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import polars as pl

from workers.ml.profiling.distributions import (
    Moments,
    bin_counts,
    bin_edges,
    finite_keys,
    make_bins,
    most_common,
    quantiles,
    sort_keys,
    unique_counts,
)
from workers.ml.profiling.domains import Domain, Hashes, Keys, hashes
from workers.ml.profiling.report import TOP_VALUES, ColumnReport, ValueCount

_SLICE_ROWS: Final = 131_072

Chunks = Callable[[], Iterator[pl.Series]]
"""Iterates over the column's chunks in row order; may be called repeatedly."""


def profile_column(domain: Domain, chunks: Chunks, seed: int) -> tuple[ColumnReport, Hashes]:
    """Return the report and a 64-bit hash of each row's value."""
    if domain.has_order:
        return _ordered(domain, chunks, seed)
    return _decimal(domain, chunks, seed) if domain.type == "DECIMAL" else _hashed(domain, chunks, seed)


def empty_report(domain: Domain) -> ColumnReport:
    return {
        "name": domain.name,
        "type": domain.type,
        "missing_count": 0,
        "infinite_count": 0 if domain.type == "FLOAT" else None,
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
    values = pl.concat([domain.prepare(chunk) for chunk in chunks()])
    row_hashes = hashes(values, seed)
    filled = values.drop_nulls()
    report["missing_count"] = values.len() - filled.len()
    keys = domain.keys(filled)
    if domain.type == "FLOAT":
        report["infinite_count"] = int(np.isinf(keys).sum())
    if not keys.size:
        return report, row_hashes
    if domain.has_moments:
        moments = Moments()
        moments.add(domain.amounts(keys))
        report["mean"], report["standard_deviation"] = moments.mean_or_none, moments.deviation_or_none
    ordered = sort_keys(keys)
    distinct, counts = unique_counts(ordered)
    report["distinct_count"] = int(distinct.size)
    report["min"], report["max"] = domain.to_json(ordered[0].item()), domain.to_json(ordered[-1].item())
    report["top_values"] = _value_counts(domain, *most_common(distinct, counts, int(distinct.size)))
    if domain.has_histogram:
        _add_distribution(report, domain, ordered, int(distinct.size))
    return report, row_hashes


def _decimal(domain: Domain, chunks: Chunks, seed: int) -> tuple[ColumnReport, Hashes]:
    """Distinct values, extremes and top values are exact; mean, deviation, quantiles and histogram are those of the values as doubles."""
    report, row_hashes = _hashed(domain, chunks, seed)
    filled = pl.concat([chunk.drop_nulls() for chunk in chunks()])
    if filled.len():
        keys = domain.keys(filled)
        moments = Moments()
        moments.add(keys)
        report["mean"], report["standard_deviation"] = moments.mean_or_none, moments.deviation_or_none
        report["min"], report["max"] = domain.to_json(filled.min()), domain.to_json(filled.max())
        _add_distribution(report, domain, sort_keys(keys), report["distinct_count"])
    return report, row_hashes


def _add_distribution(report: ColumnReport, domain: Domain, ordered: Keys, distinct: int) -> None:
    report["quantiles"] = quantiles(ordered, domain)
    finite_values = finite_keys(ordered)
    if finite_values.size:
        edges = bin_edges(finite_values[0].item(), finite_values[-1].item(), distinct=distinct, is_whole=finite_values.dtype.kind != "f")
        report["histogram"] = make_bins(edges, bin_counts(finite_values, edges), domain)


def _value_counts(domain: Domain, values: Keys, counts: Keys) -> list[ValueCount]:
    return [
        {"value": domain.to_json(value.item()), "count": int(count)}
        for value, count in zip(values[:TOP_VALUES], counts[:TOP_VALUES], strict=True)
    ]


def _hashed(domain: Domain, chunks: Chunks, seed: int) -> tuple[ColumnReport, Hashes]:
    report = empty_report(domain)
    hash_chunks: list[Hashes] = []
    filled_hash_chunks: list[Hashes] = []
    extremes = Extremes()
    for chunk in chunks():
        values = domain.prepare(chunk)
        chunk_hashes = hashes(values, seed)
        hash_chunks.append(chunk_hashes)
        filled_hash_chunks.append(chunk_hashes if not values.null_count() else chunk_hashes[values.is_not_null().to_numpy()])
        extremes.add(values)
    row_hashes = np.concatenate(hash_chunks)
    ordered = sort_keys(np.concatenate(filled_hash_chunks))
    distinct, counts = unique_counts(ordered)
    report["missing_count"] = int(row_hashes.size - ordered.size)
    report["distinct_count"] = int(distinct.size)
    if domain.type in {"STRING", "CATEGORY"}:
        report["min"], report["max"] = domain.to_json(extremes.low), domain.to_json(extremes.high)
    top_hashes, top_counts = most_common(distinct, counts, int(distinct.size))
    count_by_hash = dict(zip(top_hashes.tolist(), top_counts.tolist(), strict=True))
    value_by_hash: dict[int, Any] = {}
    for chunk in chunks() if count_by_hash else ():
        value_by_hash.update(values_of_hashes(domain.prepare(chunk), seed, top_hashes, value_by_hash))
        if len(value_by_hash) == len(count_by_hash):
            break
    report["top_values"] = rank_values(
        domain, [(value_by_hash[key], count) for key, count in count_by_hash.items() if key in value_by_hash]
    )
    return report, row_hashes


def values_of_hashes(values: pl.Series, seed: int, sought_hashes: Keys, known_values: dict[int, Any]) -> dict[int, Any]:
    """Return the values in `values` for those of `sought_hashes` that are not in `known_values`."""
    unresolved = {key for key in sought_hashes.tolist() if key not in known_values}
    value_by_hash: dict[int, Any] = {}
    # Common values appear early, so the scan usually stops long before the end.
    for start in range(0, values.len(), _SLICE_ROWS):
        if not unresolved:
            break
        value_slice = values.slice(start, _SLICE_ROWS)
        row_hashes = hashes(value_slice, seed)
        indices = pl.Series(row_hashes).is_in(list(unresolved)).arg_true().to_numpy()
        keys, first_indices = np.unique(row_hashes[indices], return_index=True)
        value_by_hash.update(zip(keys.tolist(), value_slice.gather(indices[first_indices]).to_list(), strict=True))
        unresolved -= value_by_hash.keys()
    return value_by_hash


def rank_values(domain: Domain, values: list[tuple[Any, int]]) -> list[ValueCount]:
    """Return the top values by descending count, then by value."""
    pairs = [(domain.to_json(value), count) for value, count in values]
    pairs.sort(key=lambda pair: (-pair[1], str(pair[0])))
    return [{"value": value, "count": count} for value, count in pairs[:TOP_VALUES]]


class Extremes:
    """Tracks the smallest and largest text, by code point."""

    def __init__(self) -> None:
        self.low: Any = None
        self.high: Any = None

    def add(self, values: pl.Series) -> None:
        if values.dtype != pl.String or values.null_count() == values.len():
            return
        low, high = values.min(), values.max()
        self.low = low if self.low is None else min(self.low, low)
        self.high = high if self.high is None else max(self.high, high)
