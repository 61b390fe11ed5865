"""Generated tables with nasty values, and the same table written as CSV, TSV, JSON, JSON lines, Parquet and Excel.

A column has one content: what its cells are, and how text writes them. A format that cannot hold a content leaves the column out, and the
reasons are the rules of `EXCLUDED`.
"""

from __future__ import annotations

import csv
import io
import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests import files
from tests.workers.plain_workbook import workbook

FORMATS = ("csv", "tsv", "json", "jsonl", "parquet", "xlsx")
EXCLUDED: dict[str, set[str]] = {
    "csv": set(),
    "tsv": set(),
    # Whether a number with leading zeros is text is asked where numbers are written as text.
    "json": {"leading zeros"},
    "jsonl": {"leading zeros"},
    # A column of decimals has one scale for all its values.
    "parquet": {"leading zeros", "decimals"},
    # The number of a cell is a double, and so is what openpyxl writes; there are no infinities.
    "xlsx": {"64-bit integers", "beyond 64 bits", "beyond 38 digits", "beyond doubles", "decimals", "infinities", "not a number"},
}


@dataclass(frozen=True)
class Content:
    """`type` is the ColumnType to expect; `write` makes the text of a cell."""

    kind: str
    type: str
    cells: list[Any]
    write: Callable[[Any], str]

    @property
    def texts(self) -> list[str]:
        return ["" if cell is None else self.write(cell) for cell in self.cells]


@dataclass(frozen=True)
class Table:
    columns: dict[str, Content]
    delimiter: str
    """Of its form as CSV."""
    formats: tuple[str, ...] = FORMATS
    """The formats to compare: a share of the tables has all, the others have two besides CSV, which costs half."""

    def without(self, kinds: set[str]) -> Table:
        return replace(self, columns={key: content for key, content in self.columns.items() if content.kind not in kinds})


def _plain(cell: Any) -> str:
    return repr(cell) if isinstance(cell, float) else str(cell)


def _grouped(number: int) -> str:
    return f"{number:,}"


def _clock(value: timedelta) -> str:
    minutes, seconds = divmod(round(value.total_seconds()), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


_WORDS = [
    "alpha",
    "a,b",
    'say "hi"',
    "x;y",
    "naïve",
    "می\u200cخواهم",
    "👩\u200d👧",
    "e\u0301tude",
    "tab",
    "0x1F",
    "1-2-3",
    "#1",
    "+1+1",
    "two words",
    "Ω",
]
_DATES = [date(2024, 2, 29), date(1999, 12, 31), date(1970, 1, 1), date(2038, 1, 19)]


def _content(kind: str, rng: random.Random, rows: int, *, comma: bool) -> Content:  # noqa: C901 - a case a kind
    def column(type_: str, make: Callable[[], Any], write: Callable[[Any], str] = _plain) -> Content:
        cells = [make() for _ in range(rows)]
        for index in range(1, rows):
            if rng.random() < 0.08:
                cells[index] = None
        return Content(kind, type_, cells, write)

    def fraction() -> float:
        value = rng.choice([rng.uniform(-5, 5), rng.random() * 10 ** rng.randint(-12, 20), -0.5, rng.randint(1, 999) / 8])
        return float(f"{value:.15g}")  # openpyxl writes 16 digits

    def with_first(content: Content, first: Any) -> Content:
        content.cells[0] = first
        return content

    match kind:
        case "small integers":
            return column("INTEGER", lambda: rng.randint(-1_000, 1_000))
        case "64-bit integers":
            return column("INTEGER", lambda: rng.choice([-(2**63), 2**63 - 1, 0, rng.randint(2**53, 2**63 - 1)]))
        case "beyond 64 bits":
            return with_first(column("DECIMAL", lambda: rng.randint(-(10**37), 10**37)), 10**37 + rng.randrange(10**6))
        case "beyond 38 digits":
            return with_first(column("STRING", lambda: rng.randint(10**39, 10**45)), 10**45)
        case "beyond doubles":
            return with_first(column("INTEGER", lambda: 2**53 + rng.randint(0, 9)), 2**53 + 1)
        case "decimals":  # long whole numbers beside fractions
            content = column("DECIMAL", lambda: rng.choice([2**53 + 1, 10**20 + 1, 0.25, 1.5]))
            return _set(with_first(content, 2**53 + 1), 1, 0.25)
        case "floats":
            write = (lambda cell: repr(cell).replace(".", ",")) if comma else _plain
            return with_first(column("FLOAT", fraction, write), 0.125)
        case "infinities":
            return _set(with_first(column("FLOAT", lambda: rng.choice([1.5, 2.25, math.inf, -math.inf])), 0.5), rows - 1, math.inf)
        case "not a number":
            return _set(with_first(column("FLOAT", lambda: rng.choice([1.5, math.nan])), 0.5), rows - 1, math.nan)
        case "grouped":
            return with_first(
                column("INTEGER", lambda: rng.randint(1_000_000, 10**9), lambda cell: _grouped(cell).replace(",", "." if comma else ",")),
                1_234_567,
            )
        case "booleans":
            return column("BOOLEAN", lambda: rng.random() < 0.5, lambda cell: str(cell).lower())
        case "written booleans":
            return column("BOOLEAN", lambda: rng.random() < 0.5, lambda cell: rng.choice([str(cell), str(cell).upper(), str(cell).lower()]))
        case "ISO dates":
            return column("DATE", lambda: rng.choice(_DATES), lambda cell: cell.isoformat())
        case "other dates":
            form = rng.choice(["%d.%m.%Y", "%Y/%m/%d", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y"])
            return with_first(column("DATE", lambda: rng.choice(_DATES), lambda cell: cell.strftime(form)), _DATES[0])
        case "times":
            return with_first(
                column(
                    "DATETIME",
                    lambda: datetime(2024, rng.randint(1, 12), 3, rng.randint(0, 23), 5, 7),
                    lambda cell: cell.isoformat(sep=" "),
                ),
                datetime(2024, 1, 31, 10, 30, 5),
            )
        case "times of day":
            return column("TIME", lambda: time(rng.randint(0, 23), rng.randint(0, 59), rng.randint(0, 59)), lambda cell: cell.isoformat())
        case "durations":
            return with_first(column("DURATION", lambda: timedelta(seconds=rng.randint(0, 400_000)), _clock), timedelta(hours=36))
        case "leading zeros":
            return with_first(column("STRING", lambda: f"{rng.randint(0, 999):05}", str), "00042")
        case "words":
            return with_first(column("STRING", lambda: f"{rng.choice(_WORDS)} {rng.randrange(10**6)}", str), "word 0")
        case "missing words":
            content = column("STRING", lambda: rng.choice(["NA", f"x{rng.randrange(10**6)}", "null", "None"]), str)
            return _set(with_first(content, "some text"), rows - 1, "n/a")
        case "placeholders":
            return _set(with_first(column("INTEGER", lambda: rng.randint(0, 99)), 5), rows - 1, None)
        case "empty":
            return Content(kind, "STRING", [None] * rows, str)
        case _:
            raise AssertionError(kind)


def _set(content: Content, index: int, value: Any) -> Content:
    content.cells[index] = value
    return content


KINDS = (
    "small integers", "64-bit integers", "beyond 64 bits", "beyond 38 digits", "beyond doubles", "decimals", "floats", "infinities", "not a number",
    "grouped", "booleans", "written booleans", "ISO dates", "other dates", "times", "times of day", "durations", "leading zeros", "words",
    "missing words", "placeholders", "empty",
)  # fmt: skip


def generate_table(rng: random.Random) -> Table:
    comma = rng.random() < 0.3
    rows, width = rng.randint(4, 9), rng.randint(1, 3)
    kinds = ["small integers", *rng.choices(KINDS, k=width)]
    if comma:
        kinds = [kind for kind in kinds if kind not in ("infinities", "not a number", "decimals")] + ["floats"]
    names = [f"c{index}" for index in range(len(kinds))]
    if rng.random() < 0.3:
        names[-1] = rng.choice(["cafe\u0301", "c0", "", "نام\u200cها", "x" * 250, "a b"])
    if kinds[-1] == "empty" and not names[-1]:
        names[-1] = "c"  # a column without name and cells is no column of a sheet
    columns: dict[str, Content] = {}
    for index, kind in enumerate(kinds):
        columns[f"{index}:{names[index]}"] = _content(kind, rng, rows, comma=comma)
    # A row without any value is no row of a sheet.
    columns[f"0:{names[0]}"] = Content("small integers", "INTEGER", [rng.randint(-999, 999) for _ in range(rows)], _plain)
    few = ("csv", *rng.sample([rng.choice(["json", "jsonl"]), "parquet", "xlsx"], 2))
    formats = FORMATS if rng.random() < 0.15 else few
    return Table(columns, ";" if comma else rng.choice([",", ",", ";", "|", "\t"]), formats)


def names_of(table: Table) -> list[str]:
    return [key.split(":", 1)[1] for key in table.columns]


def write_table(table: Table, form: str) -> bytes:
    contents, names = list(table.columns.values()), names_of(table)
    rows = len(contents[0].cells)
    match form:
        case "csv" | "tsv":
            text = io.StringIO()
            writer = csv.writer(text, delimiter=table.delimiter if form == "csv" else "\t", lineterminator="\n")
            writer.writerow(names)
            writer.writerows(zip(*(content.texts for content in contents), strict=True))
            return text.getvalue().encode()
        case "json" | "jsonl":
            names = _unique(names)
            objects = [{name: _json(content, index) for name, content in zip(names, contents, strict=True)} for index in range(rows)]
            return (json.dumps(objects) if form == "json" else "\n".join(json.dumps(item, ensure_ascii=False) for item in objects)).encode()
        case "parquet":
            return _parquet(contents, names)
        case _:
            lines = [names, *([content.cells[index] for content in contents] for index in range(rows))]
            return files.workbook(Sheet=lines) if form == "openpyxl" else workbook(lines)


def _unique(names: list[str]) -> list[str]:
    """JSON cannot repeat a key; a space makes it another key and the same name."""
    keys: list[str] = []
    for name in names:
        key = name
        while key in keys:
            key += " "
        keys.append(key)
    return keys


def _json(content: Content, index: int) -> Any:
    cell = content.cells[index]
    if isinstance(cell, timedelta):
        return content.write(cell)
    return cell.isoformat() if isinstance(cell, date | time) else cell


def _parquet(contents: list[Content], names: list[str]) -> bytes:
    arrays: list[Any] = []
    for content in contents:
        whole = [cell for cell in content.cells if type(cell) is int]
        if whole and max(map(abs, whole)) >= 2**63 and content.type in ("DECIMAL", "STRING"):
            digits = max(len(str(abs(cell))) for cell in whole)
            kind: Any = pa.decimal128(38, 0) if digits <= 38 else pa.decimal256(60, 0)
            arrays.append(pa.array([None if cell is None else Decimal(cell) for cell in content.cells], kind))
        elif content.kind == "empty":
            arrays.append(pa.array(content.cells, pa.string()))
        elif content.type == "FLOAT":
            arrays.append(pa.array(content.cells, pa.float64(), from_pandas=False))
        else:
            arrays.append(pa.array(content.cells))
    sink = io.BytesIO()
    schema = pa.schema([pa.field(name, array.type) for name, array in zip(names, arrays, strict=True)])
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), sink)
    return sink.getvalue()
