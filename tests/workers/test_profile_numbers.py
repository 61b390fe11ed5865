"""The profile equals what pandas and polars compute from the same CSV."""

from __future__ import annotations

import io
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.lazy_module import LazyModule
from tests.workers.ingest_runner import IngestRecorder, run_ingest
from workers.ml import limits
from workers.ml.profiling import ColumnReport, ProfileReport, profile_parquet
from workers.ml.profiling.distributions import sort_keys

DATASETS: Any = LazyModule("sklearn.datasets")
PANDAS: Any = LazyModule("pandas")


def mixed(rows: int, seed: int) -> bytes:
    rng = np.random.default_rng(seed)

    def with_gaps(values: Any, share: float) -> list[Any]:
        return [None if is_missing else value for value, is_missing in zip(values.tolist(), rng.random(rows) < share, strict=True)]

    day = np.datetime64("2020-02-28")
    frame = pl.DataFrame(
        {
            "whole": with_gaps(rng.integers(-500, 500, rows), 0.05),
            "huge": rng.integers(2**55, 2**56, rows),
            "normal": with_gaps(rng.normal(1e6, 3.0, rows), 0.2),
            "skewed": rng.exponential(2.0, rows) ** 3,
            "constant": [7] * rows,
            "flag": with_gaps(rng.random(rows) < 0.3, 0.1),
            "color": with_gaps(np.array(["red", "green", "blüe"])[rng.integers(0, 3, rows)], 0.1),
            "word": [f"word {value}" for value in rng.integers(0, rows, rows)],
            "day": (day + rng.integers(0, 900, rows).astype("timedelta64[D]")).tolist(),
            "at": (day.astype("datetime64[us]") + rng.integers(0, 10**14, rows).astype("timedelta64[us]")).tolist(),
        }
    )
    frame = pl.concat([frame, frame.head(rows // 50)])
    return frame.write_csv(datetime_format="%Y-%m-%dT%H:%M:%S%.6f").encode()


def dataset_csv(name: str) -> bytes:
    return getattr(DATASETS, f"load_{name}")(as_frame=True).frame.to_csv(index=False).encode()


TABLES = {
    "mixed": lambda: mixed(3_000, 1),
    "small": lambda: mixed(60, 2),
    "breast cancer": lambda: dataset_csv("breast_cancer"),
    "wine": lambda: dataset_csv("wine"),
    "diabetes": lambda: dataset_csv("diabetes"),
}
_TEMPORAL_COLUMNS = ["day", "at"]


def run_profile(folder: Path, data: bytes) -> tuple[ProfileReport, dict[str, ColumnReport]]:
    result, _ = run_ingest(folder, data)
    return result["profile"], {column["name"]: column for column in result["profile"]["columns"]}


def is_close(actual: float | None, expected: float) -> bool:
    return actual is None if math.isnan(expected) else actual is not None and math.isclose(actual, expected, rel_tol=1e-9, abs_tol=1e-12)


@pytest.mark.parametrize("table", TABLES)
def test_every_number_is_the_one_pandas_computes(tmp_path: Path, table: str) -> None:
    data = TABLES[table]()
    profile, columns = run_profile(tmp_path, data)
    frame: Any = PANDAS.read_csv(io.BytesIO(data))  # pandas types a column access as one or many columns
    assert profile["is_exact"] is True
    assert profile["row_count"] == len(frame)
    assert profile["duplicate_row_count"] == int(frame.duplicated().sum())
    assert math.isclose(profile["missing_cell_ratio"], float(frame.isna().to_numpy().mean()))
    for name, column in columns.items():
        values = frame[name]
        assert column["missing_count"] == int(values.isna().sum()), name
        assert column["distinct_count"] == int(values.nunique()), name
        counts = values.value_counts()
        for entry in column["top_values"]:
            key = (
                PANDAS.Timestamp(entry["value"]).strftime("%Y-%m-%d" if name == "day" else "%Y-%m-%dT%H:%M:%S.%f")
                if name in _TEMPORAL_COLUMNS
                else entry["value"]
            )
            assert counts[key] == entry["count"], (name, entry)
        if column["type"] not in {"INTEGER", "FLOAT"}:
            continue
        assert (column["min"], column["max"]) == (values.min(), values.max()), name
        assert is_close(column["mean"], values.mean()), name
        assert is_close(column["standard_deviation"], values.std()), name
        assert column["quantiles"] is not None
        for share, value in column["quantiles"].items():
            assert is_close(value, float(values.quantile(float(share)))), (name, share)
        assert sum(place["count"] for place in column["histogram"]) == int(values.notna().sum()), name


@pytest.mark.parametrize("table", TABLES)
def test_every_number_is_the_one_polars_computes(tmp_path: Path, table: str) -> None:
    data = TABLES[table]()
    profile, columns = run_profile(tmp_path, data)
    frame = pl.read_csv(data, infer_schema_length=None, try_parse_dates=True)
    assert profile["duplicate_row_count"] == frame.height - frame.unique().height
    for name, column in columns.items():
        values = frame[name].drop_nulls()
        assert (column["missing_count"], column["distinct_count"]) == (frame[name].null_count(), values.n_unique()), name
        low, high = values.min(), values.max()
        if values.dtype.is_temporal():
            assert (column["min"], column["max"]) == (low.isoformat(), high.isoformat()), name  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess] - times here
            continue
        assert (column["min"], column["max"]) == (low, high), name
        if not values.dtype.is_numeric():
            continue
        for share, value in (column["quantiles"] or {}).items():
            assert is_close(value, values.cast(pl.Float64).quantile(float(share), "linear") or 0.0), (name, share)
        edges = [place["lower"] for place in column["histogram"]] + [column["histogram"][-1]["upper"]]
        if len(set(edges)) == len(edges):
            counts, _ = np.histogram(values.to_numpy(), bins=np.array(edges))
            assert [place["count"] for place in column["histogram"]] == counts.tolist(), name


@pytest.mark.parametrize("table", TABLES)
def test_correlations_are_those_of_pandas_pair_by_pair(tmp_path: Path, table: str) -> None:
    data = TABLES[table]()
    profile, columns = run_profile(tmp_path, data)
    correlations = profile["correlations"]
    numeric = [name for name, column in columns.items() if column["type"] in {"INTEGER", "FLOAT"}]
    assert (correlations["method"], correlations["columns"]) == ("pearson", numeric)
    frame: Any = PANDAS.read_csv(io.BytesIO(data))
    expected = frame[numeric].corr().to_numpy()
    for first, row in enumerate(correlations["matrix"]):
        for second, value in enumerate(row):
            target = expected[first][second]
            assert value is None if math.isnan(target) else math.isclose(value, target, rel_tol=1e-7, abs_tol=1e-9), (
                numeric[first],
                numeric[second],
            )


@pytest.mark.exhaustive
def test_correlations_cover_the_first_hundred_numeric_columns(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    frame = pl.DataFrame({f"c{place}": rng.normal(size=20) for place in range(130)})
    profile, _ = run_profile(tmp_path, frame.write_csv().encode())
    assert profile["correlations"]["columns"] == [f"c{place}" for place in range(100)]


def test_infinities_and_missing_columns_leave_no_number_that_json_lacks(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, columns = run_profile(tmp_path, b"a,b,c,d\n1.5,inf,,1.7e308\n2.5,-inf,,-1.7e308\n3.5,1.0,,0\n,NaN,,1\n")
    assert (columns["a"]["mean"], columns["a"]["standard_deviation"], columns["a"]["missing_count"]) == (2.5, 1.0, 1)
    b = columns["b"]
    assert (b["min"], b["max"], b["mean"], b["standard_deviation"], b["distinct_count"], b["missing_count"]) == (
        None,
        None,
        None,
        None,
        3,
        1,
    )
    assert b["histogram"] == [{"lower": 1.0, "upper": 1.0, "count": 1}]
    c = columns["c"]
    assert (c["distinct_count"], c["missing_count"], c["min"], c["quantiles"], c["histogram"], c["top_values"]) == (
        0,
        4,
        None,
        None,
        [],
        [],
    )
    assert sum(place["count"] for place in columns["d"]["histogram"]) == 4


def test_a_single_row_has_no_deviation(tmp_path: Path) -> None:
    profile, columns = run_profile(tmp_path, b"n,w\n5,x\n")
    assert (columns["n"]["mean"], columns["n"]["standard_deviation"]) == (5.0, None)
    assert columns["n"]["histogram"] == [{"lower": 5.0, "upper": 5.0, "count": 1}]
    assert profile["correlations"] == {"method": "pearson", "columns": ["n"], "matrix": [[None]]}


def test_whole_numbers_beyond_53_bits_stay_whole(tmp_path: Path) -> None:
    _, columns = run_profile(tmp_path, b"n,w\n9007199254740993,x\n9223372036854775807,y\n")
    assert (columns["n"]["min"], columns["n"]["max"]) == (9007199254740993, 9223372036854775807)


def test_dates_are_profiled_as_dates(tmp_path: Path) -> None:
    _, columns = run_profile(tmp_path, b"d,n\n2024-01-01,1\n2024-01-03,2\n2024-01-03,3\n")
    day = columns["d"]
    assert (day["min"], day["max"], day["top_values"][0]) == ("2024-01-01", "2024-01-03", {"value": "2024-01-03", "count": 2})
    assert [(place["lower"], place["count"]) for place in day["histogram"]] == [(1704067200.0, 1), (1704153600.0, 2)]


@pytest.mark.exhaustive
def test_sketches_stay_near_the_exact_numbers_and_say_that_they_are_sketches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = mixed(120_000, 4)
    exact, exact_columns = run_profile(tmp_path, data)
    monkeypatch.setattr(limits, "MAX_EXACT_PROFILE_ROWS", 10_000)
    sketch, sketch_columns = run_profile(tmp_path, data)
    assert (exact["is_exact"], sketch["is_exact"]) == (True, False)
    assert sketch["correlations"] == exact["correlations"] or np.allclose(
        np.array(sketch["correlations"]["matrix"], dtype=float), np.array(exact["correlations"]["matrix"], dtype=float), equal_nan=True
    )
    assert abs(sketch["duplicate_row_count"] - exact["duplicate_row_count"]) <= 0.1 * exact["duplicate_row_count"]
    for name, column in exact_columns.items():
        other = sketch_columns[name]
        for key in ("type", "missing_count", "min", "max"):
            assert other[key] == column[key], (name, key)
        assert abs(other["distinct_count"] - column["distinct_count"]) <= 0.04 * column["distinct_count"], name
        if column["distinct_count"] < 4_000:
            assert other["distinct_count"] == column["distinct_count"], name
            assert other["top_values"] == column["top_values"], name
        if column["mean"] is not None:
            assert is_close(other["mean"], column["mean"]), name
            assert is_close(other["standard_deviation"], column["standard_deviation"] or 0.0), name
        assert [place["count"] for place in other["histogram"]] == [place["count"] for place in column["histogram"]], name
        if column["type"] == "FLOAT":
            assert math.isclose(other["quantiles"]["0.5"], column["quantiles"]["0.5"], rel_tol=0.02), name  # pyright: ignore[reportOptionalSubscript] - numbers have quantiles


def test_rows_that_differ_are_never_called_duplicates(tmp_path: Path) -> None:
    """Weak row hashes collide for adjacent integers in many columns."""
    grid = np.arange(200_000)
    frame = pl.DataFrame({"a": grid % 10, "b": grid // 10 % 100, "c": grid // 1_000, "d": -grid, "e": grid % 2 == 0})
    profile, _ = run_profile(tmp_path, frame.write_csv().encode())
    assert profile["duplicate_row_count"] == 0


def test_progress_is_told_in_words(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"alcohol": [1.5, 2.5], "color": ["red", "white"]}).write_parquet(path)
    recorder = IngestRecorder()
    profile_parquet(str(path), recorder, start_percent=50, end_percent=100)
    assert recorder.steps == [
        (50.0, "Profile: column 1 of 2 (alcohol)"),
        (72.5, "Profile: column 2 of 2 (color)"),
        (95.0, "Correlate columns"),
        (100.0, "Profile"),
    ]


@pytest.mark.parametrize("dtype", ["float64", "int64", "uint64", "uint8"])
def test_keys_are_sorted_by_value(seed: int, dtype: str) -> None:
    rng = np.random.default_rng(seed)
    if dtype == "float64":
        info: Any = np.finfo(dtype)
        extremes = [info.min, info.max, info.smallest_subnormal, -info.smallest_subnormal, math.inf, -math.inf, 0.0, -0.0, 1.5, -1.5]
        keys = np.concatenate((rng.normal(0, 1, 1_000), extremes))
    else:
        limits_of_type = np.iinfo(dtype)
        keys = rng.integers(limits_of_type.min, limits_of_type.max, 1_000, dtype=dtype, endpoint=True)
        keys[:2] = limits_of_type.min, limits_of_type.max
    ordered = sort_keys(keys)
    assert ordered.dtype == keys.dtype
    assert ordered.tolist() == sorted(keys.tolist())
    assert sort_keys(keys[:0]).tolist() == []


def test_negative_zeros_come_first() -> None:
    assert [math.copysign(1, key) for key in sort_keys(np.array([0.0, -0.0, 0.0, -0.0])).tolist()] == [-1, -1, 1, 1]
