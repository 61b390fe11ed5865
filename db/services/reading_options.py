"""How the file of an upload is read, where its user says so instead of leaving it to detection."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from db.core.checks import Checks, canonical_name
from db.tables.datasets import ColumnType

_ENCODINGS = (
    "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "ascii", "latin-1", "iso8859-2", "iso8859-5",
    "iso8859-7", "iso8859-9", "iso8859-15", "cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp437", "cp850",
    "cp852", "cp866", "koi8-r", "koi8-u", "mac-roman", "cp932", "shift_jis", "euc_jp", "gb18030", "gbk", "gb2312", "big5", "cp949", "euc_kr",
)  # fmt: skip
_CODECS = {codecs.lookup(name).name for name in _ENCODINGS}
_NO_DELIMITERS = frozenset("\"'.+-_#") | frozenset("0123456789")
_UNCHOSEN_TYPES = (ColumnType.JSON, ColumnType.BINARY)
MAX_HEADER_ROW = 200  # the reader looks for the header in a sample of so many rows
MAX_WORDS = 100
MAX_COLUMNS = 2_000
MAX_SAMPLE_RATE = 1_000_000_000_000  # Hz


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """None is detected. `header_row` counts the rows that are not blank from 1; 0 means that there is no header."""

    delimiter: str | None = None
    decimal_mark: str | None = None
    encoding: str | None = None
    header_row: int | None = None
    sheet: str | None = None
    missing_words: Sequence[str] | None = None
    column_types: Sequence[tuple[str, ColumnType]] = ()
    sample_rate: float | None = None
    text_lines: bool = False


def validated(options: ReadingOptions | None, checks: Checks) -> dict[str, Any] | None:
    """Return the options that were given as they are stored and as the ingest takes them (`workers.ml.reading.options`), or None."""
    if options is None:
        return None
    stored: dict[str, Any] = {
        "delimiter": _delimiter(options.delimiter, checks),
        "decimalMark": _decimal_mark(options.decimal_mark, checks),
        "encoding": _encoding(options.encoding, checks),
        "headerRow": _header_row(options.header_row, checks),
        "sheet": checks.text(options.sheet, "reading", "sheet", length=200),
        "missingWords": _missing_words(options.missing_words, checks),
        "columnTypes": _column_types(options.column_types, checks) or None,
        "sampleRate": _sample_rate(options.sample_rate, checks),
        "textLines": options.text_lines or None,
    }
    return {name: value for name, value in stored.items() if value is not None} or None


def _sample_rate(value: float | None, checks: Checks) -> float | None:
    if value is not None and not 0 < value <= MAX_SAMPLE_RATE:
        checks.add("reading", "sampleRate", message=f"A sampling rate is above 0 and at most {MAX_SAMPLE_RATE:,} Hz.")
    return value


def _delimiter(value: str | None, checks: Checks) -> str | None:
    if value is not None and (len(value) != 1 or not (value == "\t" or " " <= value <= "~") or value in _NO_DELIMITERS or value.isalpha()):
        checks.add("reading", "delimiter", message="A delimiter is one character, for instance a comma, a semicolon, a tab, | or :.")
    return value


def _decimal_mark(value: str | None, checks: Checks) -> str | None:
    if value not in (None, ".", ","):
        checks.add("reading", "decimalMark", message='The decimal mark is "." or ",".')
    return value


def _encoding(value: str | None, checks: Checks) -> str | None:
    if value is None:
        return None
    try:
        name = codecs.lookup(value).name
    except (LookupError, ValueError):
        name = ""
    if name not in _CODECS:
        checks.add("reading", "encoding", message=f"The encoding {value[:40]!r} is not known. Known are: {', '.join(_ENCODINGS)}.")
    return name


def _header_row(value: int | None, checks: Checks) -> int | None:
    if value is not None and not 0 <= value <= MAX_HEADER_ROW:
        checks.add(
            "reading", "headerRow", message=f"The header is row 1 to {MAX_HEADER_ROW}, not counting blank ones; 0 says that there is none."
        )
    return value


def _missing_words(words: Sequence[str] | None, checks: Checks) -> list[str] | None:
    if words is None:
        return None
    if len(words) > MAX_WORDS:
        checks.add("reading", "missingWords", message=f"These are {len(words)} words; at most {MAX_WORDS} are taken.")
    for index, word in enumerate(words[:MAX_WORDS]):
        if not word or len(word) > MAX_WORDS or "\0" in word:
            checks.add(
                "reading", "missingWords", str(index), message=f"A word has 1 to {MAX_WORDS} characters; empty cells are missing anyway."
            )
    return list(words)


def _column_types(types: Sequence[tuple[str, ColumnType]], checks: Checks) -> dict[str, str]:
    if len(types) > MAX_COLUMNS:
        checks.add("reading", "columnTypes", message=f"These are {len(types)} columns; a file has at most {MAX_COLUMNS:,}.")
    chosen: dict[str, str] = {}
    for index, (column, kind) in enumerate(types[:MAX_COLUMNS]):
        name = canonical_name(column)
        if not name or len(name) > 1_000 or "\0" in name:
            checks.add("reading", "columnTypes", str(index), "column", message="Name a column of the file.")
        elif name in chosen:
            checks.add("reading", "columnTypes", str(index), "column", message=f"The column {name[:100]!r} is named twice.")
        elif kind in _UNCHOSEN_TYPES:
            checks.add(
                "reading", "columnTypes", str(index), "type", message=f"{kind.name} cannot be chosen; it is what a file itself says."
            )
        chosen[name] = kind.name
    return chosen
