"""Contents that other systems were reported to read differently by format, or by another order of steps: here every format gives one table.

The data are made up; each row names the report, the files by name, and the types, cells and issues that all of them have.
"""

from __future__ import annotations

import json
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from tests.files import parquet, workbook
from tests.workers.read_files import Columns, Places, columns_and_issues, dates, floats, integers, texts
from workers.ml.reading.opening import open_reader
from workers.ml.reading.options import ReadingOptions
from workers.ml.reading.raw import RawFile

Case = tuple[str, dict[str, str | bytes], Columns, Places]
MIDNIGHT = datetime(2013, 3, 4)
LONG = 10_292_320_860_000_001
SAME: list[Case] = [
    (
        "bamboo#483",
        {
            "a.csv": "n,d\n9,2013-03-04T14:10:30.851745\n20,2012-12-20T14:10:30.000001\n",
            "a.json": '[{"n": 9, "d": "2013-03-04T14:10:30.851745"}, {"n": 20, "d": "2012-12-20T14:10:30.000001"}]',
            "a.parquet": parquet(n=[9, 20], d=["2013-03-04T14:10:30.851745", "2012-12-20T14:10:30.000001"]),
        },
        {"n": integers(9, 20), "d": ("DATETIME", [datetime(2013, 3, 4, 14, 10, 30, 851745), datetime(2012, 12, 20, 14, 10, 30, 1)])},
        [],
    ),
    (
        "readxl#511",
        {
            "a.csv": "d,n\n1987-10-22,1\nNA,2\n",
            "a.jsonl": '{"d": "1987-10-22", "n": 1}\n{"d": "NA", "n": 2}\n',
            "a.parquet": parquet(d=["1987-10-22", "NA"], n=[1, 2]),
            "a.xlsx": workbook(s=[["d", "n"], [date(1987, 10, 22), 1], ["NA", 2]]),
        },
        {"d": dates(date(1987, 10, 22), None), "n": integers(1, 2)},
        [("MISSING_WORDS", "d", 2)],
    ),
    (
        "danfojs#642",
        {
            "a.csv": "code,n\n012345,1\n67890,2\n",
            "a.xlsx": workbook(s=[["code", "n"], ["012345", 1], ["67890", 2]]),
        },
        {"code": texts("012345", "67890"), "n": integers(1, 2)},
        [("KEPT_AS_TEXT", "code", 1)],
    ),
    (
        "pydatajson#39",
        {
            "a.csv": "n,t\n3,\n,x\n",
            "a.json": '[{"n": 3, "t": ""}, {"n": null, "t": "x"}]',
            "a.xlsx": workbook(s=[["n", "t"], [3, None], [None, "x"]]),
            "a.parquet": parquet(n=[3, None], t=["", "x"]),
        },
        {"n": integers(3, None), "t": texts(None, "x")},
        [],
    ),
    (
        "csvkit#211",
        {
            "a.csv": "d,n\n2013-03-04 00:00:00,1\n2013-03-05 00:00:00,2\n",
            "a.jsonl": '{"d": "2013-03-04 00:00:00", "n": 1}\n{"d": "2013-03-05 00:00:00", "n": 2}\n',
            "a.xlsx": workbook(s=[["d", "n"], [MIDNIGHT, 1.0], [datetime(2013, 3, 5), 2.0]]),
        },
        {"d": dates(date(2013, 3, 4), date(2013, 3, 5)), "n": integers(1, 2)},
        [],
    ),
    (
        "konklone/json#266",
        {
            "a.csv": f"id\n{LONG}\n-5\n",
            "a.json": f'[{{"id": {LONG}}}, {{"id": -5}}]',
            "a.jsonl": f"[{LONG}]\n[-5]\n".replace(f"[{LONG}]", f'["id"]\n[{LONG}]'),
            "a.parquet": parquet(id=[LONG, -5]),
        },
        {"id": integers(LONG, -5)},
        [],
    ),
    (
        "datasets#8365",
        {
            "a.csv": "a,b\n9007199254740993,1\n,2\n5,3\n",
            "a.jsonl": '{"a": 9007199254740993, "b": 1}\n{"b": 2}\n{"a": 5, "b": 3}\n',
            "a.parquet": parquet(a=[9007199254740993, None, 5], b=[1, 2, 3]),
        },
        {"a": integers(9007199254740993, None, 5), "b": integers(1, 2, 3)},
        [],
    ),
    (
        "filesql#476",
        {
            "a.csv": "a\n9007199254740993\n0.25\n",
            "a.json": '[{"a": 9007199254740993}, {"a": 0.25}]',
            "a.parquet": parquet(a=pa.array([Decimal(9007199254740993), Decimal("0.25")], pa.decimal128(20, 2))),
        },
        {"a": ("DECIMAL", [Decimal(9007199254740993), Decimal("0.25")])},
        [],
    ),
    (
        "filesql#476",
        {"a.csv": "a;b\n9007199254740993;1\n,5;2\n-,25;3\n", "b.csv": "a,b\n9007199254740993,1\n.5,2\n-.25,3\n"},
        {"a": ("DECIMAL", [Decimal(9007199254740993), Decimal("0.5"), Decimal("-0.25")]), "b": integers(1, 2, 3)},
        [],
    ),
    (
        "cudf-spark#124",
        {
            "a.csv": "a\n-3.4028234663852886e+38\n5e-324\n",
            "a.jsonl": '{"a": -3.4028234663852886e+38}\n{"a": 5e-324}\n',
            "a.parquet": parquet(a=[-3.4028234663852886e38, 5e-324]),
        },
        {"a": floats(-3.4028234663852886e38, 5e-324)},
        [],
    ),
    (
        "excel.link#25",
        {
            "a.csv": "t,n\n06:48:00,1\n20:42:00,2\n",
            "a.json": '[{"t": "06:48:00", "n": 1}, {"t": "20:42:00", "n": 2}]',
            "a.parquet": parquet(t=pa.array([time(6, 48), time(20, 42)]), n=[1, 2]),
            "a.xlsx": workbook(s=[["t", "n"], [time(6, 48), 1], [time(20, 42), 2]]),
        },
        {"t": ("TIME", [time(6, 48), time(20, 42)]), "n": integers(1, 2)},
        [],
    ),
    (
        "super#2523",
        {
            "a.csv": "foo,bar,foo\n1,2,3\n4,5,6\n",
            "a.jsonl": '{"foo": 1, "bar": 2, "foo": 3}\n{"foo": 4, "bar": 5, "foo": 6}\n',
            "a.json": '[{"foo": 1, "bar": 2, "foo": 3}, {"foo": 4, "bar": 5, "foo": 6}]',
            "b.json": '{"foo": [1, 4], "bar": [2, 5], "foo": [3, 6]}',
            "a.xlsx": workbook(s=[["foo", "bar", "foo"], [1, 2, 3], [4, 5, 6]]),
        },
        {"foo": integers(1, 4), "bar": integers(2, 5), "foo_2": integers(3, 6)},
        [("DUPLICATE_COLUMN_NAME", "foo_2", None)],
    ),
    (
        "arnio#1780",
        {
            "a.jsonl": '{"o": {"k" : "1:2", "k": [3]}, "n": 1}\n{"o": {}, "n": 2}\n',
            "a.json": '[{"o": {"k" : "1:2", "k": [3]}, "n": 1}, {"o": {}, "n": 2}]',
            "c.jsonl": '{"o": {"k" : "1\\u003a2", "k": [3]}, "n": 1}\n{"o": {}, "n": 2}\n',
            "b.jsonl": '["o", "n"]\n[{"k": "1:2", "k": [3]}, 1]\n[{}, 2]\n',
        },
        {"o": ("JSON", ['{"k":"1:2","k_2":[3]}', "{}"]), "n": integers(1, 2)},
        [("DUPLICATE_KEY", None, 1)],
    ),
    (
        "Newtonsoft.Json#3112",
        {
            "a.csv": "a,b\n1e350,1\n2.5,2\n",
            "a.json": '[{"a": 1e350, "b": 1}, {"a": 2.5, "b": 2}]',
            "a.jsonl": '{"a": 1e350, "b": 1}\n{"a": 2.5, "b": 2}\n',
            "a.xlsx": workbook(s=[["a", "b"], ["1e350", 1], [2.5, 2]]),
        },
        {"a": texts("1e350", "2.5"), "b": integers(1, 2)},
        [("KEPT_AS_TEXT", "a", 1)],
    ),
    (
        "starrocks#79373",
        {
            "a.csv": "a,b\n0.5,1\n-1e-400,2\n0.0,3\n",
            "a.json": '[{"a": 0.5, "b": 1}, {"a": -1e-400, "b": 2}, {"a": 0e5, "b": 3}]',
            "a.jsonl": '{"a": 0.5, "b": 1}\n{"a": -1e-400, "b": 2}\n{"a": 0e5, "b": 3}\n',
            "a.xlsx": workbook(s=[["a", "b"], [0.5, 1], ["-1e-400", 2], ["0.0", 3]]),
        },
        {"a": texts("0.5", "-1e-400", "0.0"), "b": integers(1, 2, 3)},
        [("KEPT_AS_TEXT", "a", 2)],
    ),
]


@pytest.mark.parametrize(
    ("report", "name", "content", "columns", "issues"),
    [(report, name, content, columns, issues) for report, files, columns, issues in SAME for name, content in files.items()],
    ids=[f"{report} {name}" for report, files, _columns, _issues in SAME for name in files],
)
def test_a_content_is_one_table_in_every_format(
    tmp_path: Path, report: str, name: str, content: str | bytes, columns: Columns, issues: Places
) -> None:
    assert columns_and_issues(tmp_path, name, content) == (columns, issues), report


def test_a_chosen_type_says_what_open_values_are(tmp_path: Path) -> None:
    """A number that no double holds, a unit and a spaced number are missing then, each cell listed."""
    path = tmp_path / "a.csv"
    path.write_text("d,u,w,s\n03/08/2026,m,-1e-400,\u221239\u00a0000\n10/06/2026,2.5, 1e400,39 000\n01/01/2026,1,0.0,1\n", encoding="utf-8")
    options = ReadingOptions(column_types={"d": "DATE", "u": "FLOAT", "w": "FLOAT", "s": "INTEGER"})
    reader = open_reader(RawFile(path), path.name, lambda _share, _step: None, options)[1]
    frame = pl.concat(reader.frames())
    assert not reader.needs_another_pass()
    assert frame.to_dict(as_series=False) == {
        "d": [date(2026, 8, 3), date(2026, 6, 10), date(2026, 1, 1)], "u": [None, 2.5, 1.0], "w": [None, None, 0.0], "s": [-39_000, None, 1],
    }  # fmt: skip
    issues = sorted((issue["code"], issue["column"], issue["row"]) for issue in reader.issues.entries)
    assert issues == [
        ("BAD_VALUE", "s", 2),
        ("BAD_VALUE", "u", 1),
        ("BAD_VALUE", "w", 1),
        ("BAD_VALUE", "w", 2),
        ("NUMBER_SPELLING", "s", 1),
    ]
    assert [issue["message"].count("beyond the range") for issue in reader.issues.entries if issue["column"] == "w"] == [1, 1]


def test_text_that_needs_all_of_json_is_read_again_only_then(tmp_path: Path) -> None:
    """Colons and exponents in texts, and nested objects, are no reason to think that a key is repeated."""
    rows = [{"a": "x:y", "b": {"c": [{"d": 1, "e": "1e-400"}]}, "f": 1e-300}, {"a": '"k": "', "b": {}, "f": 2.5}]
    content = "\n".join(json.dumps(row) for row in rows)
    expected = {"a": texts("x:y", '"k": "'), "b": ("JSON", ['{"c":[{"d":1,"e":"1e-400"}]}', "{}"]), "f": floats(1e-300, 2.5)}
    assert columns_and_issues(tmp_path, "a.jsonl", content) == (expected, [])
    assert columns_and_issues(tmp_path, "a.json", json.dumps(rows, indent=1)) == (expected, [])
    deep = "[" * 400 + "1" + "]" * 400
    assert columns_and_issues(tmp_path, "a.jsonl", f'{{"a": {deep}, "b": "x:y"}}\n') == ({"a": ("JSON", [deep]), "b": texts("x:y")}, [])
