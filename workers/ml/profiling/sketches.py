"""Profile of one column in constant memory, merged chunk by chunk.

Moments, extremes and histograms are exact. Distinct counts come from the 16,384 smallest hashes (Bar-Yossef et al., 2002; standard error
0.8 %, exact below that many). Quantiles come from a uniform sample of 250,000 rows (standard error of the rank at the median 0.1 %). Top
values come from counters of which the rare ones are dropped (Misra and Gries, 1982; exact while a column has at most 4,096 distinct
values per chunk and 16,384 in total).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import polars as pl

from workers.ml.profiling.distributions import (
    Moments,
    bin_counts,
    finite_keys,
    make_bins,
    most_common,
    quantiles,
    sort_keys,
    unique_counts,
    unique_values,
)
from workers.ml.profiling.domains import Domain, Hashes, Keys
from workers.ml.profiling.exact import Extremes, empty_report, rank_values, values_of_hashes
from workers.ml.profiling.report import ColumnReport

SMALLEST_HASHES: Final = 16_384
SAMPLED_ROWS: Final = 250_000
_MAX_COUNTERS: Final = 16_384
_MAX_CHUNK_COUNTERS: Final = 4_096


class DistinctSketch:
    """Estimates the number of distinct hashes from the smallest ones (k minimum values)."""

    def __init__(self) -> None:
        self._smallest: Hashes = np.empty(0, dtype=np.uint64)
        self._limit: int | None = None

    def add(self, hashes: Hashes) -> None:
        if self._limit is not None:
            hashes = hashes[hashes < np.uint64(self._limit)]
        if not hashes.size:
            return
        self._smallest = unique_values(np.concatenate((self._smallest, hashes)))[:SMALLEST_HASHES]
        if self._smallest.size == SMALLEST_HASHES:
            self._limit = int(self._smallest[-1])

    @property
    def count(self) -> int:
        if self._limit is None:
            return int(self._smallest.size)
        return round((SMALLEST_HASHES - 1) * 2.0**64 / self._limit)


class FrequentItemsSketch:
    """Approximate counts of frequent keys."""

    def __init__(self, dtype: Any) -> None:
        self.keys: Keys = np.empty(0, dtype=dtype)
        self.counts: Keys = np.empty(0, dtype=np.int64)

    def add(self, keys: Keys, counts: Keys) -> None:
        if keys.size > _MAX_CHUNK_COUNTERS:
            frequent = np.flatnonzero(counts > 1)
            if frequent.size > _MAX_CHUNK_COUNTERS:
                frequent = frequent[np.argpartition(-counts[frequent], _MAX_CHUNK_COUNTERS)[:_MAX_CHUNK_COUNTERS]]
            keys, counts = keys[frequent], counts[frequent]
        if not keys.size:
            return
        combined = np.concatenate((self.keys, keys))
        order = np.argsort(combined, kind="stable")
        combined = combined[order]
        starts = np.concatenate(([0], np.flatnonzero(combined[1:] != combined[:-1]) + 1))
        merged, totals = combined[starts], np.add.reduceat(np.concatenate((self.counts, counts))[order], starts)
        if merged.size > _MAX_COUNTERS:
            top_indices = np.sort(np.argpartition(-totals, _MAX_COUNTERS // 2)[: _MAX_COUNTERS // 2])
            merged, totals = merged[top_indices], totals[top_indices]
        self.keys, self.counts = merged, totals


class ColumnSketch:
    """`edges` are the histogram's, None for a column without one; `seed` is the seed of the column's hashes."""

    def __init__(self, domain: Domain, edges: Keys | None, seed: int) -> None:
        self.domain = domain
        self._edges = edges
        self._bins: Keys | None = None
        self._seed = seed
        self._missing = 0
        self._infinite = 0
        self._moments = Moments()
        self._low: Any = None
        self._high: Any = None
        self._extremes = Extremes()
        self._distinct = DistinctSketch()
        self._frequent: FrequentItemsSketch | None = None
        self._sample: list[Keys] = []
        self._texts: dict[int, Any] = {}

    def add(self, values: pl.Series, hashes: Hashes, sampled: Keys) -> None:
        """Add a chunk. `values` were prepared by the domain; `sampled` are the indices of the chunk's rows that are in the sample."""
        missing = values.null_count()
        self._missing += missing
        is_filled = values.is_not_null().to_numpy() if missing else None
        self._distinct.add(hashes if is_filled is None else hashes[is_filled])
        if missing == values.len():
            return
        filled = values.drop_nulls() if missing else values
        if not self.domain.has_order:
            self._extremes.add(filled)
            keys: Keys = hashes if is_filled is None else hashes[is_filled]
            self._count(*unique_counts(sort_keys(keys)))
            assert self._frequent is not None  # set by _count
            top_keys = self._frequent.keys[np.argsort(-self._frequent.counts)[:50]]
            self._texts.update(values_of_hashes(filled, self._seed, top_keys, self._texts))
            if self.domain.type == "DECIMAL":
                self._add_decimals(values, filled, sampled)
            return
        keys = self.domain.keys(filled)
        ordered = sort_keys(keys)
        if self.domain.type == "FLOAT" and not (np.isfinite(ordered[0]) and np.isfinite(ordered[-1])):
            self._infinite += int(np.isinf(ordered).sum())
        if self.domain.has_moments:
            self._moments.add(self.domain.amounts(keys))
        self._low = ordered[0].item() if self._low is None else min(self._low, ordered[0].item())
        self._high = ordered[-1].item() if self._high is None else max(self._high, ordered[-1].item())
        self._count(*unique_counts(ordered))
        if self.domain.has_histogram:
            self._add_distribution(values, ordered, sampled)

    def _add_decimals(self, values: pl.Series, filled: pl.Series, sampled: Keys) -> None:
        keys = self.domain.keys(filled)
        self._moments.add(keys)
        low, high = filled.min(), filled.max()
        self._low = low if self._low is None else min(self._low, low)
        self._high = high if self._high is None else max(self._high, high)
        self._add_distribution(values, sort_keys(keys), sampled)

    def _add_distribution(self, values: pl.Series, ordered: Keys, sampled: Keys) -> None:
        self._sample.append(self.domain.keys(values.gather(sampled).drop_nulls()))
        if self._edges is not None:
            counts = bin_counts(finite_keys(ordered), self._edges)
            self._bins = counts if self._bins is None else self._bins + counts

    def _count(self, keys: Keys, counts: Keys) -> None:
        if self._frequent is None:
            self._frequent = FrequentItemsSketch(keys.dtype)
        self._frequent.add(keys, counts)

    def report(self) -> ColumnReport:
        report = empty_report(self.domain)
        report["missing_count"] = self._missing
        if self.domain.type == "FLOAT":
            report["infinite_count"] = self._infinite
        report["distinct_count"] = self._distinct.count
        if self._frequent is None:
            return report
        keys, counts = most_common(self._frequent.keys, self._frequent.counts, report["distinct_count"])
        if not self.domain.has_order:
            if self.domain.type in {"STRING", "CATEGORY"}:
                report["min"], report["max"] = self.domain.to_json(self._extremes.low), self.domain.to_json(self._extremes.high)
            pairs = [(self._texts[key], count) for key, count in zip(keys.tolist(), counts.tolist(), strict=True) if key in self._texts]
            report["top_values"] = rank_values(self.domain, pairs)
            if self.domain.type != "DECIMAL":
                return report
        report["min"], report["max"] = self.domain.to_json(self._low), self.domain.to_json(self._high)
        if self.domain.has_order:
            report["top_values"] = [
                {"value": self.domain.to_json(key), "count": count}
                for key, count in zip(keys[:10].tolist(), counts[:10].tolist(), strict=True)
            ]
        if self.domain.has_moments:
            report["mean"], report["standard_deviation"] = self._moments.mean_or_none, self._moments.deviation_or_none
        if self.domain.has_histogram:
            report["quantiles"] = quantiles(sort_keys(np.concatenate(self._sample)), self.domain) if self._sample else None
            if self._edges is not None and self._bins is not None:
                report["histogram"] = make_bins(self._edges, self._bins, self.domain)
        return report


class DuplicateSketch:
    """Estimates duplicate rows from the rows whose hash falls into a sampled slice.

    All copies of a row have the same hash, so a table without duplicates is estimated as zero.
    """

    def __init__(self, row_count: int) -> None:
        self._sampling_factor = 1 << max(0, (row_count // 1_000_000).bit_length())
        self._sampled_hashes: list[Hashes] = []

    def add(self, hashes: Hashes) -> None:
        self._sampled_hashes.append(hashes[hashes & np.uint64(self._sampling_factor - 1) == 0])

    @property
    def count(self) -> int:
        sampled = np.concatenate(self._sampled_hashes) if self._sampled_hashes else np.empty(0, dtype=np.uint64)
        return int(sampled.size - unique_values(sampled).size) * self._sampling_factor
