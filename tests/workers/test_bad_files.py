"""Invalid and damaged files: each is refused with a reason and a position or read with issues; none crashes the reader."""

from __future__ import annotations

import gzip
import io
import random
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.files import workbook
from tests.workers.ingest_runner import ingest_error, issue_locations, run_ingest
from workers.ml import limits


def workbook_with(sheet: bytes) -> bytes:
    """Return a workbook whose first sheet is this XML."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(workbook(one=[["a"], [1]]))) as source, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as copy:
        for member in source.infolist():
            copy.writestr(member.filename, sheet if member.filename == "xl/worksheets/sheet1.xml" else source.read(member))
    return target.getvalue()


def parquet(table: pa.Table, **options: Any) -> bytes:
    target = io.BytesIO()
    pq.write_table(table, target, **options)
    return target.getvalue()


def npy() -> bytes:
    target = io.BytesIO()
    np.save(target, np.zeros(3))
    return target.getvalue()


def zipped(content: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("table.csv", content)
    return target.getvalue()


_SHEET = b'<?xml version="1.0"?><worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>%s</sheetData></worksheet>'
_FARTHEST_CELL_SHEET = _SHEET % b'<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
_PARQUET = parquet(pa.table({"a": list(range(1_000))}))

REFUSED: list[tuple[str, str, bytes, str, int | None, str]] = [
    # case, file name, bytes, code, row, words of the message
    ("empty", "a.csv", b"", "EMPTY_FILE", None, "'a.csv' is empty: it has 0 bytes"),
    ("blank lines alone", "a.csv", b"\n \r\n\n", "EMPTY_FILE", None, "only blank lines"),
    ("a mark alone", "a.csv", b"\xef\xbb\xbf", "EMPTY_FILE", None, "only blank lines"),
    ("a header alone", "a.csv", b"name,age\n", "HEADER_ONLY", None, "a header (name, age) and no rows"),
    ("a header alone without a line end", "a.csv", b"name;age", "HEADER_ONLY", None, "a header (name, age) and no rows"),
    (
        "20,000 columns",
        "a.csv",
        (",".join(f"c{n}" for n in range(20_000)) + "\n" + "1," * 19_999 + "1\n").encode(),
        "TOO_MANY_COLUMNS",
        None,
        "20,000",
    ),
    ("300,000 columns", "a.csv", b"1," * 299_999 + b"1\n", "TOO_MANY_COLUMNS", None, "the maximum is 2,000"),
    ("every row ragged", "a.csv", b"a,b,c\n1\n2,3\n4\n", "RAGGED_ROWS", 1, "3 of 3 rows do not have 3 fields; the first is row 1 with 1"),
    ("one row in five ragged", "a.csv", b"a,b,c\n" + b"1,2,3\n1,2,3\n1,2,3\n1,2,3\n1,2\n" * 50, "RAGGED_ROWS", 5, "50 of 250 rows"),
    ("a line without end", "a.csv", b"a,b\n" + b"x" * 6_000_000, "ROW_TOO_LONG", 1, "Row 1 is longer than 4 MiB"),
    ("random bytes", "a.csv", random.Random(1).randbytes(5_000), "BINARY_FILE", None, "is not text"),
    ("zeros", "a.csv", bytes(5_000), "BINARY_FILE", None, "is not text"),
    ("a PNG called .csv", "cat.csv", b"\x89PNG\r\n\x1a\n" + bytes(100), "UNSUPPORTED_FORMAT", None, "'cat.csv' looks like a PNG image"),
    ("a JPEG", "a.csv", b"\xff\xd8\xff\xe0" + bytes(100), "UNSUPPORTED_FORMAT", None, "a JPEG image"),
    ("a PDF", "a.xlsx", b"%PDF-1.7\n", "UNSUPPORTED_FORMAT", None, "a PDF document"),
    ("gzip", "a.csv", gzip.compress(b"a,b\n1,2\n"), "UNSUPPORTED_FORMAT", None, "a gzip archive"),
    ("ZIP", "a.csv", zipped(b"a,b\n1,2\n"), "UNSUPPORTED_FORMAT", None, "Unpack it"),
    ("npy", "a.csv", npy(), "UNSUPPORTED_FORMAT", None, "a NumPy array"),
    ("WAV", "a.csv", b"RIFF\x24\0\0\0WAVEfmt ", "UNSUPPORTED_FORMAT", None, "a WAV recording"),
    ("MAT", "a.csv", b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + bytes(100), "UNSUPPORTED_FORMAT", None, "a MATLAB file"),
    ("SEG-Y", "a.csv", b"\xc3\x40\xf1" + b"\x40" * 3_200, "UNSUPPORTED_FORMAT", None, "a SEG-Y file"),
    ("HTML", "a.csv", b"<!DOCTYPE html><table></table>", "UNSUPPORTED_FORMAT", None, "an HTML page"),
    ("Parquet without its end", "a.parquet", _PARQUET[:-50], "UNREADABLE_FILE", None, "the file is truncated"),
    ("Parquet with a broken end", "a.parquet", _PARQUET[:40] + bytes(30) + b"PAR1", "UNREADABLE_FILE", 1, "damaged Parquet"),
    ("Parquet with broken pages", "a.parquet", _PARQUET[:20] + b"\xff" * 500 + _PARQUET[520:], "UNREADABLE_FILE", 1, "damaged Parquet"),
    ("Parquet without rows", "a.parquet", parquet(pa.table({"a": pa.array([], pa.int64())})), "EMPTY_FILE", None, "no rows"),
    (
        "Parquet with 3,000 columns",
        "a.parquet",
        parquet(pa.table({f"c{n}": [1] for n in range(3_000)})),
        "TOO_MANY_COLUMNS",
        None,
        "3,000 columns",
    ),
    ("a workbook without cells", "a.xlsx", workbook(one=[]), "EMPTY_FILE", None, "no sheet with cells"),
    ("a workbook with a header alone", "a.xlsx", workbook(one=[["a", "b"]]), "HEADER_ONLY", None, "a header (a, b) and no rows"),
    ("a workbook cut short", "a.xlsx", workbook(one=[["a"], [1]])[:-200], "UNREADABLE_FILE", None, "cannot be read as an Excel workbook"),
    (
        "a workbook of nothing",
        "a.xls",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
        "UNREADABLE_FILE",
        None,
        "cannot be read as an Excel",
    ),
    (
        "a cell in the farthest corner",
        "a.xlsx",
        workbook_with(_FARTHEST_CELL_SHEET),
        "EXCEL_TOO_LARGE",
        None,
        "reaches 1,048,576 rows and 16,384 columns",
    ),
    ("JSON cut short", "a.json", b'[{"a": 1}, {"a": 2}, {"a', "BAD_JSON", 2, "not closed; the last complete element is row 2"),
    ("JSON with a fault", "a.json", b'[{"a": 1}, {"a": }]', "BAD_JSON", 2, "is not valid JSON in row 2: '}' where a value is missing"),
    ("JSON with an epilogue", "a.json", b'[{"a": 1}] {"b": 2}', "BAD_JSON", None, "The array is followed by"),
    ("an array of numbers", "a.json", b"[1, 2, 3]", "JSON_NOT_A_TABLE", None, "element 1 of the array is 1"),
    ("an object with no table", "a.json", b'{"a": {"b": 1}}', "JSON_NOT_A_TABLE", None, "contains no array of objects"),
    ("an empty array", "a.json", b"[]", "EMPTY_FILE", None, "an empty array"),
    ("objects without keys", "a.json", b"[{}, {}]", "EMPTY_FILE", None, "no keys"),
    ("lines without keys", "a.jsonl", b"{}\n{}\n", "EMPTY_FILE", None, "no keys"),
    ("arrays without elements", "a.json", b"[[], []]", "EMPTY_FILE", None, "no keys"),
    ("deep nesting", "a.json", b"[" * 100_000, "BAD_JSON", 0, "not closed"),
    ("JSON lines without objects", "a.jsonl", b"1\n2\n3\n", "BAD_JSON", 1, "3 of 3 lines are not JSON objects"),
    (
        "JSON with 3,000 keys",
        "a.jsonl",
        b"{" + b",".join(b'"k%d":1' % n for n in range(3_000)) + b"}\n",
        "TOO_MANY_COLUMNS",
        None,
        "at least 2,001 columns",
    ),
]


@pytest.mark.parametrize(("name", "data", "code", "row", "words"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_a_bad_file_is_refused_with_its_reason_and_place(
    tmp_path: Path, name: str, data: bytes, code: str, row: int | None, words: str
) -> None:
    error = ingest_error(tmp_path, data, name)
    assert (error.code, error.row) == (code, row)
    assert words in error.message


@pytest.mark.parametrize(
    ("name", "data", "rows", "issues"),
    [
        ("a.csv", b"a,b\n1,2\n3\n4,5,6\n7,8,\n9,9\n", 4, [("RAGGED_ROW", None, 2), ("RAGGED_ROW", None, 3), ("RAGGED_ROW", None, 4)]),
        (
            "a.csv",
            b"a,a,,\n1,2,3,4\n",
            1,
            [("DUPLICATE_COLUMN_NAME", "a_2", None), ("EMPTY_COLUMN_NAME", "column_3", None), ("EMPTY_COLUMN_NAME", "column_4", None)],
        ),
        ("a.csv", b'a,b\n1,"open\n2,x\n3,y\n', 3, [("BROKEN_QUOTE", "b", 1)]),
        ("a.csv", b"a,b\n1,x\0y\n", 1, [("NUL_BYTE", "b", 1)]),
        ("a.jsonl", b'{"a": 1}\n{"a": \n[1]\n{"a": 2}\n', 2, [("BAD_JSON", None, 2), ("BAD_JSON", None, 3)]),
        ("a.jsonl", b'{"a": 1}\n{"a": NaN}\n', 2, [("MISSING_WORDS", "a", 2)]),
    ],
)
def test_what_can_be_read_is_read_and_the_rest_is_named(tmp_path: Path, name: str, data: bytes, rows: int, issues: list[Any]) -> None:
    result, frame = run_ingest(tmp_path, data, name)
    assert (frame.height, issue_locations(result)) == (rows, issues)


def test_a_quote_that_is_never_closed_costs_one_row_of_a_long_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BLOCK_BYTES", 65_536)
    monkeypatch.setattr(limits, "MAX_RECORD_BYTES", 32_768)
    lines = [f"{row},word {row}" for row in range(1, 40_001)]
    lines[9_999] = '10000,"stray'
    result, frame = run_ingest(tmp_path, ("n,w\n" + "\n".join(lines)).encode())
    assert (frame.height, issue_locations(result)) == (40_000, [("BROKEN_QUOTE", "w", 10_000)])
    assert frame["n"].sum() == 40_000 * 40_001 // 2


_CHILD_PROGRAM = """
import resource, sys
from pathlib import Path
from tests.workers.ingest_runner import IngestRecorder
from workers.ml.errors import BadInput
from workers.ml.ingest import ingest
path = Path(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
code = "READY"
try:
    ingest({"source": str(path), "folder": str(path.parent), "filename": path.name, "size": path.stat().st_size, "sha256": None}, IngestRecorder())
except BadInput as error:
    code = error.code
print(code, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def ingest_in_child(path: Path) -> tuple[str, int]:
    """Run ingest in a child; return its outcome and peak memory in MiB."""
    completed = subprocess.run(
        [sys.executable, "-c", _CHILD_PROGRAM, str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert completed.returncode == 0, completed.stderr[-2_000:]
    code, peak = completed.stdout.split()
    return code, int(peak)


def test_a_zip_bomb_is_refused_while_it_unfolds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_EXCEL_UNCOMPRESSED_BYTES", 30_000_000)
    monkeypatch.setattr(limits, "MAX_EXCEL_CELLS", 100_000)
    blank = ingest_error(tmp_path, workbook_with(_SHEET % (b" " * 40_000_000)), "a.xlsx")
    assert (blank.code, "decompress to more than 28 MiB (in 'xl/worksheets/sheet1.xml')" in blank.message) == ("EXCEL_TOO_LARGE", True)
    # Cells without a reference are counted.
    cells = ingest_error(tmp_path, workbook_with(_SHEET % (b"<row>" + b"<c><v>1</v></c>" * 200_000 + b"</row>")), "a.xlsx")
    assert (cells.code, "more than 100,000 cells" in cells.message) == ("EXCEL_TOO_LARGE", True)


@pytest.mark.exhaustive
def test_a_parquet_bomb_of_half_a_megabyte_is_refused_in_little_memory(tmp_path: Path) -> None:
    """7.6 GB of text: one value of a megabyte, stored once and referred to 7,600 times. polars aborts the process on it."""
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(7_600, np.int32)), pa.array([random.Random(1).randbytes(500_000).hex()]))
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet(pa.table({"t": text}), compression="zstd", store_schema=False, dictionary_pagesize_limit=1 << 30))
    assert path.stat().st_size < 1_000_000
    code, peak = ingest_in_child(path)
    assert code == "UNFOLDS_TOO_LARGE"
    assert peak < 500


def test_one_value_too_large_is_named_by_its_column(tmp_path: Path) -> None:
    data = parquet(pa.table({"n": [1], "t": ["x" * 20_000_000]}), compression="zstd", use_dictionary=False, write_statistics=False)
    error = ingest_error(tmp_path, data, "a.parquet")
    assert (error.code, error.column) == ("CELL_TOO_LARGE", "t")


@pytest.mark.exhaustive
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """20 and 80 MB of the same CSV: the larger one may need one more row group, not four times the memory."""
    path = tmp_path / "a.csv"
    rng = np.random.default_rng(1)
    frame = pl.DataFrame({f"c{place}": rng.normal(size=20_000).round(6) for place in range(8)}).with_columns(t=pl.lit("some words of text"))
    header, _, body = frame.write_csv().encode().partition(b"\n")
    peaks: list[int] = []
    for size in (20_000_000, 80_000_000):
        with path.open("wb") as file:
            file.write(header + b"\n")
            for _ in range(size // len(body)):
                file.write(body)
        code, peak = ingest_in_child(path)
        assert code == "READY"
        peaks.append(peak)
    assert peaks[1] < 700, peaks
    assert peaks[1] < 2 * peaks[0] + 100, peaks
