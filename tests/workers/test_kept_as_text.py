"""Columns that look like numbers or times, and are text or of mixed notation: what is kept, and what users are told."""

from __future__ import annotations

import random
import re
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pyarrow as pa
import pytest

from tests.files import parquet, workbook
from tests.workers.ingest_runner import issue_locations, run_ingest
from tests.workers.read_files import Places, columns_and_issues, dates, floats, integers, opened, texts
from workers.ml import limits
from workers.ml.reading.kept_as_text import WHOLE_WITH_PLUS
from workers.ml.reading.number_checks import check_leading_marks
from workers.ml.reading.opening import open_reader
from workers.ml.reading.options import ReadingOptions
from workers.ml.reading.raw import RawFile
from workers.ml.reading.text_types import TextType, TypeTally

FINE, FINER = "2024-01-01T10:00:00.123456000", "2024-01-01T10:00:00.123456789"
AT = datetime(2024, 1, 1, 10, 0, 0, 123_456)


def csv_of(*cells: str) -> str:
    return "a;b\n" + "".join(f"{cell};x\n" for cell in cells)


def message_of(folder: Path, content: str | bytes, name: str = "a.csv") -> str:
    reader = opened(folder, name, content)
    list(reader.frames())
    while reader.needs_another_pass():
        list(reader.frames())
    return reader.issues.entries[0]["message"]


def read_as(folder: Path, content: str | bytes, name: str, **types: str) -> tuple[dict[str, list[Any]], Places]:
    """Return the cells of the columns with a chosen type."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    reader = open_reader(RawFile(path), name, lambda _share, _step: None, ReadingOptions(column_types=types))[1]
    frame = pl.concat(reader.frames())
    assert not reader.needs_another_pass()
    assert {column: reader.column_types()[column] for column in types} == types
    places = sorted((issue["code"], issue["column"], issue["row"]) for issue in reader.issues.entries)
    return {column: frame[column].to_list() for column in types}, places


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["+4915112345678", "+4915112345679"], texts("+4915112345678", "+4915112345679")),
        (["4915112345678", " +43660123 "], texts("4915112345678", " +43660123 ")),
        (["+49", "+44", "+1"], texts("+49", "+44", "+1")),
        (["+" + "4" * 20, "1"], texts("+" + "4" * 20, "1")),
        (["+3", "-2", "+1"], integers(3, -2, 1)),
        (["-1.5", "+2.5"], floats(-1.5, 2.5)),
        (["+2.5", "+1"], floats(2.5, 1)),
        (["+1e3", "+2e3"], floats(1_000, 2_000)),
        (["+-1", "+49 151"], texts("+-1", "+49 151")),
    ],
)
def test_a_plus_is_kept_where_no_number_has_a_minus(tmp_path: Path, cells: list[str], expected: tuple[str, list[Any]]) -> None:
    kept = [("KEPT_AS_TEXT", "a", 1 + ["+" in cell for cell in cells].index(True))] if expected[0] == "STRING" and cells[0] != "+-1" else []
    found = columns_and_issues(tmp_path, "a.csv", csv_of(*cells))
    assert found == ({"a": expected, "b": texts(*"x" * len(cells))}, kept)
    assert columns_and_issues(tmp_path, "a.xlsx", workbook(s=[["a", "b"], *([cell, "x"] for cell in cells)])) == found


def test_a_late_minus_and_a_late_plus_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BLOCK_BYTES", 256)
    rows = [f"{row},{row},+{row}" for row in range(1, 400)]
    content = "late,both,all\n" + "\n".join([*rows, "+400,+400,+400", "401,-401,-401"])
    columns, issues = columns_and_issues(tmp_path, "a.csv", content)
    assert {name: kind for name, (kind, _) in columns.items()} == {"late": "STRING", "both": "INTEGER", "all": "INTEGER"}
    assert (columns["late"][1][399], columns["both"][1][399:], columns["all"][1][0]) == ("+400", [400, -401], 1)
    assert issues == [("KEPT_AS_TEXT", "late", 400)]


def test_a_column_with_a_plus_is_a_number_where_its_type_is_given(tmp_path: Path) -> None:
    assert read_as(tmp_path, csv_of("+4915", "+43"), "a.csv", a="INTEGER") == ({"a": [4_915, 43]}, [])
    assert "has a plus sign, as telephone numbers have" in message_of(tmp_path, csv_of("+4915", "+43"))


def nanoseconds(kind: pa.DataType, *values: int | None) -> bytes:
    return parquet(a=pa.array(values, kind), b=["x"] * len(values))


TIMES: list[tuple[str, str | bytes, tuple[str, list[Any]], str, list[Any]]] = [
    ("a.csv", csv_of(FINE, FINER), texts(FINE, FINER), "DATETIME", [AT, AT]),
    ("a.csv", csv_of(f" {FINE} ", f" {FINER}Z"[:-1]), texts(f" {FINE} ", f" {FINER}"), "DATETIME", [AT, AT]),
    ("a.csv", csv_of(f"{FINE}Z", f"{FINER}Z"), texts(f"{FINE}Z", f"{FINER}Z"), "DATETIME", [AT.replace(tzinfo=UTC)] * 2),
    ("a.jsonl", f'{{"a": "{FINE}", "b": "x"}}\n{{"a": "{FINER}", "b": "x"}}\n', texts(FINE, FINER), "DATETIME", [AT, AT]),
    ("a.csv", csv_of("10:00:00.5", "10:00:00.000000001"), texts("10:00:00.5", "10:00:00.000000001"), "TIME", [time(10, 0, 0, 500_000), time(10)]),
    ("a.csv", csv_of("36:00:00", "-10:00:00,0000019"), texts("36:00:00", "-10:00:00,0000019"), "DURATION", [timedelta(hours=36), -timedelta(hours=10, microseconds=1)]),
    (
        "a.parquet", nanoseconds(pa.timestamp("ns"), 5_000, 1_700_000_000_123_456_789),
        texts("1970-01-01 00:00:00.000005000", "2023-11-14 22:13:20.123456789"), "DATETIME",
        [datetime(1970, 1, 1, 0, 0, 0, 5), datetime(2023, 11, 14, 22, 13, 20, 123_456)],
    ),
    (
        "a.parquet", nanoseconds(pa.timestamp("ns", "Europe/Berlin"), 0, 1),
        texts("1970-01-01 00:00:00.000000000Z", "1970-01-01 00:00:00.000000001Z"), "DATETIME", [datetime(1970, 1, 1, tzinfo=UTC)] * 2,
    ),
    ("a.parquet", nanoseconds(pa.time64("ns"), 1_000, 1_001), texts("00:00:00.000001000", "00:00:00.000001001"), "TIME", [time(0, 0, 0, 1)] * 2),
    (
        "a.parquet", nanoseconds(pa.duration("ns"), 3_600_000_000_000, 90_000_000_000_001),
        texts("01:00:00", "25:00:00.000000001"), "DURATION", [timedelta(hours=1), timedelta(hours=25)],
    ),
    ("a.parquet", nanoseconds(pa.duration("ns"), None, -1_500_001), texts(None, "-00:00:00.001500001"), "DURATION", [None, timedelta(microseconds=-1_500)]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "expected", "kind", "cut"), TIMES, ids=[f"{case[0]} {case[2][1][1]}" for case in TIMES])
def test_digits_beyond_microseconds_are_kept_as_text_and_cut_only_on_request(
    tmp_path: Path, name: str, content: str | bytes, expected: tuple[str, list[Any]], kind: str, cut: list[Any]
) -> None:
    assert columns_and_issues(tmp_path, name, content) == ({"a": expected, "b": texts("x", "x")}, [("KEPT_AS_TEXT", "a", 2)])
    assert "digits beyond microseconds" in message_of(tmp_path, content, name)
    assert read_as(tmp_path, content, name, a=kind) == ({"a": cut}, [("DIGITS_CUT", "a", 2)])


def test_nanoseconds_that_are_zero_lose_nothing(tmp_path: Path) -> None:
    assert columns_and_issues(tmp_path, "a.csv", csv_of(FINE, f"{FINE}000")) == ({"a": ("DATETIME", [AT, AT]), "b": texts("x", "x")}, [])
    assert columns_and_issues(tmp_path, "a.parquet", nanoseconds(pa.timestamp("ns"), 5_000, None)) == (
        {"a": ("DATETIME", [datetime(1970, 1, 1, 0, 0, 0, 5), None]), "b": texts("x", "x")},
        [],
    )


@pytest.mark.parametrize("nanoseconds", [2_000, 2_001])
def test_nanoseconds_inside_of_nested_values_are_kept(tmp_path: Path, nanoseconds: int) -> None:
    """Without pandas, which is not among what Trellis needs, Arrow refuses to make Python values of them."""
    at = pa.timestamp("ns")
    columns = {
        "l": pa.array([[nanoseconds, None]], pa.list_(at)),
        "s": pa.array([{"t": nanoseconds, "n": 1}], pa.struct([("t", at), ("n", pa.int64())])),
        "m": pa.array([[("k", nanoseconds)]], pa.map_(pa.string(), at)),
        "d": pa.array([[nanoseconds]], pa.list_(pa.time64("ns"))),
    }
    text = "1970-01-01T00:00:00.000002" if nanoseconds == 2_000 else "1970-01-01 00:00:00.000002001"
    clock = "00:00:00.000002" if nanoseconds == 2_000 else "00:00:00.000002001"
    cells, _ = columns_and_issues(tmp_path, "a.parquet", parquet(**columns))
    assert {name: orjson.loads(values[0]) for name, (_, values) in cells.items()} == {
        "l": [text, None],
        "s": {"t": text, "n": 1},
        "m": [["k", text]],
        "d": [clock],
    }


def test_late_nanoseconds_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BLOCK_BYTES", 256)
    columns, issues = columns_and_issues(tmp_path, "a.csv", csv_of(*[FINE] * 50, FINER))
    assert (columns["a"], issues) == (texts(*[FINE] * 50, FINER), [("KEPT_AS_TEXT", "a", 51)])


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["$1.50", "$2"], "is an amount of money"),
        (["1.50 €", "1.234,50 €"], "is an amount of money"),
        (["-3 €", "€4", "NA"], "is an amount of money"),
        (["USD 1,000.00", "USD 20.00"], "is an amount of money"),
        (["12 345,00\u00a0EUR", "5,00 EUR"], "is an amount of money"),
        (["($1.50)", "US$3"], "is an amount of money"),
        (["100 kr", "250 kr"], "is an amount of money"),
        (["1%", "2.5%"], "has a percent sign"),
        (["12,5 %", "3 %"], "has a percent sign"),
        (["5‰", "7‰"], "has a percent sign"),
        (["1%", "2", "3%"], "has a percent sign"),
    ],
)
def test_amounts_of_money_and_percentages_say_why_they_are_text(tmp_path: Path, cells: list[str], words: str) -> None:
    content = csv_of(*cells)
    columns, issues = columns_and_issues(tmp_path, "a.csv", content)
    assert columns["a"] == texts(*(None if cell == "NA" else cell for cell in cells))
    assert [issue for issue in issues if issue[0] != "MISSING_WORDS"] == [("KEPT_AS_TEXT", "a", 1)]
    assert words in message_of(tmp_path, content)
    assert "upload the file again" in message_of(tmp_path, content)


@pytest.mark.parametrize("cells", [["EUR", "USD"], ["100% cotton", "50% wool"], ["$HOME", "$PATH"], ["5 km", "6 km"], ["AB 12", "EUR 3"]])
def test_other_texts_with_such_signs_need_no_reason(tmp_path: Path, cells: list[str]) -> None:
    assert columns_and_issues(tmp_path, "a.csv", csv_of(*cells)) == ({"a": texts(*cells), "b": texts("x", "x")}, [])


@pytest.mark.parametrize(
    ("cells", "expected", "issues"),
    [
        (["01.01.2024", "2024-01-31"], dates(date(2024, 1, 1), date(2024, 1, 31)), []),
        (["2024-01-31", "01.02.2024", "2024/03/04"], dates(date(2024, 1, 31), date(2024, 2, 1), date(2024, 3, 4)), []),
        (["2024-01-31", "31/12/2024", "01/02/2024"], dates(date(2024, 1, 31), date(2024, 12, 31), date(2024, 2, 1)), []),
        (["2024-01-31", "12/31/2024", "01.02.2024"], dates(date(2024, 1, 31), date(2024, 12, 31), date(2024, 2, 1)), []),
        (["2024-01-31", "03/04/2024"], texts("2024-01-31", "03/04/2024"), [("OPEN_DATES", "a", 1)]),
        (["2024-01-31", "2024-02-01 00:00:00"], dates(date(2024, 1, 31), date(2024, 2, 1)), []),
        (
            ["2024-01-31 10:00", "2024-01-31T10:00:30.5", "01.02.2024 09:15"],
            ("DATETIME", [datetime(2024, 1, 31, 10), datetime(2024, 1, 31, 10, 0, 30, 500_000), datetime(2024, 2, 1, 9, 15)]),
            [],
        ),
        (
            ["2024-01-31T10:00Z", "2024-01-31 10:00:30+02:00"],
            ("DATETIME", [datetime(2024, 1, 31, 10, tzinfo=UTC), datetime(2024, 1, 31, 8, 0, 30, tzinfo=UTC)]),
            [],
        ),
        (["2024-01-31T10:00Z", "2024-01-31T10:00"], texts("2024-01-31T10:00Z", "2024-01-31T10:00"), [("KEPT_AS_TEXT", "a", 2)]),
        (["2024-01-31", "2024-01-31 10:00", "x", "2024-02-01"], texts("2024-01-31", "2024-01-31 10:00", "x", "2024-02-01"), []),
        (
            ["2024-01-31", "2024-01-31 10:00", "2024-02-01"],
            texts("2024-01-31", "2024-01-31 10:00", "2024-02-01"),
            [("KEPT_AS_TEXT", "a", 2)],
        ),
        (["31/12/2024", "12/30/2024"], texts("31/12/2024", "12/30/2024"), [("OPEN_DATES", "a", 1)]),
    ],
)
def test_a_column_may_mix_notations_of_dates_that_have_one_reading(
    tmp_path: Path, cells: list[str], expected: tuple[str, list[Any]], issues: Places
) -> None:
    columns, places = columns_and_issues(tmp_path, "a.csv", csv_of(*cells))
    assert (columns["a"], places) == (expected, issues)
    rows = "".join(f'{{"a": "{cell}"}}\n' for cell in cells)
    assert columns_and_issues(tmp_path, "a.jsonl", rows) == ({"a": expected}, issues)


def test_dates_beside_times_say_why_they_are_text(tmp_path: Path) -> None:
    content = csv_of("2024-01-31", "2024-01-31 10:00", "2024-02-01")
    assert "is not written like its other dates and times" in message_of(tmp_path, content)
    assert read_as(tmp_path, content, "a.csv", a="DATE") == ({"a": [date(2024, 1, 31), None, date(2024, 2, 1)]}, [("BAD_VALUE", "a", 2)])


def test_a_chosen_date_takes_every_notation_with_one_reading(tmp_path: Path) -> None:
    cells, issues = read_as(tmp_path, csv_of("01.01.2024", "2024-01-31", "3/4/2024", "13/32/2024"), "a.csv", a="DATE")
    assert cells == {"a": [date(2024, 1, 1), date(2024, 1, 31), date(2024, 4, 3), None]}
    assert issues == [("BAD_VALUE", "a", 4)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "a,n,e\n1,,NA\n2,,\n"),
        ("a.json", '[{"a": 1, "n": null, "e": "NA"}, {"a": 2, "n": null, "e": ""}]'),
        ("a.parquet", parquet(a=[1, 2], n=pa.array([None, None], pa.float64()), e=["NA", None])),
        ("a.xlsx", workbook(s=[["a", "n", "e"], [1, None, "NA"], [2, None, None]])),
    ],
)
def test_a_column_without_a_value_is_told(tmp_path: Path, name: str, content: str | bytes) -> None:
    result, _ = run_ingest(tmp_path, content.encode() if isinstance(content, str) else content, name)
    assert issue_locations(result) == [("MISSING_WORDS", "e", 1), ("EMPTY_COLUMN", "n", None), ("EMPTY_COLUMN", "e", None)]
    assert result["issue_count"] == 3
    assert result["issues"][1]["message"] == "Column 'n' has no value: each of its 2 cells is missing."


@pytest.mark.parametrize("is_exact", [True, False])
def test_the_profile_tells_how_many_values_are_infinite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_exact: bool) -> None:
    if not is_exact:
        monkeypatch.setattr(limits, "MAX_EXACT_PROFILE_ROWS", 1)
    result, _ = run_ingest(tmp_path, b"f,g,i,e\ninf,1.5,1,\n-inf,2.5,2,\n0.5,NaN,3,\ninf,3.5,4,\n")
    assert [column["infinite_count"] for column in result["profile"]["columns"]] == [3, 0, None, None]
    assert [row["f"] for row in result["preview"]] == [None, None, 0.5, None]


@pytest.mark.parametrize(
    ("name", "content"), [("a.csv", "name,n\nx,1\ny,2\n"), ("a.xlsx", workbook(s=[["name", "n"], ["x", 1], ["y", 2]]))]
)
def test_row_zero_makes_every_row_data_and_assumes_nothing(tmp_path: Path, name: str, content: str | bytes) -> None:
    data = content.encode() if isinstance(content, str) else content
    result, frame = run_ingest(tmp_path, data, name, reading={"headerRow": 0})
    assert frame.rows() == [("name", "n"), ("x", "1"), ("y", "2")]
    assert (frame.columns, [code for code, _, _ in issue_locations(result) if code == "NO_HEADER"]) == (["column_1", "column_2"], [])


@pytest.mark.parametrize("parse_format", [None, ",", "."])
def test_marks_of_identifiers_are_found_by_the_first_bytes_as_by_patterns(seed: int, parse_format: str | None) -> None:
    rng, kind = random.Random(seed), TextType("FLOAT", parse_format)
    for _ in range(300):
        cells = [None if rng.random() < 0.1 else "".join(rng.choices("+-0123.,", k=rng.choice([1, 2, 3, 4, 14]))) for _ in range(6)]
        # Several chunks, and a part that does not begin with the first text, are what a parser returns.
        text = pl.concat([pl.Series(["0"]), pl.Series(cells, dtype=pl.String)], rechunk=rng.random() < 0.5).slice(1)
        tally = TypeTally()
        check_leading_marks(kind, text, tally, lambda index: index)
        plain = kind.plain_values(text).to_list()

        def first(pattern: str, texts: list[str | None], cells: list[str | None] = cells) -> tuple[int, str | None] | None:
            return next(((index, cells[index]) for index, cell in enumerate(texts) if cell and re.search(pattern, cell)), None)

        assert tally.leading_zeros == first(r"^[+-]?0\d+(?:\.\d*)?$", plain), cells
        assert tally.has_minus == (first(r"^-[\d.,]", cells) is not None), cells
        assert tally.first_plus == first(WHOLE_WITH_PLUS, cells), cells
