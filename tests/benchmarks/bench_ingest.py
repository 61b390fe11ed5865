"""Ingest of a CSV, with types, checks, issues, checksum and full profile, against plain `polars.scan_csv().sink_parquet()`.

The size is 1 GB unless `TRELLIS_BENCH_CSV_MB` is set. Both run alternately in new child processes, and the best of two counts. The ratio
is theirs over ours; the target is at least 0.2.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

MEGABYTES = int(os.environ.get("TRELLIS_BENCH_CSV_MB", "1000"))
_ROOT = Path(__file__).parents[2]
_TURNS = 2
_BLOCK = 200_000

_BARE = """
import resource, sys, time
import polars
start, cpu = time.perf_counter(), time.process_time()
polars.scan_csv(sys.argv[1]).sink_parquet(sys.argv[2] + "/bare.parquet")
print(time.perf_counter() - start, time.process_time() - cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
_OURS = """
import resource, sys, time
from pathlib import Path
from tests.workers.ingest_runner import IngestRecorder
from workers.ml.ingest import ingest
start, cpu = time.perf_counter(), time.process_time()
path = Path(sys.argv[1])
spec = {"source": str(path), "folder": sys.argv[2], "filename": path.name, "size": path.stat().st_size, "sha256": None}
result = ingest(spec, IngestRecorder())
print(time.perf_counter() - start, time.process_time() - cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
assert result["issue_count"] == 0
"""


def make_csv(path: Path, megabytes: int) -> int:
    """Write twelve columns of every kind, 2 % of one missing; return the number of rows."""
    rng = np.random.default_rng(1)
    words = np.array([f"word{number}" for number in range(5_000)])
    cities = np.array(["Paris", "Berlin", "Oslo", "Rome", "New York", "São Paulo"])
    rows = 0
    start = np.datetime64("2020-01-01T00:00:00")
    with path.open("wb") as file:
        while file.tell() < megabytes * 1_000_000:
            frame = pl.DataFrame(
                {
                    "id": np.arange(rows, rows + _BLOCK),
                    "amount": rng.normal(100, 20, _BLOCK).round(4),
                    "price": rng.random(_BLOCK) * 1_000,
                    "quantity": rng.integers(0, 50, _BLOCK),
                    "city": cities[rng.integers(0, cities.size, _BLOCK)],
                    "paid": rng.random(_BLOCK) < 0.5,
                    "day": start.astype("datetime64[D]") + rng.integers(0, 1_500, _BLOCK).astype("timedelta64[D]"),
                    "at": start.astype("datetime64[us]") + (rng.integers(0, 10**8, _BLOCK) * 1_000_000).astype("timedelta64[us]"),
                    "note": pl.Series(words[rng.integers(0, 5_000, _BLOCK)]) + " " + pl.Series(words[rng.integers(0, 5_000, _BLOCK)]),
                    "x": pl.Series(rng.normal(0, 1, _BLOCK).round(6)).set(pl.Series(rng.random(_BLOCK) < 0.02), None),
                    "y": rng.exponential(1, _BLOCK).round(6),
                    "big": rng.integers(0, 10**12, _BLOCK),
                }
            )
            file.write(frame.write_csv(include_header=rows == 0, datetime_format="%Y-%m-%dT%H:%M:%S").encode())
            rows += _BLOCK
    return rows


def run_child(code: str, path: Path, folder: Path) -> tuple[float, float, int]:
    """Return wall-clock seconds, CPU seconds and peak memory in MiB."""
    completed = subprocess.run([sys.executable, "-c", code, str(path), str(folder)], capture_output=True, text=True, check=True, cwd=_ROOT)
    wall, cpu, peak = completed.stdout.split()
    return float(wall), float(cpu), int(peak)


def test_ingest_against_bare_polars() -> None:
    with tempfile.TemporaryDirectory(prefix="trellis-bench-") as name:
        folder = Path(name)
        path = folder / "large.csv"
        rows = make_csv(path, MEGABYTES)
        bare: list[tuple[float, float, int]] = []
        ours: list[tuple[float, float, int]] = []
        for _ in range(_TURNS):
            bare.append(run_child(_BARE, path, folder))
            ours.append(run_child(_OURS, path, folder))
        print(f"\n{path.stat().st_size / 1e6:,.0f} MB of CSV, {rows:,} rows, {os.cpu_count()} processors")
        for label, runs in (("polars.scan_csv().sink_parquet()", bare), ("ingest: types, checks, full profile", ours)):
            wall, cpu, peak = min(runs)
            print(f"{label:<38} {wall:>7.2f} s {cpu:>7.2f} s of processor {peak:>6,} MiB at the peak")
        print(f"ratio {min(bare)[0] / min(ours)[0]:.2f} (to reach: 0.20)")


if __name__ == "__main__":
    test_ingest_against_bare_polars()
