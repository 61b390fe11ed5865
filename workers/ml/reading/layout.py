"""Detection of delimiter, quote, header and what stands before it, from the first rows.

Each dialect is scored as in van den Burg, Nazábal and Sutton, "Wrangling messy CSV files by detecting row and type patterns" (2019):
how regular the rows are, times the share of cells that look like values.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePath

from workers.ml.reading import preamble
from workers.ml.reading.encodings import shows_nothing
from workers.ml.reading.record_parser import Dialect, Record, RecordParser

_DELIMITERS = [b",", b";", b"\t", b"|", b":"]
_VALUE = re.compile(
    rb"\s*(?:[-+]?[\d.,]*\d[\d.,]*(?:[eE][-+]?\d+)?%?|\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:[T ][\d:.]+\S*)?|\d{1,2}:\d\d(?::\d\d(?:\.\d+)?)?|[^,;\t|:]*)\s*",
)
_NUMBER = re.compile(rb"\s*[-+]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][-+]?\d+)?\s*")
_TIMESTAMP = re.compile(rb"\s*\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:[T ].*)?\s*")
_BOOLEAN = re.compile(rb"(?i)\s*(?:true|false)\s*")
_CLOCK_ROW = re.compile(rb"(?:^|[ T])-?\d{1,7}:[0-5]\d(?::[0-5]\d(?:[.,]\d+)?)?(?: ?Z| ?[+-]\d\d:?\d\d)?\s*$")
_LOGGED_CLOCK = re.compile(rb"[ T]\d{1,2}:\d\d")
_CLOCK_COLON = re.compile(rb"(?<=\d):(?=\d\d)")
_YEAR = re.compile(rb"\s*(?:1[89]|20|21)\d\d\s*")
_NAME = re.compile(rb"\s*\w[^,;\t|]{0,39}")
_MAX_SAMPLE_ROWS = 200
_NO_DELIMITER = b"\x1f"  # for a table of one column: text does not contain the unit separator


@dataclass(frozen=True)
class Layout:
    """`header` is None if the first row is data; `width` is the number of columns."""

    dialect: Dialect
    header: list[str] | None
    width: int
    row_count: int
    """Records in the sample, without blank ones and those before the table."""
    preamble: tuple[str, ...] = ()
    """The physical lines before the table, blank ones included."""
    has_spaced_columns: bool = False
    """The only column has rows that look like several, between spaces."""


def detect_layout(sample: bytes, filename: str, *, is_whole: bool, delimiter: bytes | None = None, header_row: int | None = None) -> Layout:
    """Detect the layout of text that begins with `sample` (UTF-8). `header_row` counts the rows that are not blank, 0 is no header."""
    start = 0
    if (separator := preamble.separator_line(sample)) is not None:
        delimiter, start = delimiter or separator[0], separator[1]
    if header_row is None and _has_whole_lines(sample):
        start += preamble.comment_end(sample[start:], lambda line, rest: _is_commented_header(line, rest, is_whole=is_whole))
    dialect, records = _detect_dialect(sample[start:], filename, delimiter, is_whole=is_whole)
    if not records:
        return Layout(dialect, None, 0, 0)
    skipped = header_row - 1 if header_row else 0
    if header_row is None and _has_whole_lines(sample):
        rows = [[field.decode("utf-8", "replace") for field in record.fields] for record in records]
        skipped = preamble.table_start(rows, lambda rest: _has_header(records[len(rows) - len(rest) :]))
    if skipped >= len(records):
        return Layout(dialect, None, 0, 0)
    has_header = bool(header_row) if header_row is not None else _has_header(records[skipped:])
    before = sample[: start + records[skipped].start]
    lines = tuple(line.decode("utf-8", "replace") for line in before.split(b"\n")[:-1])
    return _layout(dialect, records[skipped:], lines, has_header=has_header)


def _has_whole_lines(sample: bytes) -> bool:
    """Whether line feeds alone end the lines, so that lines can be counted."""
    return sample.count(b"\r") == sample.count(b"\r\n")


def _is_commented_header(line: bytes, rest: bytes, *, is_whole: bool) -> bool:
    """`#id,name` has the names if it has as many fields as the rows, and the first row is data."""
    dialect, records = _detect_dialect(rest, "", None, is_whole=is_whole)
    names = next(RecordParser(dialect).records(line, is_end=True), None)
    if names is None or not records or len(names.fields) != len(records[0].fields) or line.lstrip()[1:2] in (b"", b" ", b"\t"):
        return False
    return not _has_header(records)


def _detect_dialect(sample: bytes, filename: str, delimiter: bytes | None, *, is_whole: bool) -> tuple[Dialect, list[Record]]:
    quote = _detect_quote(sample)
    if delimiter is not None:
        dialect = Dialect(delimiter, quote)
        return dialect, _sample_records(sample, dialect, is_whole=is_whole)
    best: tuple[float, Dialect, list[Record]] | None = None
    for candidate in _DELIMITERS:
        if candidate not in sample:
            continue
        dialect = Dialect(candidate, quote)
        records = _sample_records(sample, dialect, is_whole=is_whole)
        score = _score(records, candidate) * (1.2 if candidate == b"\t" and PurePath(filename).suffix.lower() in {".tsv", ".tab"} else 1.0)
        if best is None or score > best[0] + 1e-9:
            best = score, dialect, records
    if best is None or best[0] < 0.2:
        dialect = Dialect(_header_delimiter(sample, quote, is_whole=is_whole) or _NO_DELIMITER, quote)
        best = 0.0, dialect, _sample_records(sample, dialect, is_whole=is_whole)
    return best[1], best[2]


def _layout(dialect: Dialect, records: list[Record], lines: tuple[str, ...], *, has_header: bool) -> Layout:
    header = [field.decode("utf-8", "replace") for field in records[0].fields] if has_header else None
    if header and header[0].lstrip().startswith("#") and len(header[0].strip()) > 1:
        header[0] = header[0].lstrip()[1:]
    body = records[1:] if has_header else records
    most_common = Counter(len(record.fields) for record in body).most_common(1)
    width = len(records[0].fields)
    if most_common and most_common[0][1] > len(body) // 2:
        # If most rows are wider than the header, the header lacks names; narrower rows are ragged.
        width = max(width, most_common[0][0]) if has_header else most_common[0][0]
    return Layout(dialect, header, width, len(records), lines, width == 1 and _has_spaced_columns(records))


def _has_spaced_columns(records: list[Record]) -> bool:
    """Whether all rows have as many words, three or more and numbers among them, or most have several spaces in the midst."""
    rows = [record.fields[0].strip() for record in records]
    if len(rows) < 3:
        return False
    counts = {len(row.split()) for row in rows}
    if len(counts) == 1 and counts.pop() > 2 and all(any(map(_NUMBER.fullmatch, row.split())) for row in rows[1:]):
        return True
    return sum(b"  " in row for row in rows) > len(rows) / 2


def _header_delimiter(sample: bytes, quote: bytes, *, is_whole: bool) -> bytes | None:
    """Return the delimiter that splits the first line into short names, if the rows do not reveal one. Its rows are then reported as ragged."""
    for delimiter in _DELIMITERS[:-1]:
        records = _sample_records(sample, Dialect(delimiter, quote), is_whole=is_whole)[:1]
        if records and len(records[0].fields) > 1 and all(_NAME.fullmatch(field) for field in records[0].fields):
            return delimiter
    return None


def first_record_end(sample: bytes, dialect: Dialect) -> int:
    """Return the offset after the first non-blank record, which is the header."""
    for record in RecordParser(dialect).records(sample, is_end=True):
        if not _is_blank(record):
            return record.end
    return len(sample)


def _sample_records(sample: bytes, dialect: Dialect, *, is_whole: bool) -> list[Record]:
    records: list[Record] = []
    for record in RecordParser(dialect).records(sample, is_end=is_whole):
        if not _is_blank(record):
            records.append(record)
        if len(records) >= _MAX_SAMPLE_ROWS:
            break
    if not records and sample.strip():
        records = [record for record in RecordParser(dialect).records(sample, is_end=True) if not _is_blank(record)][:1]
    return records


def _is_blank(record: Record) -> bool:
    return len(record.fields) == 1 and shows_nothing(record.fields[0].replace(b"\0", b""))


def _detect_quote(sample: bytes) -> bytes:
    """Return the quote character: the apostrophe only if it opens and closes fields more often than the double quote does."""
    counts: dict[bytes, int] = {}
    for quote in (b'"', b"'"):
        opens = len(re.findall(rb"(?:^|[,;\t|:\n]) ?" + quote, sample))
        closes = len(re.findall(quote + rb" ?(?:[,;\t|:\r\n]|\Z)", sample))
        counts[quote] = min(opens, closes)
    return b"'" if counts[b"'"] > counts[b'"'] else b'"'


def _score(records: list[Record], delimiter: bytes) -> float:
    if not records:
        return 0.0
    widths = Counter(len(record.fields) for record in records)
    width, width_count = widths.most_common(1)[0]
    if width < 2:
        return 0.0
    cells = value_like = 0
    for record in records[:100]:
        for field in record.fields[:100]:
            cells += 1
            value_like += _VALUE.fullmatch(field) is not None
    if delimiter == b":" and sum(_has_clock(b":".join(record.fields)) for record in records) > len(records) // 2:
        return 0.0  # times, not fields
    score = (width_count / len(records)) * (width - 1) / width * (0.1 + 0.9 * value_like / cells)
    return score / 2 if delimiter == b":" else score


def _has_clock(row: bytes) -> bool:
    """Whether a row ends in a time, or its colons are those of times, as in a log."""
    if _CLOCK_ROW.search(row) is not None:
        return True
    return _LOGGED_CLOCK.search(row) is not None and len(_CLOCK_COLON.findall(row)) == row.count(b":")


def is_header(rows: list[list[str]]) -> bool:
    """Whether the first row of a table of text has the names."""
    records = [Record([cell.encode() for cell in row], None, 0, 0) for row in rows]
    return bool(records) and _has_header(records)


def _has_header(records: list[Record]) -> bool:
    """The first row is data if a cell is a number, a date or a boolean; but distinct years may be column names.

    If everything is text it is undecidable; the first row is then taken as the header, as most files have one.
    """
    first = records[0].fields
    filled = [field for field in first if field.strip()]
    typed = [field for field in filled if _NUMBER.fullmatch(field) or _TIMESTAMP.fullmatch(field) or _BOOLEAN.fullmatch(field)]
    if not typed:
        return bool(filled) or len(records) == 1
    years = [field for field in typed if _YEAR.fullmatch(field)]
    if len(years) == len(typed) and len(set(years)) == len(years) and len(records) > 1:
        cells_below = [
            record.fields[first.index(year)] for year in years for record in records[1:20] if first.index(year) < len(record.fields)
        ]
        return not any(_YEAR.fullmatch(cell) for cell in cells_below)
    return False
