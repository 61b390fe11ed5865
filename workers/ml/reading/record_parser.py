"""Delimited text whose quoting is broken, read record by record: slow, and sure of the place.

A quoted field is taken as RFC 4180 has it (a doubled quote is one quote, line breaks belong to it) when a delimiter or a
line's end follows its closing quote. Otherwise its quoting is broken: it then ends at the first quote of its line that a
delimiter or the line's end follows, quotes inside it being text, and where there is none the opening quote is text itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from workers.ml import limits


@dataclass(frozen=True)
class Dialect:
    delimiter: bytes
    quote: bytes


@dataclass(frozen=True)
class Record:
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
        """Records of `data`, blank lines among them as one empty field; without `is_end`, the last one only when it is whole."""
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
                assert unquoted is not None  # it matches nothing, too
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
        """The field, the offset after it and whether it was sound; None where its end has not been read yet."""
        quote = self._dialect.quote
        body = self._quoted_body.match(data, body_start)
        assert body is not None  # it matches nothing, too
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
    """One record as RFC 4180 writes it, ended by a line feed."""
    quote = dialect.quote
    cells = [
        quote + field.replace(quote, quote * 2) + quote
        if dialect.delimiter in field or quote in field or b"\n" in field or b"\r" in field
        else field
        for field in fields
    ]
    return dialect.delimiter.join(cells) + b"\n"
