"""Inputs of the kinds that other systems were reported to read wrongly; the data are made up. Each row names the report.

A row holds the report, the name and the content of the file, the types and cells by column, and the issues as (code, column, row).
"""

from __future__ import annotations

import gzip
import io
import math
import zipfile
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.files import parquet, workbook
from tests.workers.read_files import Columns, Places, columns_and_issues, dates, floats, integers, opened, texts
from workers.ml.errors import BadInput

Case = tuple[str, str, str | bytes, Columns, Places]
NO_HEADER = ("NO_HEADER", None, 1)
SKIPPED = ("SKIPPED_LINES", None, None)
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
GUESSED = ("ENCODING_GUESSED", None, None)


def archive(**files: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return target.getvalue()


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
    (
        "csvkit#1028", "a.csv", "n,price\n1,0050.25\n2,3.5\n", {"n": integers(1, 2), "price": texts("0050.25", "3.5")},
        [("KEPT_AS_TEXT", "price", 1)],
    ),
    ("smarter_csv#345", "a.xlsx", workbook(s=[["id"], ["-007.5"], ["12"]]), {"id": texts("-007.5", "12")}, [("KEPT_AS_TEXT", "id", 1)]),
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
    ("smoothcsv3#239", "a.csv", "点検連番,型式\r\n1,2\r\n".encode("cp932"), {"点検連番": integers(1), "型式": integers(2)}, [GUESSED]),
    (
        "polygonplanet/encoding.js#12", "a.csv", "Prénom;Nom\ninvitéàçù01;x\ninvite02;invitéàçù01\n".encode("cp1252"),
        {"Prénom": texts("invitéàçù01", "invite02"), "Nom": texts("x", "invitéàçù01")}, [GUESSED],
    ),
    ("gbif/pipelines#228", "a.csv", "d,n\n03/08/2019,1\n10/06/2019,2\n", {"d": texts("03/08/2019", "10/06/2019"), "n": integers(1, 2)}, [("OPEN_DATES", "d", 1)]),
    ("SheetJS#1005", "a.xlsx", workbook(s=[["d"], ["01/04/2018"]]), {"d": texts("01/04/2018")}, [("OPEN_DATES", "d", 1)]),
    (
        "wealthfolio#1601", "a.jsonl", '{"d": "03/08/2026 10:00", "n": 1}\n{"d": "10/06/2026 11:30", "n": null}\n',
        {"d": texts("03/08/2026 10:00", "10/06/2026 11:30"), "n": integers(1, None)}, [("OPEN_DATES", "d", 1)],
    ),
    (
        "ResInsight#9611", "a.csv", "TIME;WBHPH\nDAYS;BARS\n1;45.5\n2;78.5\n", {"TIME": texts("DAYS", "1", "2"), "WBHPH": texts("BARS", "45.5", "78.5")},
        [("UNITS_ROW", None, 1)],
    ),
    (
        "ResInsight#9611", "a.xlsx", workbook(s=[["t", "name"], ["s", "-"], [1, "a"], [2, "b"]]), {"t": texts("s", "1", "2"), "name": texts("-", "a", "b")},
        [("UNITS_ROW", "t", 1)],
    ),
    (
        "ResInsight#9611", "a.jsonl", '["t", "v"]\n["s", "m"]\n[1, 2.5]\n[2, 3.5]\n', {"t": texts("s", "1", "2"), "v": texts("m", "2.5", "3.5")},
        [("UNITS_ROW", None, 1)],
    ),
    ("ResInsight#9611", "a.csv", "t\ns\n" + "1\n" * 30, {"t": texts("s", *"1" * 30)}, [("UNITS_ROW", "t", 1)]),
    (
        "readr#88", "a.csv", 'Id,Race\n653,Other\n433,White\n"Grand Total: 6,634",\n',
        {"Id": texts("653", "433", "Grand Total: 6,634"), "Race": texts("Other", "White", None)},
        [("FOOTER_ROW", None, 3)],
    ),
    (
        "CsvHelper#893", "a.xlsx", workbook(s=[["item", "n"], ["a", 1], ["b", 2], ["Summe", 3]]), {"item": texts("a", "b", "Summe"), "n": integers(1, 2, 3)},
        [("FOOTER_ROW", None, 3)],
    ),
    (
        "beangulp#173", "a.jsonl", '{"item": "a", "n": 1}\n{"item": "b", "n": 2}\n{"item": "Total", "n": 3}\n',
        {"item": texts("a", "b", "Total"), "n": integers(1, 2, 3)}, [("FOOTER_ROW", None, 3)],
    ),
    (
        "datapackage#813", "a.parquet", parquet(item=["a", "b", "合計"], n=[1, 2, 3]), {"item": texts("a", "b", "合計"), "n": integers(1, 2, 3)},
        [("FOOTER_ROW", None, 3)],
    ),
    (
        "hledger#1076", "a.csv", "d,n\n" + "x,1\n" * 4 + "***END OF FILE***\n", {"d": texts(*"x" * 4, "***END OF FILE***"), "n": integers(1, 1, 1, 1, None)},
        [("FOOTER_ROW", None, 5), ("RAGGED_ROW", None, 5)],
    ),
    (
        "node-csv#356", "a.csv", "H,n,m\n" + "D,1,2\n" * 12 + "T,12,\n", {"H": texts(*"D" * 12, "T"), "n": integers(*[1] * 12, 12), "m": integers(*[2] * 12, None)},
        [("FOOTER_ROW", None, 13)],
    ),
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
    (
        "vscode_rainbow_csv#134", "a.csv", "d;n\nMay 15, 2022;25.5\nMay 9, 2022;26.5\n",
        {"d": texts("May 15, 2022", "May 9, 2022"), "n": floats(25.5, 26.5)}, [("KEPT_AS_TEXT", "d", 1)],
    ),
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
    ("polars#21875", "a.csv", "n,k\n٣٤٥,1\n٣٤٦,2\n", {"n": integers(345, 346), "k": integers(1, 2)}, [("NUMBER_SPELLING", "n", 1)]),
    ("superpower#70", "a.csv", "n,k\n\uff11\uff12,1\n", {"n": integers(12), "k": integers(1)}, [("NUMBER_SPELLING", "n", 1)]),
    ("ofbiz-framework#845", "a.csv", "n;k\n39\u202f000;1\n2\u202f500;2\n", {"n": integers(39000, 2500), "k": integers(1, 2)}, [("NUMBER_SPELLING", "n", 1)]),
    ("globalize#288", "a.csv", "\u00a0id,n\n5\u00a0,2\n\u00a06,4\n", {"id": integers(5, 6), "n": integers(2, 4)}, []),
    ("polars#28163", "a.csv", "price;n\n1,5;1\n\u22123,5;2\n−0,50;3\n", {"price": floats(1.5, -3.5, -0.5), "n": integers(1, 2, 3)}, [("NUMBER_SPELLING", "price", 2)]),
    ("actual#6206", "a.xlsx", workbook(s=[["sum"], ["\u2212100"], ["\u2013200"], ["300"]]), {"sum": integers(-100, -200, 300)}, [("NUMBER_SPELLING", "sum", 1)]),
    (
        "bank2ynab#527", "a.csv", "n;k\n\u22121\u00a0234,5;1\n22\u00a0000,25;2\n1\u2019000,5;3\n", {"n": floats(-1234.5, 22000.25, 1000.5), "k": integers(1, 2, 3)},
        [("NUMBER_SPELLING", "n", 1)],
    ),
    ("bank2ynab#527", "a.csv", "n,k\n39 000,1\n2 500,2\n", {"n": texts("39 000", "2 500"), "k": integers(1, 2)}, [("KEPT_AS_TEXT", "n", 1)]),
    ("PapaParse#917", "a.csv", "a,b\n1,x\n\u200b\n2,y\n", {"a": integers(1, 2), "b": texts("x", "y")}, [("INVISIBLE_LINE", None, 2)]),
    (
        "PapaParse#917", "a.csv", 'a,b\n1,x\n\ufeff\u200b\n2,"y" z\n3,w\n', {"a": integers(1, 2, 3), "b": texts("x", '"y" z', "w")},
        [("BROKEN_QUOTE", "b", 2), ("INVISIBLE_LINE", None, 2)],
    ),
    ("PapaParse#917", "a.jsonl", '{"a": 1}\n\u200b\n{"a": 2}\n', {"a": integers(1, 2)}, [("INVISIBLE_LINE", None, 2)]),
    (
        "postmangovsg#88", "a.csv", "a,b\n1,\u200b\n2\u200b,3\n", {"a": integers(1, 2), "b": integers(None, 3)},
        [("MISSING_WORDS", "b", 1), ("NUMBER_SPELLING", "a", 2)],
    ),
    ("postmangovsg#88", "a.jsonl", '{"a": "\u2060"}\n{"a": "x"}\n', {"a": texts(None, "x")}, [("MISSING_WORDS", "a", 1)]),
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
    ("excelize#1877", "a.xlsx", OLE + bytes(500) + "EncryptedPackage".encode("utf-16-le"), "UNREADABLE_FILE", "password"),
    ("xlsx#303", "a.xls", OLE + bytes(5_000), "UNREADABLE_FILE", "it is damaged, incomplete or of another kind"),
    ("qiita#3076", "a.csv", "a,b,c\n" + "1,2\n" * 50 + "1,2,3\n" * 60, "RAGGED_ROWS", "50 of 110 rows do not have 3 fields"),
    ("flux#4763", "a.json", '[{"a": 1}, {"a": 2,}]', "BAD_JSON", "in row 2: a comma before a closing bracket"),
    ("trace-viewer#119", "a.json", '[{"a": 1}, {"a": 2},]', "BAD_JSON", "Remove the comma"),
    ("flux#4763", "a.jsonl", '{"a": 1,}\n{"a": 2,}\n', "BAD_JSON", "row 1, is not valid JSON: a comma before a closing bracket"),
    ("insomnia#1150", "a.json", "[{'a': 1}]", "BAD_JSON", "JSON has names and texts in double quotes"),
    ("insomnia#1150", "a.jsonl", "{'a': 1}\n{'a': 2}\n", "BAD_JSON", "JSON has names and texts in double quotes"),
    ("cols-agent-tasks#71", "a.json", '[{"a": 1}, /* two */ {"a": 2}]', "BAD_JSON", "in row 2: a comment"),
    ("commentjson#10", "a.json", '[{"a": 1}, # this is a quote: "\n {"a": 2}]', "BAD_JSON", "JSON has no comments: remove them"),
    ("cols-agent-tasks#71", "a.json", '// two\n[{"a": 1}]', "BAD_JSON", "at its beginning: a comment"),
    ("jsonlite#281", "a.json", '[{"a": +Infinity}]', "BAD_JSON", "the word +Infinity"),
    ("JSON3.jl#230", "a.jsonl", '{"a": True}\n{"a": None}\n', "BAD_JSON", "the word True"),
    ("csv-parser#323", "a.json", '[{"n": 67, "m": 069}]', "BAD_JSON", "a number with a leading zero"),
    ("web-ext-translator#25", "a.json", "[{a: 1}]", "BAD_JSON", "a name without quotes"),
    ("misode.github.io#276", "a.json", '[{"a": "x\ny"}]', "BAD_JSON", "inside a text"),
    ("json-iterator#274", "a.json", '[{"a": "x" "b": 1}]', "BAD_JSON", "where a comma or a colon is missing"),
    ("parquet-java#3069", "a.parquet", parquet(a=[1])[:-1], "UNREADABLE_FILE", "the file is truncated"),
    ("parquet-java#2058", "a.parquet", parquet(a=[1])[:-8] + b"\xff\xff\xff\x7fPAR1", "UNREADABLE_FILE", "has 2,147,483,647 bytes, and the whole file has"),
    ("parquet-java#2109", "a.parquet", parquet(a=[1])[:-100] + bytes(92) + parquet(a=[1])[-8:], "UNREADABLE_FILE", "its footer, which describes the columns"),
    ("PyExcelerate#71", "a.xlsx", archive(mimetype="application/vnd.oasis.opendocument.spreadsheet"), "UNSUPPORTED_FORMAT", "an OpenDocument file"),
    ("docx2python#12", "a.xlsx", archive(**{"[Content_Types].xml": "", "word/document.xml": ""}), "UNSUPPORTED_FORMAT", "a Word document"),
    ("addons-server#19994", "a.xlsx", archive(**{"readme.txt": "x"}), "UNSUPPORTED_FORMAT", "a ZIP archive ('readme.txt')"),
    ("PhpSpreadsheet#2981", "a.xlsx", OLE + bytes(3 << 20) + "EncryptedPackage".encode("utf-16-le") + bytes(3 << 20), "UNREADABLE_FILE", "is protected with a password"),
    ("npoi#1650", "a.xls", OLE + bytes(500) + "WordDocument".encode("utf-16-le"), "UNSUPPORTED_FORMAT", "a Word document"),
    ("pandas#12494", "a.csv", ",,\n", "EMPTY_FILE", "contains only delimiters (',,')"),
    ("pandas#12494", "a.csv", ";;\n;;\n", "EMPTY_FILE", "contains only delimiters"),
    ("sqlite-utils#808", "a.csv", "\u200b\n \n", "EMPTY_FILE", "contains only blank lines"),
]  # fmt: skip


def names_of(cases: list[Any]) -> list[str]:
    return [f"{case[0]} {case[1]}" for case in cases]


CASES = [*NUMBERS, *LISTED, *BEFORE, *SNIFFED, *UNICODE]


@pytest.mark.parametrize(("report", "name", "content", "columns", "issues"), CASES, ids=names_of(CASES))
def test_a_reported_input_is_read_without_a_silent_change(
    tmp_path: Path, report: str, name: str, content: str | bytes, columns: Columns, issues: Places
) -> None:
    found, places = columns_and_issues(tmp_path, name, content)
    assert (found, places) == (columns, sorted(issues, key=str)), report


@pytest.mark.parametrize(("report", "name", "content", "code", "said"), REFUSED, ids=names_of(REFUSED))
def test_what_is_no_table_is_refused_in_words_of_our_own(
    tmp_path: Path, report: str, name: str, content: str | bytes, code: str, said: str
) -> None:
    with pytest.raises(BadInput) as refusal:
        list(opened(tmp_path, name, content).frames())
    assert (refusal.value.code, said in str(refusal.value), str(tmp_path) in str(refusal.value)) == (code, True, False), report
