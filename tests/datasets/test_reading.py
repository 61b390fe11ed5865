"""Files of every kind are read through the API: columns, cells and issues of examples from public reports about other systems."""

from __future__ import annotations

import json
from datetime import time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from tests import files
from tests.client import Client
from tests.exhaustive import exhaustive, is_sampled
from tests.files import parquet

VERSION = """query($id: ID!) { node(id: $id) { ... on DatasetVersion { format columns { name type } preview(first: 3) issues { code column row message }
  profile { columns { type infiniteCount min max mean quantiles histogram { count } } } } } }"""
REQUEST = """mutation($input: RequestUploadInput!) { requestUpload(input: $input) { __typename ... on InvalidInput { issues { path message } } } }"""


def workbook(rows: list[list[Any]], **hidden: list[list[Any]]) -> bytes:
    return files.workbook(*hidden, Sheet=rows, **hidden)  # pyright: ignore[reportArgumentType] - no sheet is called `since` or `shown`


LONG = 2**64 + 1
CASES: list[tuple[str, str, bytes, dict[str, str], dict[str, Any], list[tuple[str, str | None, int | None]]]] = [
    # vizabi#2547, BudgetMaster#731
    (
        "a decimal comma decides for the file",
        "a.csv",
        b"preis;umsatz\n4,50;5.148\n5,50;6.185\n",
        {"preis": "FLOAT", "umsatz": "INTEGER"},
        {"preis": 4.5, "umsatz": 5148},
        [],
    ),
    (
        "an open mark is listed",
        "a.csv",
        b"a;b\n5.148;x\n6.185;y\n",
        {"a": "FLOAT", "b": "STRING"},
        {"a": 5.148, "b": "x"},
        [("DECIMAL_MARK_ASSUMED", "a", None)],
    ),
    # snowflake-connector-python#828, fastparquet#48
    (
        "decimals of Parquet",
        "a.parquet",
        parquet(id=pa.array([Decimal(2**53 + 1)], pa.decimal128(38, 0)), wide=pa.array([Decimal(LONG)], pa.decimal128(38, 0))),
        {"id": "INTEGER", "wide": "DECIMAL"},
        {"id": 2**53 + 1, "wide": str(LONG)},
        [],
    ),
    (
        "long numbers of CSV",
        "a.csv",
        f"a,b\n{LONG},{10**40}\n1,2\n".encode(),
        {"a": "DECIMAL", "b": "STRING"},
        {"a": str(LONG), "b": str(10**40)},
        [("KEPT_AS_TEXT", "b", 1)],
    ),
    (
        "long numbers of JSON",
        "a.json",
        json.dumps([{"a": LONG, "b": 10**40}]).encode(),
        {"a": "DECIMAL", "b": "STRING"},
        {"a": str(LONG), "b": str(10**40)},
        [("KEPT_AS_TEXT", "b", 1)],
    ),
    # duckdb#12746
    (
        "comments before the header",
        "a.csv",
        b"# station Kiel, exported 2024-02-01\n# by logger, v2\nid,temp\n0,0.5\n",
        {"id": "INTEGER", "temp": "FLOAT"},
        {"id": 0, "temp": 0.5},
        [("SKIPPED_LINES", None, None)],
    ),
    # calamine#318, dbx#3282
    (
        "durations and times of day of Excel",
        "a.xlsx",
        workbook([["worked", "start"], [timedelta(hours=36), time(6)], [timedelta(hours=1), time(7)]]),
        {"worked": "DURATION", "start": "TIME"},
        {"worked": 129_600.0, "start": "06:00:00"},
        [],
    ),
    (
        "durations and times of day of text",
        "a.csv",
        b"worked,start\n36:00:00,06:00\n1:00:00,07:00\n",
        {"worked": "DURATION", "start": "TIME"},
        {"worked": 129_600.0, "start": "06:00:00"},
        [],
    ),
    # polars#22408
    (
        "floats beyond 64 bits of CSV",
        "a.csv",
        b"g,m\nx,3000000000000000.0\ny,3e+30\n",
        {"g": "STRING", "m": "FLOAT"},
        {"g": "x", "m": 3e15},
        [],
    ),
    (
        "floats beyond 64 bits of Excel",
        "a.xlsx",
        workbook([["g", "m"], ["x", 3e30], ["y", 1e-10]]),
        {"g": "STRING", "m": "FLOAT"},
        {"g": "x", "m": 3e30},
        [],
    ),
    # datafusion#17222, cudf#12446
    (
        "lines that are arrays",
        "a.jsonl",
        b'["id","name"]\n[0,"n0"]\n[1,"n1"]\n',
        {"id": "INTEGER", "name": "STRING"},
        {"id": 0, "name": "n0"},
        [],
    ),
    # onyx#13354, pandas#25763
    (
        "formulas without values",
        "a.xlsx",
        workbook([["a", "total"], [1, "=A2*2"], [2, "=A3*2"]]),
        {"a": "INTEGER", "total": "STRING"},
        {"a": 1, "total": None},
        [("FORMULA_WITHOUT_VALUE", "total", 1), ("EMPTY_COLUMN", "total", None)],
    ),
    # pandas#29668, Sylvan#41
    (
        "error cells",
        "a.xlsx",
        workbook([["a", "ratio"], [0, "#DIV/0!"], [1, 10.5], [2, "#N/A"]]),
        {"a": "INTEGER", "ratio": "FLOAT"},
        {"a": 0, "ratio": None},
        [("ERROR_CELL", "ratio", 1), ("ERROR_CELL", "ratio", 3)],
    ),
    ("a hidden sheet", "a.xlsx", workbook([["a"], [1]], notes=[["b"], [2]]), {"a": "INTEGER"}, {"a": 1}, [("HIDDEN_SHEET", None, None)]),
    (
        "words and infinities",
        "a.csv",
        b"a,b\n1.5,NA\ninf,x\n",
        {"a": "FLOAT", "b": "STRING"},
        {"a": 1.5, "b": None},
        [("MISSING_WORDS", "b", 1), ("INFINITE_VALUES", "a", 2)],
    ),
    (
        "a guessed encoding",
        "a.csv",
        "name\nJosé\n".encode("cp1252"),
        {"name": "STRING"},
        {"name": "José"},
        [("ENCODING_GUESSED", None, None)],
    ),
]


@pytest.mark.parametrize(
    ("filename", "content", "types", "cells", "issues"),
    [values if is_sampled(name, 6) else exhaustive(*values) for name, *values in CASES],
    ids=[case[0] for case in CASES],
)
async def test_a_file_is_read_as_it_was_meant(
    ada: Client, worker: object, filename: str, content: bytes, types: dict[str, str], cells: dict[str, Any], issues: list[Any]
) -> None:
    version = await ada.one(VERSION, id=await ada.ingest("d", content, filename))
    assert {column["name"]: column["type"] for column in version["columns"]} == types
    assert version["preview"][0] == cells
    assert [(issue["code"], issue["column"], issue["row"]) for issue in version["issues"]] == issues
    assert [column["type"] for column in version["profile"]["columns"]] == list(types.values())
    infinite = [(column["type"], column["infiniteCount"]) for column in version["profile"]["columns"] if column["infiniteCount"] != 0]
    expected = [(kind, None) for kind in types.values() if kind != "FLOAT"]
    assert infinite == [*(("FLOAT", 1) for code, _, _ in issues if code == "INFINITE_VALUES"), *expected]


@pytest.mark.parametrize(
    ("filename", "content", "code", "words"),
    [
        ("a.csv", b"<table>\n<tr><td>1</td></tr>\n</table>\n", "UNSUPPORTED_FORMAT", "an HTML page"),
        ("a.csv", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "UNSUPPORTED_FORMAT", "a pointer of Git LFS"),
        ("a.json", b"[1, 2, 3]", "JSON_NOT_A_TABLE", "element 1 of the array is 1"),
        ("a.jsonl", b'"a"\n"b"\n', "BAD_JSON", "2 of 2 lines are not JSON objects"),
    ],
)
async def test_what_is_no_table_is_refused_by_its_name(
    ada: Client, worker: object, filename: str, content: bytes, code: str, words: str
) -> None:
    _, job = await ada.upload(await ada.create_dataset("d"), filename, content)
    error = (await ada.wait(job))["error"]
    assert (error["code"], words in error["message"]) == (code, True)


async def read_with(client: Client, content: bytes, filename: str, **reading: Any) -> tuple[dict[str, str], list[Any], list[str], str]:
    upload = (await client.request_upload(await client.create_dataset(filename), filename, content, reading=reading))["upload"]
    await client.put(upload, content)
    answer = await client.complete_upload(upload["id"])
    ended = await client.wait(answer["job"]["id"])
    assert ended["status"] == "COMPLETED", ended
    version = await client.one(VERSION, id=answer["version"]["id"])
    types = {column["name"]: column["type"] for column in version["columns"]}
    return types, version["preview"], [issue["code"] for issue in version["issues"]], answer["job"]["id"]


async def test_options_override_every_guess(ada: Client, worker: object) -> None:
    content = "note\nid;price;code;when\n1;5.148;007;01/02/2003\n2;6.185;NA;03/04/2003\n".encode("utf-16-le")
    types = [{"column": "code", "type": "STRING"}, {"column": "when", "type": "DATE"}, {"column": "gone", "type": "FLOAT"}]
    read, preview, issues, _ = await read_with(
        ada, content, "a.csv", encoding="UTF-16LE", delimiter=";", decimalMark=",", headerRow=2, missingWords=["-"], columnTypes=types
    )
    assert read == {"id": "INTEGER", "price": "INTEGER", "code": "STRING", "when": "DATE"}
    assert preview == [
        {"id": 1, "price": 5_148, "code": "007", "when": "2003-02-01"},
        {"id": 2, "price": 6_185, "code": "NA", "when": "2003-04-03"},
    ]
    assert issues == ["SKIPPED_LINES", "UNKNOWN_COLUMN"]
    read, preview, issues, _ = await read_with(ada, workbook([["a"], [1]], notes=[["b"], [2]]), "b.xlsx", sheet="notes", headerRow=0)
    assert (read, [row["column_1"] for row in preview], issues) == (
        {"column_1": "STRING"},
        ["b", "2"],
        ["HIDDEN_SHEET", "OTHER_SHEET"],
    )


@pytest.mark.parametrize(
    ("reading", "path", "words"),
    [
        ({"delimiter": ";;"}, ["reading", "delimiter"], "one character"),
        ({"decimalMark": "'"}, ["reading", "decimalMark"], '"." or ","'),
        ({"encoding": "klingon"}, ["reading", "encoding"], "Known are"),
        ({"encoding": "rot13"}, ["reading", "encoding"], "Known are"),
        ({"headerRow": -1}, ["reading", "headerRow"], "0 says that there is none"),
        ({"missingWords": [""]}, ["reading", "missingWords", "0"], "empty cells are missing anyway"),
        ({"columnTypes": [{"column": "a", "type": "JSON"}]}, ["reading", "columnTypes", "0", "type"], "cannot be chosen"),
        ({"columnTypes": [{"column": "a", "type": "DATE"}] * 2}, ["reading", "columnTypes", "1", "column"], "named twice"),
    ],
)
async def test_options_that_cannot_be_are_refused(ada: Client, reading: dict[str, Any], path: list[str], words: str) -> None:
    dataset = await ada.create_dataset("d")
    answer = await ada.one(REQUEST, input={"datasetId": dataset, "filename": "a.csv", "sizeBytes": 9, "reading": reading})
    assert answer["__typename"] == "InvalidInput"
    assert [(issue["path"], words in issue["message"]) for issue in answer["issues"]] == [(path, True)]


async def test_a_retry_keeps_the_options(ada: Client, worker: object) -> None:
    content = workbook([["a"], [1]])
    upload = (await ada.request_upload(await ada.create_dataset("d"), "a.xlsx", content, reading={"sheet": "gone"}))["upload"]
    await ada.put(upload, content)
    job = (await ada.complete_upload(upload["id"]))["job"]["id"]
    assert (await ada.wait(job))["error"]["code"] == "UNKNOWN_SHEET"
    retry = "mutation($id: ID!) { retryJob(input: {id: $id}) { ... on RetryJobPayload { job { id } } ... on Problem { message } } }"
    again = await ada.wait((await ada.one(retry, id=job))["job"]["id"])
    assert (again["error"]["code"], "no sheet 'gone'" in again["error"]["message"]) == ("UNKNOWN_SHEET", True)


@pytest.mark.exhaustive
async def test_pipelines_compute_with_durations_times_and_decimals(ada: Client, worker: object) -> None:
    """Durations and times of day as seconds; decimals as doubles in a training, and exactly in a dataset."""
    rows = "".join(f"{36 + row % 5}:00:00,0{row % 9}:00,{10**20 + row},{row % 5}\n" for row in range(60))
    version = await ada.ingest("d", f"worked,start,long,y\n{rows}")
    condition = {"column": "worked", "operator": "greater_than", "value": 37 * 3_600}
    keep = [
        ("data", "dataset", {}),
        ("keep", "filter_rows", {"conditions": [condition, {"column": "long", "operator": "greater_than", "value": 5}]}),
    ]
    pipeline = (await ada.create_pipeline("p", *keep))["pipeline"]["id"]
    ended = await ada.wait((await ada.run_pipeline(pipeline, version))["job"]["id"])
    assert ended["status"] == "COMPLETED", ended
    derived = await ada.one(VERSION, id=next(item["id"] for item in ended["outputs"] if item["__typename"] == "DatasetVersion"))
    assert [column["type"] for column in derived["columns"]] == ["FLOAT", "FLOAT", "DECIMAL", "INTEGER"]
    assert derived["preview"][0] == {"worked": 38 * 3_600.0, "start": 7_200.0, "long": str(10**20 + 2), "y": 2}
    train = [("data", "dataset", {}), ("train", "train_linear_regression", {"target": "y"})]
    pipeline = (await ada.create_pipeline("q", *train))["pipeline"]["id"]
    ended = await ada.wait((await ada.run_pipeline(pipeline, version))["job"]["id"])
    assert ended["status"] == "COMPLETED", ended
