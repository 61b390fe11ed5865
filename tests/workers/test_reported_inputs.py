"""Inputs of the kinds that other systems were reported to read wrongly; the data are made up. Each row names the report.

A row holds the report, the name and the content of the file, the types and cells by column, and the issues as (code, column, row).
"""

from __future__ import annotations

import gzip
import math
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from tests.files import parquet, workbook
from workers.ml.errors import BadInput
from workers.ml.reading.opening import open_reader
from workers.ml.reading.raw import RawFile

Columns = dict[str, tuple[str, list[Any]]]
Case = tuple[str, str, str | bytes, Columns, list[tuple[str, str | None, int | None]]]
NO_HEADER = ("NO_HEADER", None, 1)
SKIPPED = ("SKIPPED_LINES", None, None)
GUESSED = ("ENCODING_GUESSED", None, None)


def integers(*cells: int | None) -> tuple[str, list[Any]]:
    return "INTEGER", list(cells)


def floats(*cells: float | None) -> tuple[str, list[Any]]:
    return "FLOAT", list(cells)


def texts(*cells: str | None) -> tuple[str, list[Any]]:
    return "STRING", list(cells)


def dates(*cells: date) -> tuple[str, list[Any]]:
    return "DATE", list(cells)


def two_names(name: str, data: bytes) -> Case:
    issue = ("DUPLICATE_COLUMN_NAME", "Zoë_2", None)
    return ("cockroach#71140", name, data, {"Zoë": integers(1), "Zoë_2": integers(2)}, [issue])


LONG = 1_234_567_890_123_456_781
NUMBERS: list[Case] = [
    ("pandas#32453", "a.csv", f"x,y\n,{LONG}\n{LONG + 1},{LONG + 2}\n", {"x": integers(None, LONG + 1), "y": integers(LONG, LONG + 2)}, []),
    ("beakerx#6020", "a.csv", f'"a"\n"{LONG}"\n', {"a": integers(LONG)}, []),
    ("k6#3450", "a.json", f'[{{"id": {LONG}}}, {{"id": {LONG + 1}}}]', {"id": integers(LONG, LONG + 1)}, []),
    ("fixjson#19", "a.jsonl", f'{{"id": {LONG}}}\n{{"id": null}}\n', {"id": integers(LONG, None)}, []),
    (
        "deephaven-core#8350", "a.parquet", parquet(u=pa.array([1, 2**64 - 1, None], pa.uint64())),
        {"u": ("DECIMAL", [Decimal(1), Decimal(2**64 - 1), None])}, [],
    ),
    ("arrow2#676", "a.parquet", parquet(d=pa.array([Decimal("-2.75"), Decimal("0.25")], pa.decimal128(18, 2))), {"d": floats(-2.75, 0.25)}, []),
    ("doris#5360", "a.parquet", parquet(d=pa.array([1306.7, 0.3])), {"d": floats(1306.7, 0.3)}, []),
    ("agate-excel#1", "a.xlsx", workbook(s=[["n"], [51300000.03], [1.19]]), {"n": floats(51300000.03, 1.19)}, []),
    ("simple_xlsx_reader#60", "a.xlsx", workbook(shown="0", s=[["n"], [31.69], [30.5]]), {"n": floats(31.69, 30.5)}, []),
    ("calamine#488", "a.xlsx", workbook(s=[["c"], ["0300"], ["0410"]]), {"c": texts("0300", "0410")}, [("KEPT_AS_TEXT", "c", 1)]),
    ("csvkit#977", "a.csv", "zip,n\n80210,1\n02116,2\n", {"zip": texts("80210", "02116"), "n": integers(1, 2)}, [("KEPT_AS_TEXT", "zip", 2)]),
    (
        "pandas#14704", "a.csv", "code,n\n0.5,1\n017,2\n", {"code": texts("0.5", "017"), "n": integers(1, 2)}, [("KEPT_AS_TEXT", "code", 2)],
    ),
    (
        "csvjson-app#84", "a.csv", 'id,n\n"204E020041",1\n777E060012,2\n',
        {"id": texts("204E020041", "777E060012"), "n": integers(1, 2)}, [("KEPT_AS_TEXT", "id", 1)],
    ),
    ("smarter_csv#345", "a.csv", "id,n\n12,1\n003E7,2\n", {"id": texts("12", "003E7"), "n": integers(1, 2)}, [("KEPT_AS_TEXT", "id", 2)]),
    ("OpenRefine#511", "a.csv", "code,n\n6E0,1\n6E1,2\n6B2,3\n", {"code": texts("6E0", "6E1", "6B2"), "n": integers(1, 2, 3)}, []),
    ("jsoncons#333", "a.csv", "drive,device\n0:0,6100C50A\n8:0,6111173E7BF\n", {"drive": texts("0:0", "8:0"), "device": texts("6100C50A", "6111173E7BF")}, []),
    ("node-csvtojson#130", "a.csv", "account,n\n0x1f,1\n0x2c,2\n", {"account": texts("0x1f", "0x2c"), "n": integers(1, 2)}, []),
    ("retriever#1327", "a.csv", "c,n\n3_0,1\n4_0,2\n", {"c": texts("3_0", "4_0"), "n": integers(1, 2)}, []),
    ("arrow-rs#950", "a.csv", "a,b\n4.,1\n5.,2\n", {"a": floats(4, 5), "b": integers(1, 2)}, []),
    ("meta-csv#5", "a.csv", "faelle;rate\n3.155;29,47\n4.799;33,75\n", {"faelle": integers(3155, 4799), "rate": floats(29.47, 33.75)}, []),
    ("may#244", "a.csv", "item;price\na;7,95\nb;2.345,60\n", {"item": texts("a", "b"), "price": floats(7.95, 2345.6)}, []),
    ("duckdb#10714", "a.csv", 'Value\n"75,310.00"\n', {"Value": floats(75310)}, []),
    ("csvkit#685", "a.csv", "core,us\n0,70000021\n", {"core": integers(0), "us": integers(70000021)}, []),
    ("csvkit#233", "a.csv", "flag,n\nY,1\nN,2\n", {"flag": texts("Y", "N"), "n": integers(1, 2)}, []),
    ("qsv#1639", "a.csv", "id,name\n1,Fay Holm\n2,Tom Hall\n", {"id": integers(1, 2), "name": texts("Fay Holm", "Tom Hall")}, []),
    ("pandas#14301", "a.csv", "d\n9/8/2017\n29/8/2017\n", {"d": dates(date(2017, 8, 9), date(2017, 8, 29))}, []),
    ("pandas#37895", "a.csv", "d,n\n23/05/2019,1\n11/05/2019,2\n", {"d": dates(date(2019, 5, 23), date(2019, 5, 11)), "n": integers(1, 2)}, []),
    (
        "pandas#2586", "a.csv", "t,n\n26.03.2004 14:55:00.000,1\n02.08.2004 15:20:00.000,2\n",
        {"t": ("DATETIME", [datetime(2004, 3, 26, 14, 55), datetime(2004, 8, 2, 15, 20)]), "n": integers(1, 2)}, [],
    ),
    ("exceljs#219", "a.xlsx", workbook(since=datetime(1904, 1, 1), s=[["d"], [date(2015, 10, 6)]]), {"d": dates(date(2015, 10, 6))}, []),
    ("ClickHouse#120634", "a.jsonl", '{"a": 1}\n' * 19 + '{"a": "008"}\n', {"a": texts(*"1" * 19, "008")}, [("MIXED_COLUMN", "a", 20)]),
    ("ClickHouse#120634", "a.csv", "a\n" + "1\n" * 19 + "x8\n", {"a": texts(*"1" * 19, "x8")}, [("MIXED_COLUMN", "a", 20)]),
]  # fmt: skip
LISTED: list[Case] = [
    ("r2dii.analysis#127", "a.csv", "iso,n\nNA,1\nNO,2\n", {"iso": texts(None, "NO"), "n": integers(1, 2)}, [("MISSING_WORDS", "iso", 1)]),
    ("pandas#39148", "a.xlsx", workbook(s=[["zone"], ["EU"], ["NA"]]), {"zone": texts("EU", None)}, [("MISSING_WORDS", "zone", 2)]),
    ("pandas#61788", "a.xlsx", workbook(s=[["h"], ["Bone"], ["None"]]), {"h": texts("Bone", None)}, [("MISSING_WORDS", "h", 2)]),
    ("pandas#24681", "a.tsv", "id\tword\nx\tn/a\ny\t<unk>\n", {"id": texts("x", "y"), "word": texts(None, "<unk>")}, [("MISSING_WORDS", "word", 1)]),
    ("dataprof#303", "a.csv", "f\ntrue\nFALSE\nNULL\nTrue\n", {"f": ("BOOLEAN", [True, False, None, True])}, [("MISSING_WORDS", "f", 3)]),
    (
        "readxl#533", "a.xlsx", workbook("Input", "Values", Input=[["x"], [1]], Form=[["a"], [2]], Values=[["y"], [3]]),
        {"a": integers(2)}, [("HIDDEN_SHEET", None, None), ("HIDDEN_SHEET", None, None)],
    ),
    ("openxlsx#434", "a.xlsx", workbook(one=[["a"], [1]], two=[["b"], [2]]), {"a": integers(1)}, [("OTHER_SHEET", None, None)]),
    ("pandas#10065", "a.csv", "a,b\n2.5,1\n-Infinity,2\n", {"a": floats(2.5, -math.inf), "b": integers(1, 2)}, [("INFINITE_VALUES", "a", 2)]),
    ("nushell#7644", "a.csv", "v,c\ninf,2\n", {"v": floats(math.inf), "c": integers(2)}, [("INFINITE_VALUES", "v", 1)]),
    (
        "pandas#12213", "a.json", '[{"a": NaN}, {"a": Infinity}, {"a": 2.5}]',
        {"a": floats(None, math.inf, 2.5)}, [("INFINITE_VALUES", "a", 2), ("MISSING_WORDS", "a", 1)],
    ),
    ("jless#51", "a.jsonl", '{"x": NaN}\n{"x": 3.5}\n', {"x": floats(None, 3.5)}, [("MISSING_WORDS", "x", 1)]),
    ("dataprof#452", "a.csv", "a,b\n1,2\n3,4,5,6\n7,8\n9,9\n9,8\n", {"a": integers(1, 7, 9, 9), "b": integers(2, 8, 9, 8)}, [("RAGGED_ROW", None, 2)]),
    ("inspect_ai#4549", "a.csv", "a,b\n1,x\n2\n3,y\n4,z\n", {"a": integers(1, 2, 3, 4), "b": texts("x", None, "y", "z")}, [("RAGGED_ROW", None, 2)]),
    (
        "pandas#15203", "a.csv", 'u,x,t\n200636,"R",0,\n', {"u": integers(200636), "x": texts("R"), "t": integers(0), "column_4": texts(None)},
        [("EMPTY_COLUMN_NAME", "column_4", None)],
    ),
    (
        "super#5090", "a.csv", "a,a,b\n1,2,3\n", {"a": integers(1), "a_2": integers(2), "b": integers(3)},
        [("DUPLICATE_COLUMN_NAME", "a_2", None)],
    ),
    (
        "sqlitebiter#55", "a.xlsx", workbook(s=[["A", "A", "A_2"], [1, 2, 3]]), {"A": integers(1), "A_3": integers(2), "A_2": integers(3)},
        [("DUPLICATE_COLUMN_NAME", "A_3", None)],
    ),
    ("charset_normalizer#624", "a.csv", "Jahr;Säle\n1983;14\n".encode("cp1252"), {"Jahr": integers(1983), "Säle": integers(14)}, [GUESSED]),
    ("smoothcsv3#228", "a.csv", "処理区分,件数\r\n3,4\r\n".encode("cp932"), {"処理区分": integers(3), "件数": integers(4)}, [GUESSED]),
    ("TableTool#26", "a.csv", "姓名,城市\n张伟,上海\n李娜,北京\n".encode("gbk"), {"姓名": texts("张伟", "李娜"), "城市": texts("上海", "北京")}, [GUESSED]),
    ("genoffice#438", "a.csv", "name,town\nBea,Oslo\n".encode("utf-16-le"), {"name": texts("Bea"), "town": texts("Oslo")}, [GUESSED]),
    ("unstructured#4443", "a.csv", "name,age\nBea,41\n".encode("utf-16"), {"name": texts("Bea"), "age": integers(41)}, []),
    ("csv#558", "a.csv", "á,é\nZoë,".encode() + b"Ren\xe9\n", {"á": texts("Zoë"), "é": texts("Ren\ufffd")}, [("UNDECODABLE_BYTES", "é", 1)]),
]  # fmt: skip
BEFORE: list[Case] = [
    (
        "node-csv-parse#81", "a.csv", "Report,,\nPeriod: 2015-02-01 to 2015-02-28,,\nLand,Code,Day\nFin,c1,2015-02-03\nUsa,d2,2015-02-04\n",
        {"Land": texts("Fin", "Usa"), "Code": texts("c1", "d2"), "Day": dates(date(2015, 2, 3), date(2015, 2, 4))}, [SKIPPED],
    ),
    ("csv#26", "a.csv", "some note\nanother one\nh0,h1\nr0,r1\nr2,r3\n", {"h0": texts("r0", "r2"), "h1": texts("r1", "r3")}, [SKIPPED]),
    ("arquero#165", "a.csv", "# station: Y\n# unit: ppm\nyear,mean\n1961,317.2\n", {"year": integers(1961), "mean": floats(317.2)}, [SKIPPED]),
    ("PowerShell#7776", "a.csv", "sep=,\na,b\n1,2\n", {"a": integers(1), "b": integers(2)}, [SKIPPED]),
    ("csharp-csv-reader#28", "a.csv", "sep=;\r\na;b\r\n1;2\r\n", {"a": integers(1), "b": integers(2)}, [SKIPPED]),
    ("neurolink#1192", "a.csv", "\ufeffsep=;\na;b\n1;2\n", {"a": integers(1), "b": integers(2)}, [SKIPPED]),
    ("export-to-csv#43", "a.csv", 'sep=~\n"A"~"B"\n"x"~"y"\n', {"A": texts("x"), "B": texts("y")}, [SKIPPED]),
    ("duckdb#25827", "a.csv", "c0\nv0\na;b\n", {"c0": texts("v0", "a;b")}, []),
    ("neurolink#1284", "a.csv", "name\n,,\nBea\n", {"name": texts(",,", "Bea")}, []),
    ("arrow#2883", "a.csv", "a,b\n\n1,2\n", {"a": integers(1), "b": integers(2)}, []),
    ("ImportExcel#1092", "a.xlsx", workbook(s=[["Figures of May"], [], ["id", "n", "v"], [1, 2, 3]]), {"id": integers(1), "n": integers(2), "v": integers(3)}, [SKIPPED]),
    ("readxl#224", "a.xlsx", workbook(s=[[], [], [], ["v1", "v2"], ["x", 1]]), {"v1": texts("x"), "v2": integers(1)}, []),
    (
        "fastexcel#233", "a.xlsx", workbook(s=[[], [None, "Note 2"], [], [None, "a", "b", "c"], [None, 1, 2, 3]]),
        {"a": integers(1), "b": integers(2), "c": integers(3)}, [SKIPPED],
    ),
]  # fmt: skip
SNIFFED: list[Case] = [
    ("PapaParse#658", "a.csv", 'f1;f2\nOne;"Two,2,2"\nThree;"Four,4,4"\n', {"f1": texts("One", "Three"), "f2": texts("Two,2,2", "Four,4,4")}, []),
    ("PapaParse#681", "a.csv", 'f1;f2\nOne;"T\nw,o,\n,2"\n', {"f1": texts("One"), "f2": texts("T\nw,o,\n,2")}, []),
    (
        "PapaParse#290", "a.csv", "03/02/2017;A;-31.419,06\n23/02/2017;A;-63,9\n04/02/2017;A;-349\n",
        {"column_1": dates(date(2017, 2, 3), date(2017, 2, 23), date(2017, 2, 4)), "column_2": texts("A", "A", "A"), "column_3": floats(-31419.06, -63.9, -349)},
        [NO_HEADER],
    ),
    ("vscode_rainbow_csv#134", "a.csv", "d;n\nMay 15, 2022;25.5\nMay 9, 2022;26.5\n", {"d": texts("May 15, 2022", "May 9, 2022"), "n": floats(25.5, 26.5)}, []),
    ("CSV.jl#746", "a.csv", "k1;k2;k3\n4;a,b,c;5\n", {"k1": integers(4), "k2": texts("a,b,c"), "k3": integers(5)}, []),
    ("CsvHelper#1955", "a.csv", '"  3,1  ";"  3,2  "\n"  4,1  ";"  4,2  "\n', {"column_1": floats(3.1, 4.1), "column_2": floats(3.2, 4.2)}, [NO_HEADER]),
    ("simplecsv#6", "a.csv", '"a b";"c d"\n"e f";"g ""4"", a problem"\n', {"a b": texts("e f"), "c d": texts('g "4", a problem')}, []),
    ("parsecsv-for-php#74", "a.csv", "'k1','k2'\n'v1','v2'\n", {"k1": texts("v1"), "k2": texts("v2")}, []),
    ("PapaParse#83", "a.csv", 'id,j\n1,"{""a"": 1, ""b"": 2}"\n', {"id": integers(1), "j": ("JSON", ['{"a": 1, "b": 2}'])}, []),
    ("Fair-Code#304", "a.txt", '[{"a":3}, {"a":4}]', {"a": integers(3, 4)}, []),
    ("empirica#118", "a.json", '{"a": 3}\n{"a": 4}\n', {"a": integers(3, 4)}, []),
    ("polars#26755", "a.csv", parquet(a=[3, 4]), {"a": integers(3, 4)}, []),
    ("TableTools#56", "a.xls", "a\tb\n3\t4\n", {"a": integers(3), "b": integers(4)}, []),
    ("cpython#102140", "a.csv", "sample,f1\nA3,/mnt/c\nA4,/mnt/d\n", {"sample": texts("A3", "A4"), "f1": texts("/mnt/c", "/mnt/d")}, []),
    ("cudf#1852", "a.jsonl", "[null]\n[2.0]\n", {"column_1": floats(None, 2)}, [NO_HEADER]),
]  # fmt: skip
UNICODE: list[Case] = [
    ("csvlint#37", "a.csv", '\ufeff"first","second"\n"Hi","you"\n', {"first": texts("Hi"), "second": texts("you")}, []),
    ("goawk#126", "a.csv", "\ufeff\ufeffid,name\n1,Bea\n", {"id": integers(1), "name": texts("Bea")}, []),
    ("collection#3", "a.json", '\ufeff[{"\ufeffTitle": "x"}]', {"Title": texts("x")}, []),
    ("bulkrax#688", "a.xlsx", workbook(s=[["\ufefffile"], ["x"]]), {"file": texts("x")}, []),
    ("ax#906", "a.jsonl", '{"t": "ab \\ud83d"}\n{"t": "\\ud83d\\ude00 \\\\ud83d"}\n', {"t": texts("ab \ufffd", "😀 \\ud83d")}, [("UNDECODABLE_BYTES", None, 1)]),
    ("gson#3113", "a.json", '[{"t": "ab \\udc00"}, {"t": "\\ud83d\\ude00"}]', {"t": texts("ab \ufffd", "😀")}, [("UNDECODABLE_BYTES", None, 1)]),
    ("stringi#37", "a.csv", "a,b\nx\u2028y,1\nz\u0085w,2\n", {"a": texts("x\u2028y", "z\u0085w"), "b": integers(1, 2)}, []),
    ("stringi#37", "a.jsonl", '{"t": "x\u2028y"}\n{"t": "z\u0085w"}\n', {"t": texts("x\u2028y", "z\u0085w")}, []),
    ("polars#21875", "a.csv", "n,k\n٣٤٥,1\n٣٤٦,2\n", {"n": texts("٣٤٥", "٣٤٦"), "k": integers(1, 2)}, []),
    ("superpower#70", "a.csv", "n,k\n\uff11\uff12,1\n", {"n": texts("\uff11\uff12"), "k": integers(1)}, []),
    ("ofbiz-framework#845", "a.csv", "n;k\n39\u202f000;1\n2\u202f500;2\n", {"n": texts("39\u202f000", "2\u202f500"), "k": integers(1, 2)}, []),
    ("globalize#288", "a.csv", "\u00a0id,n\n5\u00a0,2\n\u00a06,4\n", {"id": integers(5, 6), "n": integers(2, 4)}, []),
    two_names("a.csv", "Zoë,Zoe\u0308\n1,2\n".encode()),
    two_names("a.json", '[{"Zoë": 1, "Zoe\u0308": 2}]'.encode()),
    two_names("a.parquet", parquet(**dict(zip(("Zoë", "Zoe\u0308"), ([1], [2]), strict=True)))),
    two_names("a.xlsx", workbook(s=[["Zoë", "Zoe\u0308"], [1, 2]])),
]  # fmt: skip
REFUSED: list[tuple[str, str, str | bytes, str, str]] = [
    ("git-lfs#4278", "a.csv", "version https://git-lfs.github.com/spec/v1\noid sha256:bb\nsize 19\n", "UNSUPPORTED_FORMAT", "a pointer of Git LFS"),
    ("hydra#468", "a.csv", gzip.compress(b'[{"a": 1}]'), "UNSUPPORTED_FORMAT", "a gzip archive"),
    ("sheetjs#419", "a.xls", "<table><tr><td>a</td></tr><tr><td>1</td></tr></table>", "UNSUPPORTED_FORMAT", "an HTML page or an XML document"),
    ("alasql#484", "a.xls", '<?xml version="1.0"?>\n<Workbook></Workbook>', "UNSUPPORTED_FORMAT", "an XML document"),
    ("data-cli#262", "a.csv", "- a: 1\n  b: 2\n- a: 3\n  b: 4\n", "UNSUPPORTED_FORMAT", "a YAML document"),
    ("h2o-3#1550", "a.parquet", parquet(a=[1])[:-20], "UNREADABLE_FILE", "the file is truncated"),
    ("excelize#1877", "a.xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500) + "EncryptedPackage".encode("utf-16-le"), "UNREADABLE_FILE", "password"),
    ("xlsx#303", "a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(5_000), "UNREADABLE_FILE", "it is damaged, incomplete or of another kind"),
    ("qiita#3076", "a.csv", "a,b,c\n" + "1,2\n" * 50 + "1,2,3\n" * 60, "RAGGED_ROWS", "50 of 110 rows do not have 3 fields"),
]  # fmt: skip


def opened(folder: Path, name: str, content: str | bytes) -> Any:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return open_reader(RawFile(path), name, lambda _share, _step: None)[1]


def names_of(cases: list[Any]) -> list[str]:
    return [f"{case[0]} {case[1]}" for case in cases]


CASES = [*NUMBERS, *LISTED, *BEFORE, *SNIFFED, *UNICODE]


@pytest.mark.parametrize(("report", "name", "content", "columns", "issues"), CASES, ids=names_of(CASES))
def test_a_reported_input_is_read_without_a_silent_change(
    tmp_path: Path, report: str, name: str, content: str | bytes, columns: Columns, issues: list[Any]
) -> None:
    reader = opened(tmp_path, name, content)
    frames = list(reader.frames())
    while reader.needs_another_pass():
        frames = list(reader.frames())
    frame, types = pl.concat(frames), reader.column_types()
    assert {column: (types[column], frame[column].to_list()) for column in frame.columns} == columns, report
    found = [(issue["code"], issue["column"], issue["row"]) for issue in reader.issues.entries]
    assert sorted(found, key=str) == sorted(issues, key=str), report


@pytest.mark.parametrize(("report", "name", "content", "code", "said"), REFUSED, ids=names_of(REFUSED))
def test_what_is_no_table_is_refused_in_words_of_our_own(
    tmp_path: Path, report: str, name: str, content: str | bytes, code: str, said: str
) -> None:
    with pytest.raises(BadInput) as refusal:
        list(opened(tmp_path, name, content).frames())
    assert (refusal.value.code, said in str(refusal.value), str(tmp_path) in str(refusal.value)) == (code, True, False), report
