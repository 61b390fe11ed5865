"""Delimited text in all dialects is read as the same table."""

from __future__ import annotations

import codecs
import csv
import io
import random
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import product
from pathlib import Path

import polars as pl
import pytest

from tests.exhaustive import exhaustive
from tests.workers.ingest_runner import column_types, ingest_error, issue_locations, run_ingest
from workers.ml import limits

_ROWS = [
    ["Jörg", "12", "1.5", "2024-01-31", "quiet"],
    ["Ana; the 2nd, née Díaz", "-7", "0.25", "2024-02-29", 'says "hi" | it\'s\tfine'],
    ["Zoë", "0", "", "2023-12-01", "two\nlines: here"],
    ["José", "99", "1e3", "2023-12-02", "plain"],
]
_NAMES = ["name", "count", "share", "day", "remark"]
_ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp1252"]


def delimited_text(delimiter: str, quote: str, *, header: bool) -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, quotechar=quote, lineterminator="\r\n")
    writer.writerows([_NAMES, *_ROWS] if header else _ROWS)
    return text.getvalue()


@pytest.mark.parametrize("encoding", [name if name == "utf-16" else exhaustive(name) for name in _ENCODINGS])
def test_every_encoding_delimiter_and_quote_gives_the_same_table_with_and_without_header(tmp_path: Path, encoding: str) -> None:
    expected = [
        ("Jörg", 12, 1.5, date(2024, 1, 31), "quiet"),
        ("Ana; the 2nd, née Díaz", -7, 0.25, date(2024, 2, 29), 'says "hi" | it\'s\tfine'),
        ("Zoë", 0, None, date(2023, 12, 1), "two\nlines: here"),
        ("José", 99, 1_000.0, date(2023, 12, 2), "plain"),
    ]
    for delimiter, quote, header in product(",;\t|:", "\"'", [True, False]):
        text = delimited_text(delimiter, quote, header=header)
        result, frame = run_ingest(tmp_path, text.encode(encoding))
        case = f"{delimiter!r} {quote} header={header}"
        assert frame.rows() == expected, case
        assert list(column_types(result).values()) == ["STRING", "INTEGER", "FLOAT", "DATE", "STRING"], case
        assert frame.columns == (_NAMES if header else [f"column_{place}" for place in range(1, 6)]), case
        guessed = [("ENCODING_GUESSED", None, None)] if encoding in ("utf-16-le", "utf-16-be", "latin-1", "cp1252") else []
        assert issue_locations(result) == guessed + ([] if header else [("NO_HEADER", None, 1)]), case


@pytest.mark.parametrize("codec", ["cp1251", *map(exhaustive, ("koi8_r", "shift_jis", "gb18030"))])
def test_other_alphabets_are_told_by_their_letters(tmp_path: Path, codec: str) -> None:
    word = {"cp1251": "Привет мир", "koi8_r": "Большой театр", "shift_jis": "こんにちは世界", "gb18030": "数据科学与机器学习"}[codec]
    text = "id,text\n" + "".join(f"{row},{word} {row}\n" for row in range(50))
    _, frame = run_ingest(tmp_path, text.encode(codec))
    assert frame["text"].to_list() == [f"{word} {row}" for row in range(50)]


def test_line_ends_of_every_system_are_taken(tmp_path: Path) -> None:
    for end in ("\n", "\r\n", "\r"):
        for last in (end, ""):
            result, frame = run_ingest(tmp_path, f"a,b{end}1,x{end}2,y{last}".encode())
            assert (frame.rows(), issue_locations(result)) == ([(1, "x"), (2, "y")], []), (end, last)


def test_mixed_line_ends_are_named_and_those_inside_quotes_belong_to_their_values(tmp_path: Path) -> None:
    result, frame = run_ingest(tmp_path, b'a,b\r\n1,x\r\n2,y\n3,"one\r\ntwo"\n')
    assert frame.rows() == [(1, "x"), (2, "y"), (3, "one\r\ntwo")]
    assert issue_locations(result) == [("MIXED_LINE_ENDS", None, 1)]


def test_blank_lines_are_no_rows(tmp_path: Path) -> None:
    _, frame = run_ingest(tmp_path, b"\n\na,b\n1,x\n\n2,y\n   \n3,z\n\n")
    assert frame.rows() == [(1, "x"), (2, "y"), (3, "z")]


def test_one_column_is_a_table_too(tmp_path: Path) -> None:
    _, frame = run_ingest(tmp_path, b'word\nalpha\n""\nbeta, or b\n')
    assert frame["word"].to_list() == ["alpha", None, "beta, or b"]


def test_a_decimal_comma_is_a_number_where_the_delimiter_is_another(tmp_path: Path) -> None:
    result, frame = run_ingest(tmp_path, b"a;b\n1,5;10\n-2,25;1.000.000\n")
    assert frame["a"].to_list() == [1.5, -2.25]
    assert frame["b"].to_list() == [10, 1_000_000]
    assert column_types(result) == {"a": "FLOAT", "b": "INTEGER"}


@pytest.mark.parametrize(
    ("values", "kind", "parsed"),
    [
        (["1", "-2", "+3", "NA"], "INTEGER", [1, -2, 3, None]),
        (["9223372036854775807", "-9223372036854775808"], "INTEGER", [2**63 - 1, -(2**63)]),
        (["9223372036854775808", "1"], "DECIMAL", [Decimal(2**63), Decimal(1)]),
        (["9" * 38, "-1"], "DECIMAL", [Decimal("9" * 38), Decimal(-1)]),
        (["9" * 39, "1"], "STRING", None),
        (["9007199254740993", "0.25"], "DECIMAL", [Decimal(2**53 + 1), Decimal("0.25")]),
        (["9007199254740992", "0.25", "1e3"], "FLOAT", [2.0**53, 0.25, 1_000.0]),
        (["06:00", "23:59:59.5"], "TIME", [time(6), time(23, 59, 59, 500_000)]),
        (["36:00:00", "-0:30", "06:00"], "DURATION", [timedelta(hours=36), timedelta(minutes=-30), timedelta(hours=6)]),
        (["007", "012"], "STRING", None),
        (["0", "-0", "10"], "INTEGER", [0, 0, 10]),
        (["1", "2.5", "1e3", "NaN"], "FLOAT", [1.0, 2.5, 1000.0, None]),
        (["inf", "1.5", "-inf"], "FLOAT", [float("inf"), 1.5, float("-inf")]),
        (["1,234", "5,678,901"], "INTEGER", [1_234, 5_678_901]),
        (["1,234.5", "5,678,901"], "FLOAT", [1_234.5, 5_678_901.0]),
        (["4,50", "1.234,5"], "FLOAT", [4.5, 1_234.5]),
        (["true", "False", "TRUE", ""], "BOOLEAN", [True, False, True, None]),
        (["yes", "no"], "STRING", None),
        ([" 1", "2 ", "3"], "INTEGER", [1, 2, 3]),
        (["1", "?", "-", "4"], "INTEGER", [1, None, None, 4]),
        (["2024-02-29", "1999-12-31"], "DATE", [date(2024, 2, 29), date(1999, 12, 31)]),
        (["31.12.1999", "01.02.2003"], "DATE", [date(1999, 12, 31), date(2003, 2, 1)]),
        (["31/12/1999", "01/02/2003"], "DATE", [date(1999, 12, 31), date(2003, 2, 1)]),
        (["12/31/1999", "01/02/2003"], "DATE", [date(1999, 12, 31), date(2003, 1, 2)]),
        (["01/02/2003", "03/04/2005"], "STRING", None),
        (["2024-01-01 10:00", "2024-01-02 23:59"], "DATETIME", [datetime(2024, 1, 1, 10), datetime(2024, 1, 2, 23, 59)]),
        (["2024-01-01T10:00:00.5", "2024-01-02T00:00:00"], "DATETIME", [datetime(2024, 1, 1, 10, 0, 0, 500_000), datetime(2024, 1, 2)]),
        (
            ["2024-01-01T10:00:00Z", "2024-01-01T10:00:00+02:00"],
            "DATETIME",
            [datetime(2024, 1, 1, 10, tzinfo=UTC), datetime(2024, 1, 1, 8, tzinfo=UTC)],
        ),
        (['{"a": 1}', "[1, 2]"], "JSON", None),
        (["2024-13-01", "2024-02-30"], "STRING", None),
    ],
)
def test_a_column_has_the_type_of_its_values(tmp_path: Path, values: list[str], kind: str, parsed: list[object] | None) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([["word", "value"], *(["w", value] for value in values)])
    result, frame = run_ingest(tmp_path, text.getvalue().encode())
    assert column_types(result)["value"] == kind
    assert frame["value"].to_list() == (values if parsed is None else parsed)


def test_few_words_met_often_are_a_category_and_many_are_text(tmp_path: Path) -> None:
    lines = "".join(f"{'red' if row % 2 else 'blue'},word {row},{row % 3}\n" for row in range(20))
    result, _ = run_ingest(tmp_path, f"color,name,level\n{lines}".encode())
    assert column_types(result) == {"color": "CATEGORY", "name": "STRING", "level": "INTEGER"}


def test_up_to_one_percent_of_misfits_become_missing_and_are_named(tmp_path: Path) -> None:
    rows = [str(row) for row in range(1, 201)]
    rows[149] = "abc"
    result, frame = run_ingest(tmp_path, ("n,m\n" + "".join(f"{row},1\n" for row in rows)).encode())
    assert (column_types(result)["n"], frame["n"][149], frame["n"].null_count()) == ("INTEGER", None, 1)
    assert result["issues"] == [
        {
            "code": "BAD_VALUE",
            "message": "Row 150, column 'n': 'abc' is not an integer; it was treated as missing.",
            "column": "n",
            "row": 150,
        }
    ]


def test_more_misfits_leave_the_column_text_and_say_why(tmp_path: Path) -> None:
    result, frame = run_ingest(tmp_path, ("n,m\n" + "".join(f"{row if row % 20 else 'abc'},1\n" for row in range(1, 101))).encode())
    assert frame["n"].to_list()[18:21] == ["19", "abc", "21"]
    assert issue_locations(result) == [("MIXED_COLUMN", "n", 20)]


def test_the_whole_file_decides_where_its_beginning_misleads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BLOCK_BYTES", 4_096)
    rows = "".join(
        f"{row},{row}{'.5' if row == 4_000 else ''},{row if row < 4_500 else '0' + str(row)},{'' if row < 3_000 else row}\n"
        for row in range(1, 5_001)
    )
    result, frame = run_ingest(tmp_path, f"steady,late,zeros,sparse\n{rows}".encode())
    assert column_types(result) == {"steady": "INTEGER", "late": "FLOAT", "zeros": "STRING", "sparse": "INTEGER"}
    assert (frame["late"][3_999], frame["zeros"][4_999], frame["sparse"][2_999], frame["steady"].sum()) == (
        4000.5,
        "05000",
        3_000,
        12_502_500,
    )
    assert issue_locations(result) == [("KEPT_AS_TEXT", "zeros", 4_500)]


def test_rows_are_numbered_across_blocks_and_left_out_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BLOCK_BYTES", 4_096)
    lines = [f"{row},word {row}" for row in range(1, 3_001)]
    lines[1_499] = "1500,too,many"
    lines[1_999] = "2000"
    lines[2_499] = "bad,word"
    lines[2_699] = '2700,"stray'
    result, frame = run_ingest(tmp_path, ("n,w\n" + "\n".join(lines)).encode())
    assert sorted(issue_locations(result), key=lambda place: place[2] or 0) == [
        ("RAGGED_ROW", None, 1_500),
        ("RAGGED_ROW", None, 2_000),
        ("BAD_VALUE", "n", 2_500),
        ("BROKEN_QUOTE", "w", 2_700),
    ]
    assert frame.height == 2_999
    assert frame.filter(pl.col("n") == 2_700)["w"].to_list() == ['"stray']


def test_quotes_that_are_text_are_kept_and_named(tmp_path: Path) -> None:
    data = b'size,note,n\n5" pipe,"he said "hi" to me",1\n"6""",plain,2\n'
    result, frame = run_ingest(tmp_path, data)
    assert frame.rows() == [('5" pipe', 'he said "hi" to me', 1), ('6"', "plain", 2)]
    assert issue_locations(result) == [("BROKEN_QUOTE", "note", 1)]


def test_a_late_letter_beyond_ascii_decides_the_encoding(tmp_path: Path) -> None:
    early = "".join(f"{row},plain ascii words\n" for row in range(20_000))
    _, frame = run_ingest(tmp_path, ("n,w\n" + early).encode() + "7,déjà vu\n".encode("cp1252"))
    assert frame["w"][-1] == "déjà vu"


def test_damaged_places_of_utf8_are_named(tmp_path: Path) -> None:
    result, frame = run_ingest(tmp_path, "n,w\n1,é\n2,ü\n3,ñ\n".encode() + b"4,\xff\n5,z\0z\n")
    assert frame["w"].to_list() == ["é", "ü", "ñ", "\ufffd", "z\ufffdz"]
    assert issue_locations(result) == [("UNDECODABLE_BYTES", "w", 4), ("UNDECODABLE_BYTES", "w", 5)]


def test_the_preview_is_json_and_bounded(tmp_path: Path) -> None:
    rows = "".join(f'{row},"{"x" * 5_000}",1.5\n' for row in range(150))
    result, _ = run_ingest(tmp_path, f"n,text,f\n{rows}".encode())
    assert len(result["preview"]) == 100
    assert result["preview"][0] == {"n": 0, "text": "x" * 999 + "…", "f": 1.5}


def test_only_the_first_thousand_issues_are_kept_and_all_are_counted(tmp_path: Path) -> None:
    rows = "".join("1,2\n" if row % 12 else "1\n" for row in range(24_000))
    result, _ = run_ingest(tmp_path, f"a,b\n{rows}".encode())
    assert (len(result["issues"]), result["issue_count"]) == (1_000, 2_000)


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
def test_broken_rows_push_out_no_issue_of_a_column(tmp_path: Path, name: str) -> None:
    whole, broken = (f"1,{'9' * 40}\n", "1,2,3\n") if name == "rows.csv" else (f'{{"a": 1, "b": {"9" * 40}}}\n', "{\n")
    rows = "".join(whole if row % 12 else broken for row in range(24_000))
    result, _ = run_ingest(tmp_path, (("a,b\n" if name == "rows.csv" else "") + rows).encode(), name)
    assert len(result["issues"]) == 1_000
    of_columns = [issue["column"] for issue in result["issues"] if issue["code"] == "KEPT_AS_TEXT"]
    assert (of_columns, result["issue_count"]) == (["b"], 2_001)


def test_an_announced_size_or_checksum_that_does_not_match_goes_before_every_other_error(tmp_path: Path) -> None:
    assert ingest_error(tmp_path, b"a,b\n1,2\n", size=9).code == "UPLOAD_MISMATCH"
    assert ingest_error(tmp_path, b"a,b\n1,2\n", sha256="0" * 64).code == "UPLOAD_MISMATCH"
    assert ingest_error(tmp_path, b"", sha256="0" * 64).code == "UPLOAD_MISMATCH"


@pytest.mark.parametrize("count", [20, exhaustive(600)])
def test_random_tables_come_back_as_they_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, count: int) -> None:
    """Compared with Python's csv module, which writes them; small blocks, so that rows span block ends."""
    monkeypatch.setattr(limits, "BLOCK_BYTES", 512)
    rng = random.Random(seed)
    alphabet = ["a", "b", "ü", "漢", " ", "\n", "\r\n", '"', "'", ",", ";", "x", "y", "\t", "|", "7"]
    for _ in range(count):
        width, height = rng.randint(2, 5), rng.randint(3, 40)
        names = [f"name{place}" for place in range(width)]
        rows = [["w" + "".join(rng.choices(alphabet, k=rng.randint(0, 12))) for _ in names] for _ in range(height)]
        text = io.StringIO()
        csv.writer(text, delimiter=",", lineterminator=rng.choice(["\n", "\r\n"])).writerows([names, *rows])
        _, frame = run_ingest(tmp_path, codecs.BOM_UTF8 + text.getvalue().encode())
        assert [list(row) for row in frame.rows()] == rows
