"""Further inputs of each kind that other systems were reported to read wrongly: columns, names, encodings, delimiters, sheets and joiners.

The data are made up. A row holds the report, the name and the content of the file, the types and cells by column, and the issues as (code,
column, row).
"""

from __future__ import annotations

import io
from datetime import date
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pytest

from tests.files import parquet, workbook
from tests.workers.ingest_runner import run_ingest
from tests.workers.read_files import Columns, Places, columns_and_issues, dates, floats, integers, texts

Case = tuple[str, str, str | bytes, Columns, Places]
GUESSED = ("ENCODING_GUESSED", None, None)
OTHER = ("OTHER_SHEET", None, None)
HIDDEN = ("HIDDEN_SHEET", None, None)


def renamed(*names: str) -> Places:
    return [("DUPLICATE_COLUMN_NAME", name, None) for name in names]


def unnamed(*names: str) -> Places:
    return [("EMPTY_COLUMN_NAME", name, None) for name in names]


def with_chart() -> bytes:
    """A workbook whose first sheet is a chart."""
    book = openpyxl.Workbook()
    book.create_chartsheet("Chart1", 0)
    book.worksheets[0].append(["a"])
    book.worksheets[0].append([7])
    target = io.BytesIO()
    book.save(target)
    return target.getvalue()


KINDS: dict[str, list[Case]] = {
    "duplicate names": [
        (
            "dkan#3627", "a.csv", "column_1, column_2, column_2, column_4\n1,2,3,4\n",
            {"column_1": integers(1), "column_2": integers(2), "column_2_2": integers(3), "column_4": integers(4)}, renamed("column_2_2"),
        ),
        ("polars#28310", "a.csv", "a,a_2,a\n1,2,3\n", {"a": integers(1), "a_2": integers(2), "a_3": integers(3)}, renamed("a_3")),
        (
            "ananas-desktop#66", "a.csv", "Address,Address,Address\nx,y,z\n",
            {"Address": texts("x"), "Address_2": texts("y"), "Address_3": texts("z")}, renamed("Address_2", "Address_3"),
        ),
        ("tabletojson#12", "a.tsv", "place\tplace\n1\t2\n", {"place": integers(1), "place_2": integers(2)}, renamed("place_2")),
        ("ckanext-xloader#15", "a.csv", '"n","n "\n1,2\n', {"n": integers(1), "n_2": integers(2)}, renamed("n_2")),
        ("dp-wizard#745", "a.csv", "A 1,A_1,1 A\n1,2,3\n", {"A 1": integers(1), "A_1": integers(2), "1 A": integers(3)}, []),
        (
            "csvjdbc#38", "a.csv", "id,,,b\n1,2,3,4\n",
            {"id": integers(1), "column_2": integers(2), "column_3": integers(3), "b": integers(4)}, unnamed("column_2", "column_3"),
        ),
        ("janitor#251", "a.csv", "a1,A1,a1_2\n3,1,2\n", {"a1": integers(3), "A1": integers(1), "a1_2": integers(2)}, []),
        (
            "spark#29862", "a.csv", "a,,column_2\n1,2,3\n", {"a": integers(1), "column_2_2": integers(2), "column_2": integers(3)},
            unnamed("column_2_2"),
        ),
        (
            "sqlitebiter#55", "a.xlsx", workbook(s=[["A", "A", "A_2", "A_2"], [1, 2, 3, 4]]),
            {"A": integers(1), "A_3": integers(2), "A_2": integers(3), "A_2_2": integers(4)}, renamed("A_3", "A_2_2"),
        ),
        ("csvkit#306", "a.parquet", parquet(a=[1], b=[2]), {"a": integers(1), "b": integers(2)}, []),
    ],
    "encodings": [
        ("node-csv-parse#318", "a.csv", '\ufeffa,b\n"x","y"\n'.encode("utf-16-le"), {"a": texts("x"), "b": texts("y")}, []),
        ("csv-viewer-online#35", "a.csv", "name,town\nJosé,Köln\n".encode("cp1252"), {"name": texts("José"), "town": texts("Köln")}, [GUESSED]),
        ("csv-viewer-online#35", "a.csv", "name,town\nAnn,Rome\n".encode("utf-16-be"), {"name": texts("Ann"), "town": texts("Rome")}, [GUESSED]),
        ("csv-viewer-online#4", "a.csv", "w;n\nGrüße;1\nFüße;2\n".encode("latin-1"), {"w": texts("Grüße", "Füße"), "n": integers(1, 2)}, [GUESSED]),
        ("datacore/website#615", "a.csv", "crew,n\nRenée,1\nCristóbal,2\n", {"crew": texts("Renée", "Cristóbal"), "n": integers(1, 2)}, []),
        ("binoc#80", "a.csv", "\ufeffid,w\n1,é\n", {"id": integers(1), "w": texts("é")}, []),
        (
            "PapaParse#750", "a.csv", "price,n\n5 €,1\n7 €,2\n".encode("cp1252"),
            {"price": texts("5 €", "7 €"), "n": integers(1, 2)}, [("KEPT_AS_TEXT", "price", 1), GUESSED],
        ),
        (
            "parsecsv-for-php#207", "a.csv", "função,n\nSão Paulo,1\nBelém,2\nAdministração,3\n".encode("cp1252"),
            {"função": texts("São Paulo", "Belém", "Administração"), "n": integers(1, 2, 3)}, [GUESSED],
        ),
        ("csv-reconcile#41", "a.csv", "nazwa,n\nŻółw,1\nGęś,2\nŁódź,3\n".encode("cp1250"), {"nazwa": texts("Żółw", "Gęś", "Łódź"), "n": integers(1, 2, 3)}, [GUESSED]),
        ("jasp-desktop#4539", "a.jsonl", '{"w": "é"}\n{"w": "ü"}\n'.encode("utf-16"), {"w": texts("é", "ü")}, []),
        ("csv-parse#318", "a.json", '[{"w": "é"}]'.encode("utf-8-sig"), {"w": texts("é")}, []),
    ],
    "delimiters": [
        (
            "cpython#97611", "a.txt", "order id\tship date\n1 a\t2023-05-12\n2 b\t2023-05-13\n",
            {"order id": texts("1 a", "2 b"), "ship date": dates(date(2023, 5, 12), date(2023, 5, 13))}, [],
        ),
        (
            "pysdmx#460", "a.csv", 'flow,unit,v\nEI|Q|B,"A|B, C",1\nEI|Q|D,"A|B, C",2\n',
            {"flow": texts("EI|Q|B", "EI|Q|D"), "unit": texts("A|B, C", "A|B, C"), "v": integers(1, 2)}, [],
        ),
        (
            "duckdb#14115", "a.csv", "FlightDate|UniqueCarrier|Origin\n1988-01-01|AA|New York, NY\n1988-01-02|AA|Los Angeles, CA\n",
            {"FlightDate": dates(date(1988, 1, 1), date(1988, 1, 2)), "UniqueCarrier": texts("AA", "AA"), "Origin": texts("New York, NY", "Los Angeles, CA")}, [],
        ),
        ("messytables#113", "a.txt", "a|b\n1|x\n2|y\n", {"a": integers(1, 2), "b": texts("x", "y")}, []),
        (
            "datapusher-plus#256", "a.csv", "date;temperature;place\n2011-01-01;1;Galway\n2011-01-02;-1;Berkeley\n",
            {"date": dates(date(2011, 1, 1), date(2011, 1, 2)), "temperature": integers(1, -1), "place": texts("Galway", "Berkeley")}, [],
        ),
        ("CHCSVParser#81", "a.csv", "a\tb\n1\tx;y\n2\tz\n", {"a": integers(1, 2), "b": texts("x;y", "z")}, []),
        ("eclaireur_public#244", "a.csv", "nom;montant\nA, B;10\nC, D;20\n", {"nom": texts("A, B", "C, D"), "montant": integers(10, 20)}, []),
        (
            "cpython#119123", "a.csv", "id;a;cost;group\n1;False;62.25;['345']\n4;True;46.50;['112', '113']\n",
            {"id": integers(1, 4), "a": ("BOOLEAN", [False, True]), "cost": floats(62.25, 46.5), "group": texts("['345']", "['112', '113']")}, [],
        ),
        ("orca#19894", "a.csv", "a;b;c\n1,5;x;2,5\n3,5;y;4,5\n", {"a": floats(1.5, 3.5), "b": texts("x", "y"), "c": floats(2.5, 4.5)}, []),
        (
            "vscode_rainbow_csv#134", "a.csv", "April 15, 2023;40;25.00;Ray;pending;\nApril 9, 2023;67;26.50;Lon;done;\n",
            {"column_1": texts("April 15, 2023", "April 9, 2023"), "column_2": integers(40, 67), "column_3": floats(25, 26.5),
             "column_4": texts("Ray", "Lon"), "column_5": texts("pending", "done"), "column_6": texts(None, None)},
            [("NO_HEADER", None, 1), ("KEPT_AS_TEXT", "column_1", 1)],
        ),
    ],
    "sheets": [
        ("readxl#116", "a.xlsx", with_chart(), {"a": integers(7)}, []),
        ("sheetjs#292", "a.xlsx", workbook(cover=[], data=[["a"], [1]]), {"a": integers(1)}, []),
        ("readxl#513", "a.xlsx", workbook("Input", Input=[["x"], [1]], Form=[["y"], [2]]), {"y": integers(2)}, [HIDDEN]),
        ("excel4node#236", "a.xlsx", workbook("x", x=[["x"], [1]], y=[["y"], [2]], z=[["z"], [3]]), {"y": integers(2)}, [HIDDEN, OTHER]),
        ("ExcelDataReader#27", "a.xlsx", workbook(one=[["a"], [1]], two=[["a"], [2]], three=[["a"], [3]]), {"a": integers(1)}, [OTHER, OTHER]),
        ("OpenRefine#280", "a.xlsx", workbook(notes=[[]], first=[["a"], [1]], second=[["b"], [2]]), {"a": integers(1)}, [OTHER]),
        ("sirius-web#761", "a.xlsx", workbook("h", s=[["a"], [1]], t=[["b"], [2]], h=[["c"], [3]]), {"a": integers(1)}, [OTHER, HIDDEN]),
        ("PK-Sim#1007", "a.xlsx", workbook(s=[["a"], [1]], empty=[]), {"a": integers(1)}, []),
        ("sheetjs#1433", "a.xlsx", workbook("a", "b", v=[], a=[["x"], [1]], b=[["y"], [2]]), {"x": integers(1)}, [HIDDEN, HIDDEN]),
        ("orbeon-forms#5665", "a.xlsx", workbook(Blatt=[["ä"], ["ö"]], Blatt2=[["x"], [1]]), {"ä": texts("ö")}, [OTHER]),
    ],
    "joiners and accents": [
        ("persian.js#20", "a.csv", "w,n\nنوشته\u200cی,1\nدل\u200cها,2\n", {"w": texts("نوشته\u200cی", "دل\u200cها"), "n": integers(1, 2)}, []),
        ("OmniRoute#12186", "a.jsonl", '{"می\u200cروم": "👨\u200d👩\u200d👧"}\n', {"می\u200cروم": texts("👨\u200d👩\u200d👧")}, []),
        ("watermarks-remover#27", "a.json", '[{"s": "क्\u200dष"}, {"s": "x\u06ddy"}]', {"s": texts("क्\u200dष", "x\u06ddy")}, []),
        ("carpedm20/emoji#265", "a.parquet", parquet(s=["👩\u200d", "\u200d👩"]), {"s": texts("👩\u200d", "\u200d👩")}, []),
        ("lute-v3#612", "a.csv", "w,t\nAmerika\u200b \u200bKusini,a\nhabari,b\n", {"w": texts("Amerika\u200b \u200bKusini", "habari"), "t": texts("a", "b")}, []),
        ("rumi-jawi#3", "a.tsv", "w\tn\nساءين\u200cس\t1\nساءينس\t2\n", {"w": texts("ساءين\u200cس", "ساءينس"), "n": integers(1, 2)}, []),
        ("alpheios-core#491", "a.xlsx", workbook(s=[["w"], ["مشکل\u200cها"]]), {"w": texts("مشکل\u200cها")}, []),
        ("unidecode#62", "a.csv", "w,n\n\u0400,1\n\u0415\u0300,2\n", {"w": texts("\u0400", "\u0415\u0300"), "n": integers(1, 2)}, []),
        ("nogizaka-call#1", "a.csv", "\u30bf\u3099,n\nx,1\n", {"\u30c0": texts("x"), "n": integers(1)}, []),
        (
            "duckdb#478", "a.json", '[{"\u00e4": 1, "b": 2}, {"a\u0308": 3, "b": 4}]',
            {"\u00e4": integers(1, None), "b": integers(2, 4), "\u00e4_2": integers(None, 3)}, renamed("\u00e4_2"),
        ),
    ],
}  # fmt: skip
EMPTY: list[tuple[str, str, str | bytes, dict[str, str], list[str]]] = [
    ("arrow-rs#4903", "a.csv", 'i,e,s\n1,,"a"\n2,,"b"\n', {"i": "INTEGER", "e": "STRING", "s": "STRING"}, ["e"]),
    ("datafusion#17796", "a.csv", "c1,c2,c3\n1,2,\n3,4,\n", {"c1": "INTEGER", "c2": "INTEGER", "c3": "STRING"}, ["c3"]),
    ("FSharp.Data#1192", "a.csv", "row,c1,c2,c3\n1,,5,\n2,4,6,\n", {"row": "INTEGER", "c1": "INTEGER", "c2": "INTEGER", "c3": "STRING"}, ["c3"]),
    ("mathesar#2657", "a.tsv", "a\te\n1\t\n2\t\n", {"a": "INTEGER", "e": "STRING"}, ["e"]),
    ("datachain#1147", "a.jsonl", '{"a": 1, "e": null}\n{"a": 2, "e": null}\n', {"a": "INTEGER", "e": "STRING"}, ["e"]),
    ("Datamancer#26", "a.json", '[{"a": 1, "e": ""}, {"a": 2}]', {"a": "INTEGER", "e": "STRING"}, ["e"]),
    ("tablesaw#822", "a.xlsx", workbook(s=[["a", "e", "o"], [1, None, "hi"]]), {"a": "INTEGER", "e": "STRING", "o": "STRING"}, ["e"]),
    ("readxl#162", "a.xlsx", workbook(s=[["a", None, "b"], [1, None, 2]]), {"a": "INTEGER", "column_2": "STRING", "b": "INTEGER"}, ["column_2"]),
    ("readxl#766", "a.xlsx", workbook(s=[["a", "b"], *([n, None] for n in range(1_200)), [1, "x"]]), {"a": "INTEGER", "b": "STRING"}, []),
    ("sheetjs#147", "a.xlsx", workbook(s=[["a", "b"], ["hello", None], ["you", 2]]), {"a": "STRING", "b": "INTEGER"}, []),
    ("arrow#49338", "a.csv", "a,b\n" + "1,\n" * 500 + "2,7\n", {"a": "INTEGER", "b": "INTEGER"}, []),
    ("texera#7568", "a.csv", "a,b\n1,2.6\n2,\n3,0.75\n", {"a": "INTEGER", "b": "FLOAT"}, []),
    ("mathesar#2657", "a.parquet", parquet(a=[1, 2], b=pa.nulls(2), c=pa.array([None, None], pa.bool_())), {"a": "INTEGER", "b": "STRING", "c": "BOOLEAN"}, ["b", "c"]),
]  # fmt: skip


def cases() -> list[Any]:
    return [pytest.param(*case, id=f"{kind} {case[0]} {case[1]}") for kind, rows in KINDS.items() for case in rows]


@pytest.mark.parametrize(("report", "name", "content", "columns", "issues"), cases())
def test_a_reported_table_is_read_as_it_was_meant(
    tmp_path: Path, report: str, name: str, content: str | bytes, columns: Columns, issues: Places
) -> None:
    assert columns_and_issues(tmp_path, name, content) == (columns, sorted(issues, key=str)), report


@pytest.mark.parametrize(("report", "name", "content", "types", "empty"), EMPTY, ids=[f"{case[0]} {case[1]}" for case in EMPTY])
def test_an_empty_column_is_kept_and_told(
    tmp_path: Path, report: str, name: str, content: str | bytes, types: dict[str, str], empty: list[str]
) -> None:
    result, frame = run_ingest(tmp_path, content.encode() if isinstance(content, str) else content, name)
    categories = {column["name"]: column["type"].replace("CATEGORY", "STRING") for column in result["columns"]}
    assert (categories, [issue["column"] for issue in result["issues"] if issue["code"] == "EMPTY_COLUMN"]) == (types, empty), report
    assert [name for name in frame.columns if not frame[name].count()] == empty
