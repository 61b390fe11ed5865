"""JSON, JSON lines, Parquet and Excel keep their own types."""

from __future__ import annotations

import io
import json
import random
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from tests.exhaustive import exhaustive
from tests.workers.ingest_runner import column_types, issue_locations, run_ingest
from tests.workers.test_bad_files import parquet, workbook
from workers.ml import limits

_OBJECTS: list[dict[str, Any]] = [
    {"n": 1, "f": 1, "b": True, "s": "007", "d": "2024-02-29", "o": {"x": [1, 2]}, "gone": None},
    {"n": 2, "f": 2.5, "b": None, "s": 'é\n"q"', "d": "2023-01-01", "o": [], "late": "x"},
    {"n": None, "f": None, "b": False, "s": "NA", "d": None, "o": None, "late": "y"},
]
_ROWS = [
    (1, 1.0, True, "007", date(2024, 2, 29), '{"x":[1,2]}', None, None),
    (2, 2.5, None, 'é\n"q"', date(2023, 1, 1), "[]", None, "x"),
    (None, None, False, None, None, None, None, "y"),
]
_TYPES = {"n": "INTEGER", "f": "FLOAT", "b": "BOOLEAN", "s": "STRING", "d": "DATE", "o": "JSON", "gone": "STRING", "late": "STRING"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("form", ["lines", "array", "pretty array", "inside an object"])
def test_objects_are_the_same_table_however_they_are_written(tmp_path: Path, form: str, encoding: str) -> None:
    text, name = {
        "lines": ("\n\n".join(json.dumps(row) for row in _OBJECTS), "a.jsonl"),
        "array": (json.dumps(_OBJECTS, ensure_ascii=False), "a.json"),
        "pretty array": (json.dumps(_OBJECTS, indent=2), "a.txt"),
        "inside an object": (json.dumps({"meta": {"count": 3}, "data": _OBJECTS}, indent=1), "a.json"),
    }[form]
    result, frame = run_ingest(tmp_path, text.encode(encoding), name)
    assert (frame.rows(), column_types(result), issue_locations(result)) == (
        _ROWS,
        _TYPES,
        [("MISSING_WORDS", "s", 3), ("EMPTY_COLUMN", "gone", None)],
    )
    assert result["format"] == ("JSONL" if form == "lines" else "JSON")
    assert result["preview"][0]["o"] == {"x": [1, 2]}


def test_columns_of_a_json_object_are_a_table(tmp_path: Path) -> None:
    _, frame = run_ingest(tmp_path, b'{"a": [1, 2], "b": ["x", null]}', "a.json")
    assert frame.rows() == [(1, "x"), (2, None)]


@pytest.mark.parametrize("count", [400, exhaustive(4_000)])
def test_random_objects_come_back_through_small_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, count: int) -> None:
    monkeypatch.setattr(limits, "BLOCK_BYTES", 1_024)
    rng = random.Random(seed)
    alphabet = ["a", "é", '"', "\\", "[", "{", "}", "]", ",", ":", "\n", "漢"]
    rows = [
        {
            "n": rng.randrange(-(2**60), 2**60),
            "f": rng.random(),
            "s": "w" + "".join(rng.choices(alphabet, k=9)),
            "o": {"k": "".join(rng.choices(alphabet, k=4))},
        }
        for _ in range(count)
    ]
    for name, data in (("a.json", json.dumps(rows)), ("a.jsonl", "\n".join(json.dumps(row) for row in rows))):
        _, frame = run_ingest(tmp_path, data.encode(), name)
        assert [row | {"o": json.loads(row["o"])} for row in frame.to_dicts()] == rows


def test_a_json_column_of_mixed_kinds(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"mostly": n, "mixed": n if n % 2 else "x", "wide": 2**63 if n == 7 else n} for n in range(200)]
    rows[150]["mostly"] = "abc"
    result, frame = run_ingest(tmp_path, "\n".join(json.dumps(row) for row in rows).encode(), "a.jsonl")
    assert column_types(result) == {"mostly": "INTEGER", "mixed": "STRING", "wide": "DECIMAL"}
    assert (frame["mostly"][150], frame["mixed"][3], frame["wide"][7]) == (None, "3", Decimal(2**63))
    assert issue_locations(result) == [("BAD_VALUE", "mostly", 151)]


def test_a_json_column_whose_late_values_differ_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BLOCK_BYTES", 4_096)
    rows: list[dict[str, Any]] = [
        {"n": n if n < 900 else n + 0.5, "t": "2024-01-01" if n < 800 else "no date"} | ({"new": True} if n > 950 else {})
        for n in range(1_000)
    ]
    result, frame = run_ingest(tmp_path, "\n".join(json.dumps(row) for row in rows).encode(), "a.jsonl")
    assert column_types(result) == {"n": "FLOAT", "t": "CATEGORY", "new": "BOOLEAN"}
    assert (frame["n"].sum(), frame["t"][0], frame["new"].sum()) == (sum(row["n"] for row in rows), "2024-01-01", 49)


def test_parquet_types_become_ours(tmp_path: Path) -> None:
    table = pa.table(
        {
            "i": pa.array([1, None], pa.int8()),
            "u": pa.array([1, 2], pa.uint64()),
            "wide": pa.array([1, 2**64 - 1], pa.uint64()),
            "f": pa.array([0.5, float("nan")], pa.float32()),
            "m": [Decimal("1.25"), None],
            "b": [True, None],
            "s": ["007", None],
            "c": pa.array(["x", "y"]).dictionary_encode(),
            "d": [date(2024, 1, 1), None],
            "t": pa.array([1_500, None], pa.timestamp("ms", "UTC")),
            "clock": [time(1, 2, 3), None],
            "l": [[1, 2], None],
            "o": [{"x": "y"}, None],
            "raw": [b"\x00\xff", None],
        }
    )
    result, frame = run_ingest(tmp_path, parquet(table), "a.bin")
    assert column_types(result) == {
        "i": "INTEGER", "u": "INTEGER", "wide": "DECIMAL", "f": "FLOAT", "m": "FLOAT", "b": "BOOLEAN", "s": "STRING", "c": "CATEGORY",
        "d": "DATE", "t": "DATETIME", "clock": "TIME", "l": "JSON", "o": "JSON", "raw": "BINARY",
    }  # fmt: skip
    assert frame.row(0) == (
        1, 1, Decimal(1), 0.5, 1.25, True, "007", "x", date(2024, 1, 1), datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC),
        time(1, 2, 3), "[1,2]", '{"x":"y"}', b"\x00\xff",
    )  # fmt: skip
    assert frame["wide"].to_list() == [Decimal(1), Decimal(2**64 - 1)]


def test_a_parquet_file_in_many_row_groups_comes_back_whole(tmp_path: Path) -> None:
    frame = pl.DataFrame({"n": range(50_000), "s": [f"word {n % 977}" for n in range(50_000)], "f": [n / 7 for n in range(50_000)]})
    source = io.BytesIO()
    frame.write_parquet(source, row_group_size=3_000)
    _, result_frame = run_ingest(tmp_path, source.getvalue(), "a.parquet")
    assert result_frame.equals(frame)


def test_a_workbook_is_read_from_its_first_sheet_with_cells(tmp_path: Path) -> None:
    rows = [
        ["id", "share", "day", "at", "ok", "code", "note"],
        [1, 0.5, date(2024, 1, 31), datetime(2024, 1, 31, 10, 30), True, "007", "two\nlines"],
        [2, None, date(2024, 2, 29), datetime(2024, 2, 1), False, "010", None],
    ]
    result, frame = run_ingest(tmp_path, workbook(empty=[], data=rows), "a.xlsx")
    assert result["format"] == "EXCEL"
    assert list(column_types(result).values()) == ["INTEGER", "FLOAT", "DATE", "DATETIME", "BOOLEAN", "STRING", "STRING"]
    assert frame.rows() == [tuple(row) for row in rows[1:]]


def test_a_workbook_without_a_header_is_read_too(tmp_path: Path) -> None:
    result, frame = run_ingest(tmp_path, workbook(data=[[1, "x"], [2, "y"]]), "a.xlsx")
    assert (frame.rows(), frame.columns, issue_locations(result)) == (
        [(1, "x"), (2, "y")],
        ["column_1", "column_2"],
        [("NO_HEADER", None, 1)],
    )
