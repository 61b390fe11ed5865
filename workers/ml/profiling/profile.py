"""The profile of a Parquet file: which columns are read together, and what becomes of them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from workers.ml import limits
from workers.ml.profiling.correlations import Correlations
from workers.ml.profiling.distributions import Keys, edges, runs
from workers.ml.profiling.domains import Domain, Hashes, domain_of, hashes
from workers.ml.profiling.exact import profile_column
from workers.ml.profiling.report import PROFILER_VERSION, ColumnReport, ProfileReport
from workers.ml.profiling.sketches import SAMPLED_ROWS, ColumnSketch, DuplicateSketch
from workers.ml.reporting import Reporter
from workers.ml.writing import written_types

_CHUNK_ROWS: Final = 262_144
_CHUNK_CELLS: Final = 8_000_000
_COLUMN_BYTES: Final = 192 * limits.MIB
"""A text column larger than this is read in chunks even where the profile is exact."""
_SKETCHED_AT_ONCE: Final = 64
_THREADS: Final = 2


def profile_parquet(path: str, report: Reporter, lo: float = 0.0, hi: float = 100.0) -> ProfileReport:
    """Progress runs from `lo` to `hi` percent, most of it with the columns, in words like "profiling column 3 of 31 (alcohol)"."""
    return _Profile(Path(path), report, lo, hi).run()


class _Profile:
    def __init__(self, path: Path, report: Reporter, lo: float, hi: float) -> None:
        self._path = path
        self._report = report
        self._lo, self._hi = lo, hi
        metadata = pq.read_metadata(path)
        self._row_count: int = metadata.num_rows
        self._metadata = metadata
        self._sizes: dict[str, int] = {}
        self._places: dict[str, int] = {}
        for group in range(metadata.num_row_groups):
            for column in range(metadata.num_columns):
                part = metadata.row_group(group).column(column)
                name = part.path_in_schema.split(".")[0]
                self._places[name] = column
                self._sizes[name] = self._sizes.get(name, 0) + part.total_uncompressed_size
        written = written_types(path)
        self._schema = pl.read_parquet_schema(path)
        self._domains = [domain_of(name, dtype, written.get(name)) for name, dtype in self._schema.items()]
        self._done = 0
        self._matrix: Correlations | None = None
        self._groups: list[int] = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]

    def run(self) -> ProfileReport:
        start = time.perf_counter()
        is_exact = self._row_count <= limits.EXACT_ROWS
        columns, duplicates = self._exact() if is_exact else self._sketched()
        for column in columns:
            if column["type"] == "STRING" and _is_category(column, self._row_count):
                column["type"] = "CATEGORY"
        matrix = self._correlations()
        cells = self._row_count * len(columns)
        self._tell(1.0, "profiled")
        return {
            "profiler_version": PROFILER_VERSION,
            "is_exact": is_exact,
            "row_count": self._row_count,
            "duplicate_row_count": duplicates,
            "missing_cell_ratio": sum(column["missing_count"] for column in columns) / cells if cells else 0.0,
            "generation_time": time.perf_counter() - start,
            "columns": columns,
            "correlations": matrix,
        }

    def _tell(self, share: float, step: str) -> None:
        self._report.progress(self._lo + (self._hi - self._lo) * share, step)

    def _tell_column(self, domain: Domain) -> None:
        self._done += 1
        self._tell(0.9 * (self._done - 1) / len(self._domains), f"profiling column {self._done} of {len(self._domains)} ({domain.name})")

    # -- exact

    def _exact(self) -> tuple[list[ColumnReport], int]:
        reports: list[ColumnReport] = []
        rows: Hashes = np.zeros(self._row_count, dtype=np.uint64)
        with ThreadPoolExecutor(_THREADS) as pool:
            for batch in self._batches():
                frame = self._together(batch)

                def one(place: int, domain: Domain, frame: pl.DataFrame | None = frame) -> tuple[ColumnReport, Hashes]:
                    def chunks() -> Iterator[pl.Series]:
                        return self._chunks_of(domain.name) if frame is None else iter([frame[domain.name]])

                    return profile_column(domain, chunks, place)

                first = len(reports)
                for domain, (report, of_rows) in zip(batch, pool.map(one, range(first, first + len(batch)), batch), strict=True):
                    self._tell_column(domain)
                    reports.append(report)
                    rows += of_rows
        rows.sort()
        return reports, int(rows.size - runs(rows)[0].size)

    def _batches(self) -> Iterator[list[Domain]]:
        """Columns that are small enough to be read together; a large one comes alone."""
        batch: list[Domain] = []
        cells = size = 0
        for domain in self._domains:
            own = max(self._sizes.get(domain.name, 0), 8 * self._row_count)
            if batch and (size + own > _COLUMN_BYTES or cells + self._row_count > _CHUNK_CELLS):
                yield batch
                batch, cells, size = [], 0, 0
            batch.append(domain)
            cells += self._row_count
            size += own
        if batch:
            yield batch

    def _together(self, batch: list[Domain]) -> pl.DataFrame | None:
        if len(batch) == 1 and not batch[0].has_order and self._sizes.get(batch[0].name, 0) > _COLUMN_BYTES:
            return None
        return pl.read_parquet(self._path, columns=[domain.name for domain in batch])

    def _chunks_of(self, name: str) -> Iterator[pl.Series]:
        for frame in self._frames([name]):
            yield frame[name]

    def _frames(self, names: list[str]) -> Iterator[pl.DataFrame]:
        """Row groups, or parts of large ones."""
        most = max(1_000, min(_CHUNK_ROWS, _CHUNK_CELLS // max(1, len(names))))
        source = pl.scan_parquet(self._path).select(names)
        first = 0
        for rows in self._groups:
            # Reading a group twice costs less than cutting a small part off it.
            step = rows if rows < 2 * most else most
            for start in range(first, first + rows, max(1, step)):
                yield source.slice(start, min(step, first + rows - start)).collect()
            first += rows

    # -- sketched

    def _sketched(self) -> tuple[list[ColumnReport], int]:
        reports: list[ColumnReport] = []
        duplicates = DuplicateSketch(self._row_count)
        is_one_batch = len(self._domains) <= _SKETCHED_AT_ONCE
        bounds = self._bounds()
        with ThreadPoolExecutor(_THREADS) as pool:
            for first in range(0, len(self._domains), _SKETCHED_AT_ONCE):
                batch = self._domains[first : first + _SKETCHED_AT_ONCE]
                if is_one_batch:
                    self._matrix = Correlations(self._numbers())
                reports += self._sketch_batch(batch, first, bounds, duplicates if is_one_batch else None, pool)
            if not is_one_batch:
                self._tell(0.8, "looking for duplicate rows")
                for frame in self._frames([domain.name for domain in self._domains]):
                    rows: Hashes = np.zeros(frame.height, dtype=np.uint64)
                    for seed, domain in enumerate(self._domains):
                        rows += hashes(domain.prepared(frame[domain.name]), seed)
                    duplicates.add(rows)
        return reports, duplicates.count

    def _sketch_batch(
        self,
        batch: list[Domain],
        first: int,
        bounds: dict[str, Keys],
        duplicates: DuplicateSketch | None,
        pool: ThreadPoolExecutor,
    ) -> list[ColumnReport]:
        sketches = [ColumnSketch(domain, bounds.get(domain.name), first + place) for place, domain in enumerate(batch)]
        random = np.random.default_rng(self._row_count)
        share = SAMPLED_ROWS / self._row_count
        seen = 0
        for frame in self._frames([domain.name for domain in batch]):
            sampled = np.flatnonzero(random.random(frame.height) < share)

            def one(sketch: ColumnSketch, seed: int, frame: pl.DataFrame = frame, sampled: Keys = sampled) -> Hashes:
                values = sketch.domain.prepared(frame[sketch.domain.name])
                of_rows = hashes(values, seed)
                sketch.add(values, of_rows, sampled)
                return of_rows

            rows: Hashes = np.zeros(frame.height, dtype=np.uint64)
            matrix = None if self._matrix is None else pool.submit(self._matrix.add, frame)
            for of_rows in pool.map(one, sketches, range(first, first + len(batch))):
                rows += of_rows
            if matrix is not None:
                matrix.result()
            if duplicates is not None:
                duplicates.add(rows)
            seen += frame.height
            done = (first + len(batch) * seen / self._row_count) / len(self._domains)
            step = f"profiling columns {first + 1} to {first + len(batch)} of {len(self._domains)}, {seen:,} of {self._row_count:,} rows"
            self._tell(0.8 * done, step)
        return [sketch.report() for sketch in sketches]

    def _bounds(self) -> dict[str, Keys]:
        """Edges of the histograms, from the least and greatest finite values: those the file records, or else those found in it."""
        shown = [domain for domain in self._domains if domain.has_order and domain.has_histogram]
        found: dict[str, tuple[float, float]] = {}
        asked: list[pl.Expr] = []
        for domain in shown:
            if (recorded := self._recorded(domain)) is not None:
                found[domain.name] = recorded
                continue
            column = pl.col(domain.name)
            if self._schema[domain.name].is_float():
                column = column.filter(column.is_finite()).cast(pl.Float64)
            elif isinstance(self._schema[domain.name], pl.Datetime):
                column = column.dt.cast_time_unit("us")
            asked += [column.to_physical().min().alias(f"{domain.name}\0low"), column.to_physical().max().alias(f"{domain.name}\0high")]
        if asked:
            row = pl.scan_parquet(self._path).select(asked).collect(engine="streaming").row(0, named=True)
            for domain in shown:
                if row.get(f"{domain.name}\0low") is not None:
                    found[domain.name] = row[f"{domain.name}\0low"], row[f"{domain.name}\0high"]
        is_whole = {domain.name: not self._schema[domain.name].is_float() for domain in shown}
        return {name: edges(low, high, distinct=None, is_whole=is_whole[name]) for name, (low, high) in found.items()}

    def _recorded(self, domain: Domain) -> tuple[float, float] | None:
        """Least and greatest number of a column by the statistics of every row group."""
        if not domain.is_number:
            return None
        low, high = math.inf, -math.inf
        for group in range(self._metadata.num_row_groups):
            statistics = self._metadata.row_group(group).column(self._places[domain.name]).statistics
            if statistics is None or not statistics.has_min_max or not (math.isfinite(statistics.min) and math.isfinite(statistics.max)):
                return None
            low, high = min(low, statistics.min), max(high, statistics.max)
        return (low, high) if low <= high else None

    # -- correlations

    def _numbers(self) -> list[str]:
        return [domain.name for domain in self._domains if domain.is_number][: limits.CORRELATION_COLUMNS]

    def _correlations(self) -> dict[str, Any]:
        if self._matrix is None:
            self._tell(0.9, "correlating columns")
            self._matrix = Correlations(self._numbers())
            for frame in self._frames(self._numbers()) if self._numbers() else ():
                self._matrix.add(frame)
        return self._matrix.report()


def _is_category(column: ColumnReport, row_count: int) -> bool:
    """Few different values, each met often: at most 1,000, and five times each on average."""
    filled = row_count - column["missing_count"]
    return 0 < column["distinct_count"] <= limits.CATEGORY_VALUES and filled >= limits.CATEGORY_REPEATS * column["distinct_count"]
