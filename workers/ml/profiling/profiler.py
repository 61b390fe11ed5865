"""Profile of a Parquet file: batches of columns, exact or sketched."""

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
from workers.ml.parquet_writer import stored_types
from workers.ml.profiler_version import PROFILER_VERSION
from workers.ml.profiling.correlations import Correlations
from workers.ml.profiling.distributions import Keys, bin_edges, unique_values
from workers.ml.profiling.domains import Domain, Hashes, domain_of, hashes
from workers.ml.profiling.exact import profile_column
from workers.ml.profiling.report import ColumnReport, ProfileReport
from workers.ml.profiling.sketches import SAMPLED_ROWS, ColumnSketch, DuplicateSketch
from workers.ml.reporting import ProgressReporter

_CHUNK_ROWS: Final = 262_144
_CHUNK_CELLS: Final = 8_000_000
_COLUMN_BYTES: Final = 192 * limits.MIB
"""A text column larger than this is read in chunks even for an exact profile."""
_SKETCH_BATCH_COLUMNS: Final = 64
_THREADS: Final = 2


def profile_parquet(path: str, reporter: ProgressReporter, start_percent: float = 0.0, end_percent: float = 100.0) -> ProfileReport:
    """Profile a Parquet file; see `workers.ml.profiling` for the definitions.

    Progress runs from `start_percent` to `end_percent`, with steps such as "Profile: column 3 of 31 (alcohol)".
    """
    return _Profiler(Path(path), reporter, start_percent, end_percent).run()


class _Profiler:
    def __init__(self, path: Path, reporter: ProgressReporter, start_percent: float, end_percent: float) -> None:
        self._path = path
        self._reporter = reporter
        self._start_percent, self._end_percent = start_percent, end_percent
        metadata = pq.read_metadata(path)
        self._row_count: int = metadata.num_rows
        self._metadata = metadata
        self._column_bytes: dict[str, int] = {}
        self._column_indices: dict[str, int] = {}
        for group in range(metadata.num_row_groups):
            for column in range(metadata.num_columns):
                column_chunk = metadata.row_group(group).column(column)
                name = column_chunk.path_in_schema.split(".")[0]
                self._column_indices[name] = column
                self._column_bytes[name] = self._column_bytes.get(name, 0) + column_chunk.total_uncompressed_size
        recorded_types = stored_types(path)
        self._schema = pl.read_parquet_schema(path)
        self._domains = [domain_of(name, dtype, recorded_types.get(name)) for name, dtype in self._schema.items()]
        self._reported_columns = 0
        self._correlation_sums: Correlations | None = None
        self._row_group_sizes: list[int] = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]

    def run(self) -> ProfileReport:
        start = time.perf_counter()
        is_exact = self._row_count <= limits.MAX_EXACT_PROFILE_ROWS
        columns, duplicate_count = self._exact() if is_exact else self._sketched()
        for column in columns:
            if column["type"] == "STRING" and _is_category(column, self._row_count):
                column["type"] = "CATEGORY"
        correlations = self._correlations()
        cells = self._row_count * len(columns)
        self._report_progress(1.0, "Profile")
        return {
            "profiler_version": PROFILER_VERSION,
            "is_exact": is_exact,
            "row_count": self._row_count,
            "duplicate_row_count": duplicate_count,
            "missing_cell_ratio": sum(column["missing_count"] for column in columns) / cells if cells else 0.0,
            "generation_time": time.perf_counter() - start,
            "columns": columns,
            "correlations": correlations,
        }

    def _report_progress(self, share: float, step: str) -> None:
        self._reporter.progress(self._start_percent + (self._end_percent - self._start_percent) * share, step)

    def _report_column(self, domain: Domain) -> None:
        self._reported_columns += 1
        self._report_progress(
            0.9 * (self._reported_columns - 1) / len(self._domains),
            f"Profile: column {self._reported_columns} of {len(self._domains)} ({domain.name})",
        )

    # -- exact

    def _exact(self) -> tuple[list[ColumnReport], int]:
        reports: list[ColumnReport] = []
        row_hashes: Hashes = np.zeros(self._row_count, dtype=np.uint64)
        with ThreadPoolExecutor(_THREADS) as pool:
            for batch in self._batches():
                frame = self._read_batch(batch)

                def profile_one(seed: int, domain: Domain, frame: pl.DataFrame | None = frame) -> tuple[ColumnReport, Hashes]:
                    def chunks() -> Iterator[pl.Series]:
                        return self._column_chunks(domain.name) if frame is None else iter([frame[domain.name]])

                    return profile_column(domain, chunks, seed)

                first = len(reports)
                for domain, (report, column_hashes) in zip(
                    batch, pool.map(profile_one, range(first, first + len(batch)), batch), strict=True
                ):
                    self._report_column(domain)
                    reports.append(report)
                    row_hashes += column_hashes
        return reports, int(row_hashes.size - unique_values(row_hashes).size)

    def _batches(self) -> Iterator[list[Domain]]:
        """Group columns that are small enough to be read together; a large one forms its own batch."""
        batch: list[Domain] = []
        cells = size = 0
        for domain in self._domains:
            column_bytes = max(self._column_bytes.get(domain.name, 0), 8 * self._row_count)
            if batch and (size + column_bytes > _COLUMN_BYTES or cells + self._row_count > _CHUNK_CELLS):
                yield batch
                batch, cells, size = [], 0, 0
            batch.append(domain)
            cells += self._row_count
            size += column_bytes
        if batch:
            yield batch

    def _read_batch(self, batch: list[Domain]) -> pl.DataFrame | None:
        if len(batch) == 1 and not batch[0].has_order and self._column_bytes.get(batch[0].name, 0) > _COLUMN_BYTES:
            return None
        return pl.read_parquet(self._path, columns=[domain.name for domain in batch])

    def _column_chunks(self, name: str) -> Iterator[pl.Series]:
        for frame in self._frames([name]):
            yield frame[name]

    def _frames(self, names: list[str]) -> Iterator[pl.DataFrame]:
        """Yield the rows by row group; large row groups are sliced."""
        max_rows = max(1_000, min(_CHUNK_ROWS, _CHUNK_CELLS // max(1, len(names))))
        source = pl.scan_parquet(self._path).select(names)
        first_row = 0
        for group_rows in self._row_group_sizes:
            # Each slice reads its row group again, so one below twice the maximum is not sliced.
            slice_rows = group_rows if group_rows < 2 * max_rows else max_rows
            for start in range(first_row, first_row + group_rows, max(1, slice_rows)):
                yield source.slice(start, min(slice_rows, first_row + group_rows - start)).collect()
            first_row += group_rows

    # -- sketched

    def _sketched(self) -> tuple[list[ColumnReport], int]:
        reports: list[ColumnReport] = []
        duplicates = DuplicateSketch(self._row_count)
        is_one_batch = len(self._domains) <= _SKETCH_BATCH_COLUMNS
        edges_by_column = self._histogram_edges()
        with ThreadPoolExecutor(_THREADS) as pool:
            for first in range(0, len(self._domains), _SKETCH_BATCH_COLUMNS):
                batch = self._domains[first : first + _SKETCH_BATCH_COLUMNS]
                if is_one_batch:
                    self._correlation_sums = Correlations(self._numeric_columns())
                reports += self._sketch_batch(batch, first, edges_by_column, duplicates if is_one_batch else None, pool)
            if not is_one_batch:
                self._report_progress(0.8, "Look for duplicate rows")
                for frame in self._frames([domain.name for domain in self._domains]):
                    row_hashes: Hashes = np.zeros(frame.height, dtype=np.uint64)
                    for seed, domain in enumerate(self._domains):
                        row_hashes += hashes(domain.prepare(frame[domain.name]), seed)
                    duplicates.add(row_hashes)
        return reports, duplicates.count

    def _sketch_batch(
        self,
        batch: list[Domain],
        first: int,
        edges_by_column: dict[str, Keys],
        duplicates: DuplicateSketch | None,
        pool: ThreadPoolExecutor,
    ) -> list[ColumnReport]:
        sketches = [ColumnSketch(domain, edges_by_column.get(domain.name), first + offset) for offset, domain in enumerate(batch)]
        random = np.random.default_rng(self._row_count)
        share = SAMPLED_ROWS / self._row_count
        rows_done = 0
        for frame in self._frames([domain.name for domain in batch]):
            sampled = np.flatnonzero(random.random(frame.height) < share)

            def update_sketch(sketch: ColumnSketch, seed: int, frame: pl.DataFrame = frame, sampled: Keys = sampled) -> Hashes:
                values = sketch.domain.prepare(frame[sketch.domain.name])
                column_hashes = hashes(values, seed)
                sketch.add(values, column_hashes, sampled)
                return column_hashes

            row_hashes: Hashes = np.zeros(frame.height, dtype=np.uint64)
            correlation_future = None if self._correlation_sums is None else pool.submit(self._correlation_sums.add, frame)
            for column_hashes in pool.map(update_sketch, sketches, range(first, first + len(batch))):
                row_hashes += column_hashes
            if correlation_future is not None:
                correlation_future.result()
            if duplicates is not None:
                duplicates.add(row_hashes)
            rows_done += frame.height
            done = (first + len(batch) * rows_done / self._row_count) / len(self._domains)
            step = (
                f"Profile: columns {first + 1} to {first + len(batch)} of {len(self._domains)}, {rows_done:,} of {self._row_count:,} rows"
            )
            self._report_progress(0.8 * done, step)
        return [sketch.report() for sketch in sketches]

    def _histogram_edges(self) -> dict[str, Keys]:
        """Histogram edges from the finite extremes of each column: those in the file's statistics, else computed by a scan."""
        domains = [domain for domain in self._domains if (domain.has_order or domain.is_number) and domain.has_histogram]
        extremes: dict[str, tuple[float, float]] = {}
        expressions: list[pl.Expr] = []
        for domain in domains:
            if (recorded := self._recorded_extremes(domain)) is not None:
                extremes[domain.name] = recorded
                continue
            column = pl.col(domain.name)
            if self._schema[domain.name].is_float():
                column = column.filter(column.is_finite()).cast(pl.Float64)
            elif self._schema[domain.name].is_decimal():
                column = column.cast(pl.Float64)
            elif isinstance(self._schema[domain.name], pl.Datetime | pl.Duration):
                column = column.dt.cast_time_unit("us")
            expressions += [
                column.to_physical().min().alias(f"{domain.name}\0low"),
                column.to_physical().max().alias(f"{domain.name}\0high"),
            ]
        if expressions:
            row = pl.scan_parquet(self._path).select(expressions).collect(engine="streaming").row(0, named=True)
            for domain in domains:
                if row.get(f"{domain.name}\0low") is not None:
                    extremes[domain.name] = row[f"{domain.name}\0low"], row[f"{domain.name}\0high"]
        is_whole = {domain.name: not (self._schema[domain.name].is_float() or domain.type == "DECIMAL") for domain in domains}
        return {name: bin_edges(low, high, distinct=None, is_whole=is_whole[name]) for name, (low, high) in extremes.items()}

    def _recorded_extremes(self, domain: Domain) -> tuple[float, float] | None:
        """Minimum and maximum of a numeric column by its row group statistics; None if any row group lacks finite ones."""
        if not domain.is_number:
            return None
        low, high = math.inf, -math.inf
        for group in range(self._metadata.num_row_groups):
            statistics = self._metadata.row_group(group).column(self._column_indices[domain.name]).statistics
            if statistics is None or not statistics.has_min_max or not (math.isfinite(statistics.min) and math.isfinite(statistics.max)):
                return None
            low, high = min(low, float(statistics.min)), max(high, float(statistics.max))
        return (low, high) if low <= high else None

    # -- correlations

    def _numeric_columns(self) -> list[str]:
        return [domain.name for domain in self._domains if domain.is_number][: limits.MAX_CORRELATION_COLUMNS]

    def _correlations(self) -> dict[str, Any]:
        if self._correlation_sums is None:
            self._report_progress(0.9, "Correlate columns")
            self._correlation_sums = Correlations(self._numeric_columns())
            for frame in self._frames(self._numeric_columns()) if self._numeric_columns() else ():
                self._correlation_sums.add(frame)
        return self._correlation_sums.report()


def _is_category(column: ColumnReport, row_count: int) -> bool:
    """True for at most 1,000 distinct values that occur five times each on average."""
    filled = row_count - column["missing_count"]
    return 0 < column["distinct_count"] <= limits.MAX_CATEGORY_VALUES and filled >= limits.MIN_CATEGORY_REPEATS * column["distinct_count"]
