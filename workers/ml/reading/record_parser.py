"""Record-by-record parser for delimited text with broken quoting: slow, but it reports exact positions.

A quoted field is read as RFC 4180 defines it (a doubled quote is one quote, line breaks are part of it) if a delimiter or a line end
follows its closing quote. Otherwise its quoting is broken: it then ends at the first quote in its line that a delimiter or the line end
follows, with quotes inside it as literal text. If there is no such quote, the opening quote is literal text, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from workers.ml import limits


@dataclass(frozen=True)
class Dialect:
    """Delimiter and quote, one byte each."""

    delimiter: bytes
    quote: bytes


@dataclass(frozen=True)
class Record:
    """A record's unquoted fields, and its offsets in the parsed data."""

    fields: list[bytes]
    first_broken: int | None
    """Index of the first field with broken quoting."""
    start: int
    end: int
    """Offset of the byte after its line break."""


class RecordParser:
    def __init__(self, dialect: Dialect) -> None:
        delimiter, quote = re.escape(dialect.delimiter), re.escape(dialect.quote)
        follows = rb"[ ]*(?=" + delimiter + rb"|[\r\n]|\Z)"
        self._dialect = dialect
        self._opening_quote = re.compile(rb"[ ]*" + quote)
        self._quoted_body = re.compile(rb"(?>[^" + quote + rb"]+|" + quote * 2 + rb")*+")
        self._closing_quote = re.compile(quote + follows)
        self._closing_in_line = re.compile(rb"([^\r\n]*?)" + quote + follows)
        self._unquoted_field = re.compile(rb"[^" + delimiter + rb"\r\n]*")

    def records(self, data: bytes, *, is_end: bool) -> Iterator[Record]:
        """Yield the records of `data`; a blank line is a record of one empty field. Unless `is_end`, an incomplete last record is not yielded."""
        position, length = 0, len(data)
        while position < length:
            record = self._record(data, position, is_end=is_end)
            if record is None:
                return
            yield record
            position = record.end

    def _record(self, data: bytes, start: int, *, is_end: bool) -> Record | None:
        fields: list[bytes] = []
        first_broken: int | None = None
        position, length = start, len(data)
        while True:
            opening = self._opening_quote.match(data, position)
            if opening is None:
                unquoted = self._unquoted_field.match(data, position)
                assert unquoted is not None  # the pattern also matches empty text
                field, position, is_sound = unquoted.group(), unquoted.end(), True
            else:
                quoted = self._quoted(
                    data, position, opening.end(), may_be_incomplete=not is_end and length - start < limits.MAX_RECORD_BYTES
                )
                if quoted is None:
                    return None
                field, position, is_sound = quoted
            if not is_sound and first_broken is None:
                first_broken = len(fields)
            fields.append(field)
            if position >= length:
                return Record(fields, first_broken, start, length) if is_end else None
            if data[position : position + 1] == self._dialect.delimiter:
                position += 1
                continue
            if data[position] == 13 and position + 1 >= length and not is_end:
                return None
            end = position + (2 if data[position : position + 2] == b"\r\n" else 1)
            return Record(fields, first_broken, start, end)

    def _quoted(self, data: bytes, start: int, body_start: int, *, may_be_incomplete: bool) -> tuple[bytes, int, bool] | None:
        """Return the field, the offset after it and whether its quoting is valid; None if its end is not in `data` yet."""
        quote = self._dialect.quote
        body = self._quoted_body.match(data, body_start)
        assert body is not None  # the pattern also matches empty text
        if body.end() - body_start <= limits.MAX_RECORD_BYTES:
            closing = self._closing_quote.match(data, body.end())
            if closing is not None:
                return body.group().replace(quote * 2, quote), closing.end(), True
            if body.end() >= len(data) and may_be_incomplete:
                return None
        in_line = self._closing_in_line.match(data, body_start)
        if in_line is not None:
            return in_line.group(1), in_line.end(), False
        unquoted = self._unquoted_field.match(data, start)
        assert unquoted is not None
        return unquoted.group(), unquoted.end(), False


def encode_record(fields: list[bytes], dialect: Dialect) -> bytes:
    """Encode one record per RFC 4180, but ended by a line feed."""
    quote = dialect.quote
    cells = [
        quote + field.replace(quote, quote * 2) + quote
        if dialect.delimiter in field or quote in field or b"\n" in field or b"\r" in field
        else field
        for field in fields
    ]
    return dialect.delimiter.join(cells) + b"\n"
