"""Further inputs of each kind that other systems were reported to read wrongly: what values are. The data are made up; each row names the report.

A row holds the report, the name and the content of the file, the types and cells by column, and the issues as (code, column, row).
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.files import parquet, workbook
from tests.workers.read_files import Columns, Places, columns_and_issues, dates, floats, integers, texts

Case = tuple[str, str, str | bytes, Columns, Places]
TRUE_FALSE = ("BOOLEAN", [True, False])


def times(*cells: time | None) -> tuple[str, list[Any]]:
    return "TIME", list(cells)


def datetimes(*cells: datetime | None) -> tuple[str, list[Any]]:
    return "DATETIME", list(cells)


def durations(*cells: str | None) -> tuple[str, list[Any]]:
    """Durations written as [-]hours:minutes:seconds."""

    def parsed(cell: str) -> timedelta:
        hours, minutes, seconds = cell.lstrip("-").split(":")
        value = timedelta(hours=int(hours), minutes=int(minutes), seconds=float(seconds))
        return -value if cell.startswith("-") else value

    return "DURATION", [None if cell is None else parsed(cell) for cell in cells]


def words(column: str, row: int) -> tuple[str, str, int]:
    return "MISSING_WORDS", column, row


KINDS: dict[str, list[Case]] = {
    "times": [
        ("duckdb#13247", "a.csv", "a,b\n05:40, 7\n21:30, 21\n17:45, 99\n", {"a": times(time(5, 40), time(21, 30), time(17, 45)), "b": integers(7, 21, 99)}, []),
        ("arrow#10782", "a.csv", "t,n\n06:15,1\n07:20:30,2\n", {"t": times(time(6, 15), time(7, 20, 30)), "n": integers(1, 2)}, []),
        ("readr#384", "a.csv", "t\n04:00:00\n04:30:00\n14:00:22\n", {"t": times(time(4), time(4, 30), time(14, 0, 22))}, []),
        ("FSharp.Data#1170", "a.tsv", "t\tk\n14:55:10\tx\n-\ty\n", {"t": times(time(14, 55, 10), None), "k": texts("x", "y")}, [words("t", 2)]),
        ("DataFrames.jl#2005", "a.csv", '"thistime"\n"10:00:00"\n"12:00:00"\n', {"thistime": times(time(10), time(12))}, []),
        ("csvapi#41", "a.jsonl", '{"t": "12:30"}\n{"t": null}\n', {"t": times(time(12, 30), None)}, []),
        ("PolyMathOrg/DataFrame#117", "a.csv", "address,n\n8 Amber Road,1\n2 Pine Hill,2\n", {"address": texts("8 Amber Road", "2 Pine Hill"), "n": integers(1, 2)}, []),
        ("PolyMathOrg/DataFrame#117", "a.csv", "t,n\n8:00 am,1\n7:00 pm,2\n", {"t": texts("8:00 am", "7:00 pm"), "n": integers(1, 2)}, []),
        ("spark#48220", "a.csv", "t,n\n00:00:00,1\n23:59:59.25,2\n", {"t": times(time(0), time(23, 59, 59, 250_000)), "n": integers(1, 2)}, []),
        ("exceljs#1108", "a.xlsx", workbook(s=[["t", "n"], ["10:51", 1], ["10:56", 2]]), {"t": times(time(10, 51), time(10, 56)), "n": integers(1, 2)}, []),
        ("SailScores#448", "a.csv", "elapsed,n\n01:34:56,1\n00:59:01,2\n", {"elapsed": times(time(1, 34, 56), time(0, 59, 1)), "n": integers(1, 2)}, []),
        ("readxl#167", "a.xlsx", workbook(s=[["t"], [time(10, 54, 57)], [time(0, 0, 1)]]), {"t": times(time(10, 54, 57), time(0, 0, 1))}, []),
    ],
    "durations": [
        ("rayforce#379", "a.csv", "d,n\n-00:00:01,1\n25:00:00,2\n", {"d": durations("-0:0:1", "25:0:0"), "n": integers(1, 2)}, []),
        ("readr#549", "a.csv", "w,n\n24:56:18.90,1\n03:00:00,2\n", {"w": durations("24:56:18.9", "3:0:0"), "n": integers(1, 2)}, []),
        ("readr#549", "a.jsonl", '{"w": "-12:34:56"}\n{"w": "01:00:00"}\n', {"w": durations("-12:34:56", "1:0:0")}, []),
        ("hms#107", "a.csv", "d\n25:00:00\n", {"d": durations("25:0:0")}, []),
        ("maestrowf#159", "a.csv", 'd,n\n"1 day, 02:03:04",1\n00:03:04,2\n', {"d": texts("1 day, 02:03:04", "00:03:04"), "n": integers(1, 2)}, []),
        ("RobocopyPS#12", "a.csv", "d,n\n68:49:05,1\n0:00:02,2\n", {"d": durations("68:49:5", "0:0:2"), "n": integers(1, 2)}, []),
        ("obsidian-tracker#83", "a.json", '[{"d": "30:15", "n": 1}, {"d": "100:00", "n": 2}]', {"d": durations("30:15:0", "100:0:0"), "n": integers(1, 2)}, []),
        ("SheetConverter#13", "a.parquet", parquet(d=["37:05:24", None], n=[1, 2]), {"d": durations("37:5:24", None), "n": integers(1, 2)}, []),
        ("php-excel-reader#187", "a.xlsx", workbook(s=[["d"], [timedelta(hours=32, minutes=15)]], shown="[hh]:mm"), {"d": durations("32:15:0")}, []),
        ("moment#981", "a.xlsx", workbook(s=[["d"], [timedelta(hours=9)], [timedelta(hours=22)]]), {"d": durations("9:0:0", "22:0:0")}, []),
        ("XlsxWriter#731", "a.xlsx", workbook(s=[["d"], [timedelta(hours=1_500)], [None]]), {"d": durations("1500:0:0")}, []),
        ("filesql#301", "a.xlsx", workbook(s=[["d"], [1.5], [0.25]], shown="[h]:mm:ss"), {"d": durations("36:0:0", "6:0:0")}, []),
    ],
    "booleans": [
        (
            "dataprof#303", "a.csv", "b,n\ntrue,1\nFALSE,2\nnull,3\nTrue,4\nNULL,5\n",
            {"b": ("BOOLEAN", [True, False, None, True, None]), "n": integers(1, 2, 3, 4, 5)}, [words("b", 3)],
        ),
        ("pandas#20591", "a.csv", "a,b\nfalse,1\n,1\ntrue,\n", {"a": ("BOOLEAN", [False, None, True]), "b": integers(1, 1, None)}, []),
        ("csvkit#1265", "a.csv", "used,swap\n21,0\n22,0\n", {"used": integers(21, 22), "swap": integers(0, 0)}, []),
        ("csvkit#849", "a.csv", "a|b|c\nx|1|good\ny|1|bad\n", {"a": texts("x", "y"), "b": integers(1, 1), "c": texts("good", "bad")}, []),
        ("csvkit#1020", "a.json", '[{"n": 0}, {"n": 1}]', {"n": integers(0, 1)}, []),
        ("hucre#129", "a.csv", "id,stars\n0,5\n1,0\n", {"id": integers(0, 1), "stars": integers(5, 0)}, []),
        ("CSV.jl#596", "a.tsv", "b\tn\ntrue\t1\n false \t2\n", {"b": TRUE_FALSE, "n": integers(1, 2)}, []),
        ("node-csv-parse#45", "a.csv", "b,n\nvrai,1\nfaux,2\n", {"b": texts("vrai", "faux"), "n": integers(1, 2)}, []),
        ("ketesa#1033", "a.csv", "b,n\nYes,1\nNo,2\n", {"b": texts("Yes", "No"), "n": integers(1, 2)}, []),
        ("arrow#4055", "a.csv", '"b","n"\n"true","1"\n"false","2"\n', {"b": TRUE_FALSE, "n": integers(1, 2)}, []),
        ("qsv#722", "a.csv", "b,n\nt,1\nf,2\n", {"b": texts("t", "f"), "n": integers(1, 2)}, []),
        ("tsfile#737", "a.parquet", parquet(b=[True, None, False]), {"b": ("BOOLEAN", [True, None, False])}, []),
        ("spark-csv#207", "a.xlsx", workbook(s=[["b", "s"], [True, "true"], [False, "false"]]), {"b": TRUE_FALSE, "s": TRUE_FALSE}, []),
        ("csv-parse#45", "a.jsonl", '{"b": true, "s": "true"}\n{"b": false, "s": "false"}\n', {"b": TRUE_FALSE, "s": texts("true", "false")}, []),
    ],
    "not a number": [
        ("JSONVue#4", "a.jsonl", '{"maxScore": NaN}\n{"maxScore": 1.5}\n', {"maxScore": floats(None, 1.5)}, [words("maxScore", 1)]),
        ("polynomial#49", "a.json", '[{"value": NaN, "day": "2023-01-31"}]', {"value": texts(None), "day": dates(date(2023, 1, 31))}, [words("value", 1)]),
        ("Seaside#730", "a.json", '[{"a": Infinity}, {"a": -Infinity}, {"a": 0.5}]', {"a": floats(math.inf, -math.inf, 0.5)}, [("INFINITE_VALUES", "a", 1)]),
        (
            "correctionlib#85", "a.jsonl", '{"a": -Infinity, "b": 1}\n{"a": 2, "b": NaN}\n',
            {"a": floats(-math.inf, 2), "b": integers(1, None)}, [("INFINITE_VALUES", "a", 1), words("b", 2)],
        ),
        ("bokeh#5764", "a.csv", "s,n\nNaN,1\nx,2\n", {"s": texts(None, "x"), "n": integers(1, 2)}, [words("s", 1)]),
        ("orange3-prototypes#177", "a.tsv", "s\tn\nnan\t1\nNanna\t2\n", {"s": texts(None, "Nanna"), "n": integers(1, 2)}, [words("s", 1)]),
        ("libpetab-python#25", "a.parquet", parquet(s=["a_name", "nan"]), {"s": texts("a_name", None)}, [words("s", 2)]),
        (
            "transitland-lib#395", "a.csv", "f,k\nNaN,1\nInf,2\n-1.5,3\n",
            {"f": floats(None, math.inf, -1.5), "k": integers(1, 2, 3)}, [words("f", 1), ("INFINITE_VALUES", "f", 2)],
        ),
        ("zio-json#1304", "a.json", '[{"a": "NaN"}, {"a": "Infinity"}]', {"a": texts(None, "Infinity")}, [words("a", 1)]),
        ("qcache#13", "a.parquet", parquet(f=[0.5, math.nan, None], k=[1, 2, 3]), {"f": floats(0.5, None, None), "k": integers(1, 2, 3)}, [words("f", 2)]),
        ("YASA-UAST#29", "a.parquet", parquet(f=[math.inf, 3.14]), {"f": floats(math.inf, 3.14)}, [("INFINITE_VALUES", "f", 1)]),
        ("megaradrp#94", "a.xlsx", workbook(s=[["f", "k"], ["nan", 1], [2.5, 2]]), {"f": floats(None, 2.5), "k": integers(1, 2)}, [words("f", 1)]),
    ],
    "missing words": [
        ("tad#202", "a.csv", "n,k\nNA,1\n8,2\n80,3\n", {"n": integers(None, 8, 80), "k": integers(1, 2, 3)}, [words("n", 1)]),
        ("terriajs#1250", "a.csv", "mw,k\n12.5,1\n-,2\n7,3\n", {"mw": floats(12.5, None, 7), "k": integers(1, 2, 3)}, [words("mw", 2)]),
        ("csvkit#49", "a.csv", "day,k\n2011-04-17,1\nN/A,2\n", {"day": dates(date(2011, 4, 17), None), "k": integers(1, 2)}, [words("day", 2)]),
        ("csvkit#968", "a.csv", "continent,country\nNA,USA\nEU,GB\n", {"continent": texts(None, "EU"), "country": texts("USA", "GB")}, [words("continent", 1)]),
        ("misoproject/dataset#97", "a.tsv", "n\tk\nn/a\t1\n5\t2\n", {"n": integers(None, 5), "k": integers(1, 2)}, [words("n", 1)]),
        ("pandas#32084", "a.jsonl", '{"s": "null", "t": null}\n{"s": "x", "t": "y"}\n', {"s": texts(None, "x"), "t": texts(None, "y")}, [words("s", 1)]),
        ("dolt#115", "a.csv", 'n,s\n"",""\n"7","x"\n', {"n": integers(None, 7), "s": texts(None, "x")}, []),
        ("slycat#743", "a.csv", "mpg,car\n18.5,a\nNULL,b\n", {"mpg": floats(18.5, None), "car": texts("a", "b")}, [words("mpg", 2)]),
        ("pandas#10205", "a.csv", "c1,c2,c3\nfoo,,bar\n", {"c1": texts("foo"), "c2": texts(None), "c3": texts("bar")}, []),
        ("pandas#16078", "a.xlsx", workbook(s=[["age", "k"], ["n/a", 1], [31, 2]]), {"age": integers(None, 31), "k": integers(1, 2)}, [words("age", 1)]),
        ("camtrap-dp#316", "a.parquet", parquet(s=["NA", "nan", "x"], k=[1, 2, 3]), {"s": texts(None, None, "x"), "k": integers(1, 2, 3)}, [words("s", 1)]),
        ("terriajs#1250", "a.csv", "s,k\n-,1\nx,2\n?,3\n", {"s": texts("-", "x", "?"), "k": integers(1, 2, 3)}, []),
    ],
    "digits": [
        (
            "Laravel-Excel#300", "a.csv", "tel,n\n0444123456,1\n+32444123456,2\n",
            {"tel": texts("0444123456", "+32444123456"), "n": integers(1, 2)}, [("KEPT_AS_TEXT", "tel", 1)],
        ),
        (
            "Laravel-Excel#1342", "a.xlsx", workbook(s=[["tel"], ["+37498123456"], ["+37455123456"]]),
            {"tel": texts("+37498123456", "+37455123456")}, [("KEPT_AS_TEXT", "tel", 1)],
        ),
        (
            "postman-app-support#10016", "a.csv", "msisdn,n\n+41790000000,1\n,2\n",
            {"msisdn": texts("+41790000000", None), "n": integers(1, 2)}, [("KEPT_AS_TEXT", "msisdn", 1)],
        ),
        ("iris-client#443", "a.csv", 'tel;n\n"+49 151 1234567";1\n"+49151123";2\n', {"tel": texts("+49 151 1234567", "+49151123"), "n": integers(1, 2)}, []),
        ("cudf#9393", "a.parquet", parquet(t=pa.array([9_123_456_789], pa.timestamp("ns"))), {"t": texts("1970-01-01 00:00:09.123456789")}, [("KEPT_AS_TEXT", "t", 1)]),
        (
            "pystore#25", "a.csv", "ts,k\n2019-06-15 00:00:12.868214001+00:00,1\n",
            {"ts": texts("2019-06-15 00:00:12.868214001+00:00"), "k": integers(1)}, [("KEPT_AS_TEXT", "ts", 1)],
        ),
        ("miniparquet#11", "a.parquet", parquet(t=[datetime(2020, 1, 1, 10, 10, 10, 123456)]), {"t": datetimes(datetime(2020, 1, 1, 10, 10, 10, 123456))}, []),
        (
            "arrow#6536", "a.parquet", parquet(t=pa.array([1_577_873_410_123_456_000], pa.timestamp("ns", "UTC"))),
            {"t": datetimes(datetime(2020, 1, 1, 10, 10, 10, 123456, tzinfo=UTC))}, [],
        ),
        (
            "cryptostore#45", "a.jsonl", '{"t": "2019-09-22T10:00:00.000000001Z", "k": 1}\n',
            {"t": texts("2019-09-22T10:00:00.000000001Z"), "k": integers(1)}, [("KEPT_AS_TEXT", "t", 1)],
        ),
        (
            "fast-csv#778", "a.csv", "id,at\nE1,2022/2/23 23:26:27\nE2,2022/2/24 1:02:03\n",
            {"id": texts("E1", "E2"), "at": datetimes(datetime(2022, 2, 23, 23, 26, 27), datetime(2022, 2, 24, 1, 2, 3))}, [],
        ),
    ],
    "decimal marks": [
        ("jasp-desktop#403", "a.csv", "n;k\n1.000,92;1\n12,5;2\n", {"n": floats(1000.92, 12.5), "k": integers(1, 2)}, []),
        ("ecuxplot#14", "a.csv", "rpm;boost\n2500;1,234\n2600;1,3\n", {"rpm": integers(2500, 2600), "boost": floats(1.234, 1.3)}, []),
        ("aniav/ynab-csv#2", "a.csv", "amount;note\r\n-2,40;a\r\n-15,00;b\r\n", {"amount": floats(-2.4, -15), "note": texts("a", "b")}, []),
        ("dannymcc/may#244", "a.csv", 'price,k\n"9,99",1\n"1.234,56",2\n', {"price": floats(9.99, 1234.56), "k": integers(1, 2)}, []),
        ("dannymcc/may#244", "a.csv", 'price,k\n"1,234.56",1\n9.99,2\n', {"price": floats(1234.56, 9.99), "k": integers(1, 2)}, []),
        (
            "csvkit#876", "a.csv", '30.07.2017 14:15:00,"2523,00","2143,50"\n30.07.2017 14:30:00,"2524,50","2145,00"\n',
            {"column_1": datetimes(datetime(2017, 7, 30, 14, 15), datetime(2017, 7, 30, 14, 30)), "column_2": floats(2523, 2524.5), "column_3": floats(2143.5, 2145)},
            [("NO_HEADER", None, 1)],
        ),
        ("investing-historical-data#3", "a.csv", 'close,vol\n"1,234,567",1\n"2,345",2\n', {"close": integers(1_234_567, 2_345), "vol": integers(1, 2)}, []),
        ("sheetjs#2236", "a.csv", "a;b\n1,5;2,25\n3,5;4,75\n", {"a": floats(1.5, 3.5), "b": floats(2.25, 4.75)}, []),
        ("halloffame/ynab-csv#28", "a.tsv", "a\tb\n12,13\tx\n0,5\ty\n", {"a": floats(12.13, 0.5), "b": texts("x", "y")}, []),
        ("csvlint.io#171", "a.csv", "share;k\n23,78%;1\n0,5%;2\n", {"share": texts("23,78%", "0,5%"), "k": integers(1, 2)}, [("KEPT_AS_TEXT", "share", 1)]),
        ("BudgetMaster#731", "a.csv", "sum;k\n1.355,90€;1\n2,00€;2\n", {"sum": texts("1.355,90€", "2,00€"), "k": integers(1, 2)}, [("KEPT_AS_TEXT", "sum", 1)]),
    ],
    "dates": [
        ("pandas#19402", "a.csv", "id;day\n1;11/03/2011\n2;20/10/2011\n", {"id": integers(1, 2), "day": dates(date(2011, 3, 11), date(2011, 10, 20))}, []),
        (
            "pandas#12585", "a.csv", "t,n\n03/09/2018 12:02:00,1\n14/09/2018 14:09:00,2\n",
            {"t": datetimes(datetime(2018, 9, 3, 12, 2), datetime(2018, 9, 14, 14, 9)), "n": integers(1, 2)}, [],
        ),
        ("pandas#25847", "a.csv", "d,n\n01/01/2018,1\n31/01/2018,2\n", {"d": dates(date(2018, 1, 1), date(2018, 1, 31)), "n": integers(1, 2)}, []),
        ("messytables#148", "a.csv", "d,n\n12/31/2014,1\n01/02/2015,2\n", {"d": dates(date(2014, 12, 31), date(2015, 1, 2)), "n": integers(1, 2)}, []),
        ("csvkit#280", "a.csv", "d,n\n02/01/2014,1\n31/12/2012,2\n", {"d": dates(date(2014, 1, 2), date(2012, 12, 31)), "n": integers(1, 2)}, []),
        ("csv-detective#269", "a.csv", "d,n\n15/06/2022,1\n06/16/2022,2\n", {"d": texts("15/06/2022", "06/16/2022"), "n": integers(1, 2)}, [("OPEN_DATES", "d", 1)]),
        ("dataprep#599", "a.csv", "d,n\n12-01-06,1\n20-12-06,2\n", {"d": texts("12-01-06", "20-12-06"), "n": integers(1, 2)}, []),
        (
            "dannymcc/may#96", "a.csv", "d,n\n2025-04-30 09:20,1\n2025-05-01 10:00,2\n",
            {"d": datetimes(datetime(2025, 4, 30, 9, 20), datetime(2025, 5, 1, 10)), "n": integers(1, 2)}, [],
        ),
        ("cudf#1929", "a.csv", "c,n\nABCE-01,1\n1905-X6,2\n", {"c": texts("ABCE-01", "1905-X6"), "n": integers(1, 2)}, []),
        ("spark-csv#130", "a.csv", "t,n\n2015-08-20 01:02:03,1\n,2\n", {"t": datetimes(datetime(2015, 8, 20, 1, 2, 3), None), "n": integers(1, 2)}, []),
    ],
}  # fmt: skip


def cases() -> list[Any]:
    return [pytest.param(*case, id=f"{kind} {case[0]} {case[1]}") for kind, rows in KINDS.items() for case in rows]


@pytest.mark.parametrize(("report", "name", "content", "columns", "issues"), cases())
def test_a_reported_value_is_read_as_it_was_meant(
    tmp_path: Path, report: str, name: str, content: str | bytes, columns: Columns, issues: Places
) -> None:
    assert columns_and_issues(tmp_path, name, content) == (columns, sorted(issues, key=str)), report
