"""Check that a block of delimited text is rectangular, by counting delimiters, quotes and line ends with numpy.

Parsers abort at a ragged row or truncate it without reporting its number, so each block is checked first. If every row has the expected
number of fields and the quoting follows RFC 4180, the block goes to the parser unchanged. Rows with another number of fields are padded
or omitted by their offsets. Only a block with broken quoting is parsed record by record.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from workers.ml import limits
from workers.ml.errors import BadInput
from workers.ml.reading.encodings import REPLACEMENT, sanitize_utf8, shows_nothing
from workers.ml.reading.issues import IssueLog, short_repr
from workers.ml.reading.reader_state import MAX_CARRY_BYTES, ReaderState, decode_bytes, encode_bytes
from workers.ml.reading.record_parser import Dialect, RecordParser, encode_record

Positions = np.ndarray[Any, np.dtype[np.int64]]
_LF, _CR = 10, 13


@dataclass(frozen=True)
class CleanBlock:
    """Rows of equal width, correctly quoted, valid UTF-8, each ended by a line feed."""

    data: bytes
    row_count: int
    first_row: int
    row_numbers: Positions | None
    """Number of each row in the file if rows between them were omitted; otherwise they are contiguous."""
    has_quoting: bool = False
    """True if quotes in `data` enclose fields; otherwise they are literal text."""

    def row_number(self, index: int) -> int:
        return self.first_row + index if self.row_numbers is None else int(self.row_numbers[index])


class RecordChecker:
    """Turns UTF-8 text, with arbitrary block boundaries, into blocks of whole clean rows. Rows are numbered from 1, including omitted ones."""

    def __init__(self, dialect: Dialect, names: list[str], issues: IssueLog) -> None:
        self._dialect = dialect
        self._names = names
        self._width = len(names)
        self._issues = issues
        self._parser = RecordParser(dialect)
        self._spaced_quote = re.compile(rb"(?:\A|[\r\n" + re.escape(dialect.delimiter) + rb"])[ ]+" + re.escape(dialect.quote))
        self._delimiter = dialect.delimiter[0]
        self._quote = dialect.quote[0]
        self._carry = b""
        self.row_count = 0
        self.ragged_count = 0
        self._first_ragged: tuple[int, int] | None = None
        self._line_end: bytes | None = None

    def state(self) -> ReaderState | None:
        """The state after the last returned block; None in the middle of a long row. Holds only the number of issues; the reader saves their log."""
        if len(self._carry) > MAX_CARRY_BYTES:
            return None
        return {
            "carry": encode_bytes(self._carry),
            "rows": self.row_count,
            "ragged": self.ragged_count,
            "first_ragged": self._first_ragged,
            "line_end": None if self._line_end is None else self._line_end.decode(),
            "issues": [len(self._issues.entries), self._issues.count],
        }

    def restore(self, state: ReaderState) -> None:
        self._carry = decode_bytes(state["carry"])
        self.row_count, self.ragged_count = state["rows"], state["ragged"]
        self._first_ragged = None if state["first_ragged"] is None else (state["first_ragged"][0], state["first_ragged"][1])
        self._line_end = None if state["line_end"] is None else state["line_end"].encode()

    def feed(self, data: bytes, *, is_end: bool = False) -> CleanBlock | None:
        """Return the whole rows so far as a block, or None if there are none. Raises BadInput: ROW_TOO_LONG, RAGGED_ROWS."""
        if not is_end and self._dialect.quote not in data and self._dialect.quote not in self._carry:
            block = self._unquoted_block(data)
        else:
            block = self._maybe_quoted_block(data, is_end=is_end)
        if block is not None:
            self._check_early()
        return block

    def _maybe_quoted_block(self, data: bytes, *, is_end: bool) -> CleanBlock | None:
        body = self._carry + data if self._carry else data
        self._carry = b""
        if is_end and body and not body.endswith(b"\n"):
            body += b"\r\n" if self._line_end == b"\r\n" or b"\r\n" in body else b"\n"
        if not body:
            return None
        if self._dialect.quote not in body or not self._has_quoted_field(body):
            return self._unquoted_block(body)  # no field begins with a quote: quotes are literal text, as in 5" pipe
        block = self._quoted_block(body, is_end=is_end)
        return None if block is None else replace(block, has_quoting=True)

    def _has_quoted_field(self, body: bytes) -> bool:
        quote = self._dialect.quote
        if body.startswith(quote) or any(separator + quote in body for separator in (self._dialect.delimiter, b"\n", b"\r")):
            return True
        return b" " + quote in body and self._spaced_quote.search(body) is not None

    def finish(self) -> None:
        """Raises BadInput (RAGGED_ROWS) if too many rows of the whole file were ragged."""
        if (self.ragged_count > limits.RAGGED_ROWS_ALLOWED and self.ragged_count > limits.MAX_RAGGED_SHARE * self.row_count) or (
            self.row_count and self.ragged_count == self.row_count
        ):
            self._fail_ragged()

    def _check_early(self) -> None:
        if self.row_count >= limits.EARLY_ABORT_ROWS and self.ragged_count > self.row_count // 2:
            self._fail_ragged()

    def _fail_ragged(self) -> None:
        assert self._first_ragged is not None  # called only with ragged rows
        row, width = self._first_ragged
        raise BadInput(
            "RAGGED_ROWS",
            f"{self.ragged_count:,} of {self.row_count:,} rows do not have {self._width} fields; the first is row {row} with {width}. "
            f"The detected delimiter is {self._dialect.delimiter.decode()!r} and the quote {self._dialect.quote.decode()}. "
            "Check that fields which contain the delimiter are quoted.",
            row=row,
        )

    # -- cutting at the last whole row

    def _unquoted_block(self, data: bytes) -> CleanBlock | None:
        """Check the carried text plus `data`, both without quoted fields. They are joined in a single copy."""
        cut = data.rfind(b"\n") + 1
        if cut == 0:
            self._set_carry(self._carry + data)
            return None
        body = b"".join((self._carry, memoryview(data)[:cut]))
        self._set_carry(data[cut:])
        body, issue_code = sanitize_utf8(body)
        body = self._normalize_line_ends(body)
        buffer = np.frombuffer(body, np.uint8)
        separators = buffer == self._delimiter
        separators |= buffer == _LF
        positions = np.flatnonzero(separators)
        return self._rectangular_block(body, buffer, positions, issue_code)

    def _quoted_block(self, body: bytes, *, is_end: bool) -> CleanBlock | None:
        buffer = np.frombuffer(body, np.uint8)
        is_quoted = np.bitwise_xor.accumulate(buffer == self._quote)
        line_ends = np.flatnonzero((buffer == _LF) & ~is_quoted)
        cut = int(line_ends[-1]) + 1 if line_ends.size else 0
        if cut and self._is_well_quoted(body[:cut]) and not (is_end and cut < len(body)):
            if cut < len(body):
                self._set_carry(body[cut:])
            body, issue_code = sanitize_utf8(body[:cut])
            body = self._normalize_unquoted_line_ends(body)
            buffer = np.frombuffer(body, np.uint8)
            is_quoted = np.bitwise_xor.accumulate(buffer == self._quote)
            positions = np.flatnonzero(((buffer == self._delimiter) | (buffer == _LF)) & ~is_quoted)
            return self._rectangular_block(body, buffer, positions, issue_code)
        if not cut and not is_end and len(body) < limits.BLOCK_BYTES + limits.MAX_RECORD_BYTES:
            self._carry = body  # a quoted field that is not closed yet
            return None
        return self._repaired_block(body, is_end=is_end)

    def _set_carry(self, rest: bytes) -> None:
        if len(rest) > limits.MAX_RECORD_BYTES and b"\n" not in rest:
            raise BadInput(
                "ROW_TOO_LONG",
                f"Row {self.row_count + 1} is longer than {limits.MAX_RECORD_BYTES // limits.MIB} MiB without a line break. "
                "Check that the file is a table with one row per line.",
                row=self.row_count + 1,
            )
        self._carry = rest

    # -- line ends and quotes

    def _normalize_line_ends(self, body: bytes) -> bytes:
        if b"\r" not in body:
            self._record_line_end(b"\n")
            return body
        crlf_count, cr_count = body.count(b"\r\n"), body.count(b"\r")
        self._record_line_end(b"\r\n", is_mixed=crlf_count != cr_count or crlf_count != body.count(b"\n"))
        body = body.replace(b"\r\n", b"\n")
        return body.replace(b"\r", b"\n") if crlf_count != cr_count else body

    def _normalize_unquoted_line_ends(self, body: bytes) -> bytes:
        """Convert line ends outside of quotes to line feeds; those inside are part of the value."""
        if b"\r" not in body:
            self._record_line_end(b"\n")
            return body
        buffer = np.frombuffer(body, np.uint8).copy()
        is_unquoted = ~np.bitwise_xor.accumulate(buffer == self._quote)
        is_cr = (buffer == _CR) & is_unquoted
        is_crlf = np.zeros_like(is_cr)
        is_crlf[:-1] = is_cr[:-1] & (buffer[1:] == _LF)
        lf_count = int(((buffer == _LF) & is_unquoted).sum())
        crlf_count = int(is_crlf.sum())
        self._record_line_end(
            b"\r\n" if crlf_count else b"\n", is_mixed=(bool(crlf_count) and crlf_count != lf_count) or int(is_cr.sum()) != crlf_count
        )
        buffer[is_cr & ~is_crlf] = _LF
        return buffer[~is_crlf].tobytes()

    def _record_line_end(self, line_end: bytes, *, is_mixed: bool = False) -> None:
        if self._line_end is None:
            self._line_end = line_end
        if (is_mixed or line_end != self._line_end) and self._line_end != b"mixed":
            self._line_end = b"mixed"
            self._issues.add(
                "MIXED_LINE_ENDS",
                f"The file mixes line ends (CRLF, LF, CR), first among the rows after row {self.row_count}; each was treated as a line end.",
                row=self.row_count + 1,
            )

    def _is_well_quoted(self, body: bytes) -> bool:
        """Per RFC 4180, an opening quote begins a field and a closing one ends it; a doubled quote counts as a closing and an opening one."""
        buffer = np.frombuffer(body, np.uint8)
        quotes = np.flatnonzero(buffer == self._quote)
        if quotes.size % 2:
            return False
        opening, closing = quotes[0::2], quotes[1::2]
        preceding = buffer[opening - 1]
        opens_field = (preceding == self._delimiter) | (preceding == _LF) | (preceding == self._quote) | (preceding == _CR)
        if opening.size and opening[0] == 0:
            opens_field[0] = True
        following = buffer[np.minimum(closing + 1, buffer.size - 1)]
        closes_field = (following == self._delimiter) | (following == _LF) | (following == self._quote) | (following == _CR)
        return bool(opens_field.all() and closes_field.all())

    # -- rows of equal width

    def _rectangular_block(self, body: bytes, buffer: Any, positions: Positions, issue_code: str | None) -> CleanBlock | None:
        width, first_row = self._width, self.row_count + 1
        is_break = buffer[positions] == _LF
        if positions.size % width == 0:
            table = is_break.reshape(-1, width)
            is_even = bool(table[:, -1].all()) and not table[:, :-1].any()
            if is_even and (width > 1 or not self._has_blank_line(positions)):
                count = positions.size // width
                self.row_count += count
                if issue_code:
                    self._add_damage_issues(body, positions, is_break, None, issue_code, first_row)
                return CleanBlock(body, count, first_row, None)
        return self._ragged_block(body, positions, is_break, issue_code, first_row)

    @staticmethod
    def _has_blank_line(positions: Positions) -> bool:
        return bool(positions.size) and bool((np.diff(positions, prepend=-1) == 1).any())

    def _ragged_block(self, body: bytes, positions: Positions, is_break: Any, issue_code: str | None, first_row: int) -> CleanBlock | None:
        ends = np.flatnonzero(is_break)
        widths = np.diff(ends, prepend=-1)
        stops = positions[ends]
        starts = np.concatenate(([0], stops[:-1] + 1))
        is_blank = stops == starts
        suspects = np.flatnonzero((widths != self._width) | is_blank)
        invisible: list[int] = []
        if self._width > 1:
            for line in suspects[widths[suspects] == 1].tolist():
                text = body[int(starts[line]) : int(stops[line])]
                is_blank[line] = shows_nothing(text)
                if is_blank[line] and text.strip():
                    invisible.append(line)
        row_of_line = first_row - 1 + np.cumsum(~is_blank)
        for line in invisible:
            self._add_invisible_line(int(row_of_line[line]))
        is_kept = ~is_blank
        pieces: list[bytes] = []
        copied = 0
        for line in suspects.tolist():
            start, stop = int(starts[line]), int(stops[line])
            pieces.append(body[copied:start])
            copied = stop + 1
            if is_blank[line]:
                continue
            row, field_count = int(row_of_line[line]), int(widths[line])
            first_separator = int(ends[line]) - field_count + 1  # index of the line's first separator
            if field_count < self._width:
                self._add_ragged_issue(row, field_count, "the fields missing at its end were treated as missing values")
                pieces.append(body[start:stop] + self._dialect.delimiter * (self._width - field_count) + b"\n")
                continue
            extra = int(positions[first_separator + self._width - 1])
            if body[extra:stop].strip(self._dialect.delimiter + b" \t"):
                self._add_ragged_issue(row, field_count, "the row was omitted")
                is_kept[line] = False
            else:
                self._add_ragged_issue(row, field_count, "the extra fields are empty and were dropped")
                pieces.append(body[start:extra] + b"\n")
        pieces.append(body[copied:])
        if issue_code:
            self._add_damage_issues(body, positions, is_break, row_of_line, issue_code, first_row)
        self.row_count += int((~is_blank).sum())
        row_numbers = row_of_line[is_kept]
        if not row_numbers.size:
            return None
        is_contiguous = int(row_numbers[-1]) - int(row_numbers[0]) + 1 == row_numbers.size
        return CleanBlock(b"".join(pieces), int(row_numbers.size), int(row_numbers[0]), None if is_contiguous else row_numbers)

    def _add_invisible_line(self, rows_before: int) -> None:
        self._issues.add(
            "INVISIBLE_LINE",
            f"After row {rows_before} there is a line of invisible characters alone; it was skipped as a blank one.",
            row=rows_before + 1,
        )

    def _add_ragged_issue(self, row: int, field_count: int, outcome: str) -> None:
        self.ragged_count += 1
        if self._first_ragged is None:
            self._first_ragged = (row, field_count)
        if self._issues.is_full:
            self._issues.add_uncounted(1)
            return
        self._issues.add(
            "RAGGED_ROW",
            f"Row {row} has {field_count:,} {'field' if field_count == 1 else 'fields'} where {self._width:,} were expected; {outcome}.",
            row=row,
        )

    def _add_damage_issues(
        self, body: bytes, positions: Positions, is_break: Any, rows: Positions | None, issue_code: str, first_row: int
    ) -> None:
        stops = positions[is_break]
        line_ends = np.flatnonzero(is_break)
        for match in re.finditer(REPLACEMENT, body):
            if self._issues.is_full:
                self._issues.add_uncounted(1)
                continue
            line = int(np.searchsorted(stops, match.start()))
            row = first_row + line if rows is None else int(rows[line])
            first_separator = int(line_ends[line - 1]) + 1 if line else 0
            field = int(np.searchsorted(positions, match.start())) - first_separator
            self._add_damage_issue(issue_code, row, field)

    def _add_damage_issue(self, issue_code: str, row: int, field: int) -> None:
        column = self._names[field] if field < self._width else None
        location = f"Row {row}" if column is None else f"Row {row}, column {column!r},"
        description = "a NUL byte" if issue_code == "NUL_BYTE" else "bytes that are invalid in the file's encoding"
        self._issues.add(issue_code, f"{location} has {description}; each was replaced by U+FFFD.", column=column, row=row)

    # -- broken quoting

    def _repaired_block(self, body: bytes, *, is_end: bool) -> CleanBlock | None:
        body, issue_code = sanitize_utf8(body)
        first_row, kept_rows = self.row_count + 1, list[int]()
        lines: list[bytes] = []
        consumed = 0
        for record in self._parser.records(body, is_end=is_end):
            consumed = record.end
            fields = record.fields
            if len(fields) == 1 and shows_nothing(body[record.start : record.end]):
                if not fields[0].strip():
                    continue
                if self._width > 1:
                    self._add_invisible_line(self.row_count)
                    continue
            self.row_count += 1
            row = self.row_count
            if record.first_broken is not None:
                self._add_broken_quote_issue(row, record.first_broken, fields)
            if issue_code:
                for field, cell in enumerate(fields):
                    if REPLACEMENT in cell:
                        self._add_damage_issue(issue_code, row, field)
            field_count = len(fields)
            if field_count < self._width:
                self._add_ragged_issue(row, field_count, "the fields missing at its end were treated as missing values")
                fields += [b""] * (self._width - field_count)
            elif field_count > self._width:
                if any(field.strip() for field in fields[self._width :]):
                    self._add_ragged_issue(row, field_count, "the row was omitted")
                    continue
                self._add_ragged_issue(row, field_count, "the extra fields are empty and were dropped")
                del fields[self._width :]
            kept_rows.append(row)
            lines.append(encode_record(fields, self._dialect) if self._width > 1 or fields[0] else self._dialect.quote * 2 + b"\n")
        self._set_carry(body[consumed:])
        if not kept_rows:
            return None
        row_numbers = np.array(kept_rows, dtype=np.int64)
        is_contiguous = kept_rows[0] == first_row and kept_rows[-1] - first_row + 1 == len(kept_rows)
        return CleanBlock(b"".join(lines), len(kept_rows), kept_rows[0], None if is_contiguous else row_numbers)

    def _add_broken_quote_issue(self, row: int, field: int, fields: list[bytes]) -> None:
        column = self._names[field] if field < self._width else None
        value = fields[field].decode("utf-8", "replace")
        self._issues.add(
            "BROKEN_QUOTE",
            f"Row {row}, field {field + 1}: the quoting is broken; the value was read as {short_repr(value)}. Double a quote that belongs to a value.",
            column=column,
            row=row,
        )
