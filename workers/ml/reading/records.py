"""Is this block of delimited text a rectangle? Answered by counting its delimiters, quotes and line ends with numpy.

A parser that meets a ragged row aborts or cuts it without a number. So each block is checked first: where every row has
the same number of fields and the quoting follows RFC 4180 the block goes to the parser as it is; rows with another number
of fields are padded or left out by their offsets; only where quoting is broken is the block read record by record.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from workers.ml import limits
from workers.ml.errors import BadInput
from workers.ml.reading.encodings import REPLACEMENT, mend
from workers.ml.reading.issues import IssueLog, shown
from workers.ml.reading.marks import CARRIED, Mark, packed, unpacked
from workers.ml.reading.repair import Dialect, RecordParser, encode

Positions = np.ndarray[Any, np.dtype[np.int64]]
_LF, _CR = 10, 13


@dataclass(frozen=True)
class CleanBlock:
    """Rows that are rectangular, well quoted, valid UTF-8, each ended by a line feed."""

    data: bytes
    row_count: int
    first_row: int
    numbers: Positions | None
    """Number of each row in the file where rows were left out between them."""
    has_quoting: bool = False
    """Quotes in `data` enclose fields; otherwise they are text."""

    def number(self, index: int) -> int:
        return self.first_row + index if self.numbers is None else int(self.numbers[index])


class RecordChecker:
    """Takes UTF-8 text cut anywhere, gives blocks of whole clean rows. Rows are numbered from 1, those left out included."""

    def __init__(self, dialect: Dialect, names: list[str], issues: IssueLog) -> None:
        self._dialect = dialect
        self._names = names
        self._width = len(names)
        self._issues = issues
        self._parser = RecordParser(dialect)
        self._spaced_opening = re.compile(rb"(?:\A|[\r\n" + re.escape(dialect.delimiter) + rb"])[ ]+" + re.escape(dialect.quote))
        self._delimiter = dialect.delimiter[0]
        self._quote = dialect.quote[0]
        self._carry = b""
        self.rows = 0
        self.ragged = 0
        self._first_ragged: tuple[int, int] | None = None
        self._line_end: bytes | None = None

    def mark(self) -> Mark | None:
        """After the block given last; None in the middle of a long row. Of the issues only how many there are: their log has them."""
        if len(self._carry) > CARRIED:
            return None
        return {
            "carry": packed(self._carry),
            "rows": self.rows,
            "ragged": self.ragged,
            "first_ragged": self._first_ragged,
            "line_end": None if self._line_end is None else self._line_end.decode(),
            "issues": [len(self._issues.kept), self._issues.count],
        }

    def go_on(self, mark: Mark) -> None:
        self._carry = unpacked(mark["carry"])
        self.rows, self.ragged = mark["rows"], mark["ragged"]
        self._first_ragged = None if mark["first_ragged"] is None else (mark["first_ragged"][0], mark["first_ragged"][1])
        self._line_end = None if mark["line_end"] is None else mark["line_end"].encode()

    def feed(self, data: bytes, *, is_end: bool = False) -> CleanBlock | None:
        """Raises BadInput: ROW_TOO_LONG, RAGGED_ROWS."""
        if not is_end and self._dialect.quote not in data and self._dialect.quote not in self._carry:
            block = self._plain(data)
        else:
            block = self._maybe_quoted(data, is_end=is_end)
        if block is not None:
            self._judge()
        return block

    def _maybe_quoted(self, data: bytes, *, is_end: bool) -> CleanBlock | None:
        body = self._carry + data if self._carry else data
        self._carry = b""
        if is_end and body and not body.endswith(b"\n"):
            body += b"\r\n" if self._line_end == b"\r\n" or b"\r\n" in body else b"\n"
        if not body:
            return None
        if self._dialect.quote not in body or not self._has_quoted_field(body):
            return self._plain(body)  # no field begins with a quote: each is text, like the inches of a 5" pipe
        block = self._quoted(body, is_end=is_end)
        return None if block is None else replace(block, has_quoting=True)

    def _has_quoted_field(self, body: bytes) -> bool:
        quote = self._dialect.quote
        if body.startswith(quote) or any(before + quote in body for before in (self._dialect.delimiter, b"\n", b"\r")):
            return True
        return b" " + quote in body and self._spaced_opening.search(body) is not None

    def finish(self) -> None:
        """Raises BadInput (RAGGED_ROWS) where too many rows of the whole file were ragged."""
        if (self.ragged > limits.RAGGED_FREE and self.ragged > limits.RAGGED_SHARE * self.rows) or (self.rows and self.ragged == self.rows):
            self._fail_ragged()

    def _judge(self) -> None:
        if self.rows >= limits.HOPELESS_ROWS and self.ragged > self.rows // 2:
            self._fail_ragged()

    def _fail_ragged(self) -> None:
        assert self._first_ragged is not None  # there is a ragged row
        row, width = self._first_ragged
        raise BadInput(
            "RAGGED_ROWS",
            f"{self.ragged:,} of {self.rows:,} rows do not have {self._width} fields; the first is row {row} with {width}. "
            f"The delimiter was taken to be {self._dialect.delimiter.decode()!r} and the quote {self._dialect.quote.decode()}. "
            "Check that fields which hold the delimiter are quoted.",
            row=row,
        )

    # -- cutting at the last whole row

    def _plain(self, data: bytes) -> CleanBlock | None:
        """`data` after what was carried, neither with a quote; joined in one copy."""
        cut = data.rfind(b"\n") + 1
        if cut == 0:
            self._keep(self._carry + data)
            return None
        body = b"".join((self._carry, memoryview(data)[:cut]))
        self._keep(data[cut:])
        body, problem = mend(body)
        body = self._without_carriage_returns(body)
        cells = np.frombuffer(body, np.uint8)
        separators = cells == self._delimiter
        separators |= cells == _LF
        positions = np.flatnonzero(separators)
        return self._rectangle(body, cells, positions, problem)

    def _quoted(self, body: bytes, *, is_end: bool) -> CleanBlock | None:
        cells = np.frombuffer(body, np.uint8)
        inside = np.bitwise_xor.accumulate(cells == self._quote)
        breaks = np.flatnonzero((cells == _LF) & ~inside)
        cut = int(breaks[-1]) + 1 if breaks.size else 0
        if cut and self._is_well_quoted(body[:cut]) and not (is_end and cut < len(body)):
            if cut < len(body):
                self._keep(body[cut:])
            body, problem = mend(body[:cut])
            body = self._outside_line_feeds(body)
            cells = np.frombuffer(body, np.uint8)
            inside = np.bitwise_xor.accumulate(cells == self._quote)
            positions = np.flatnonzero(((cells == self._delimiter) | (cells == _LF)) & ~inside)
            return self._rectangle(body, cells, positions, problem)
        if not cut and not is_end and len(body) < limits.BLOCK_BYTES + limits.MAX_RECORD_BYTES:
            self._carry = body  # a quoted field that has not been closed yet
            return None
        return self._repaired(body, is_end=is_end)

    def _keep(self, rest: bytes) -> None:
        if len(rest) > limits.MAX_RECORD_BYTES and b"\n" not in rest:
            raise BadInput(
                "ROW_TOO_LONG",
                f"Row {self.rows + 1} is longer than {limits.MAX_RECORD_BYTES // limits.MIB} MiB without a line end. "
                "Is this a table with one row a line?",
                row=self.rows + 1,
            )
        self._carry = rest

    # -- line ends and quotes

    def _without_carriage_returns(self, body: bytes) -> bytes:
        if b"\r" not in body:
            self._see_line_end(b"\n")
            return body
        windows, lone = body.count(b"\r\n"), body.count(b"\r")
        self._see_line_end(b"\r\n", is_mixed=windows != lone or windows != body.count(b"\n"))
        body = body.replace(b"\r\n", b"\n")
        return body.replace(b"\r", b"\n") if windows != lone else body

    def _outside_line_feeds(self, body: bytes) -> bytes:
        """Line ends outside of quotes become line feeds; those inside belong to their values."""
        if b"\r" not in body:
            self._see_line_end(b"\n")
            return body
        cells = np.frombuffer(body, np.uint8).copy()
        outside = ~np.bitwise_xor.accumulate(cells == self._quote)
        returns = (cells == _CR) & outside
        before_feed = np.zeros_like(returns)
        before_feed[:-1] = returns[:-1] & (cells[1:] == _LF)
        feeds = int(((cells == _LF) & outside).sum())
        paired = int(before_feed.sum())
        self._see_line_end(b"\r\n" if paired else b"\n", is_mixed=(bool(paired) and paired != feeds) or int(returns.sum()) != paired)
        cells[returns & ~before_feed] = _LF
        return cells[~before_feed].tobytes()

    def _see_line_end(self, line_end: bytes, *, is_mixed: bool = False) -> None:
        if self._line_end is None:
            self._line_end = line_end
        if (is_mixed or line_end != self._line_end) and self._line_end != b"mixed":
            self._line_end = b"mixed"
            self._issues.add(
                "MIXED_LINE_ENDS",
                f"Lines end in different ways (CRLF, LF, CR), for the first time among the rows after row {self.rows}; each was taken as a line end.",
                row=self.rows + 1,
            )

    def _is_well_quoted(self, body: bytes) -> bool:
        """RFC 4180: each opening quote begins a field, each closing one ends it; a doubled one is a close and an opening at once."""
        cells = np.frombuffer(body, np.uint8)
        quotes = np.flatnonzero(cells == self._quote)
        if quotes.size % 2:
            return False
        opening, closing = quotes[0::2], quotes[1::2]
        before = cells[opening - 1]
        begins = (before == self._delimiter) | (before == _LF) | (before == self._quote) | (before == _CR)
        if opening.size and opening[0] == 0:
            begins[0] = True
        after = cells[np.minimum(closing + 1, cells.size - 1)]
        ends = (after == self._delimiter) | (after == _LF) | (after == self._quote) | (after == _CR)
        return bool(begins.all() and ends.all())

    # -- rows of equal width

    def _rectangle(self, body: bytes, cells: Any, positions: Positions, problem: str | None) -> CleanBlock | None:
        width, first = self._width, self.rows + 1
        is_break = cells[positions] == _LF
        if positions.size % width == 0:
            table = is_break.reshape(-1, width)
            is_even = bool(table[:, -1].all()) and not table[:, :-1].any()
            if is_even and (width > 1 or not self._has_blank_line(positions)):
                count = positions.size // width
                self.rows += count
                if problem:
                    self._name_damage(body, positions, is_break, None, problem, first)
                return CleanBlock(body, count, first, None)
        return self._uneven(body, positions, is_break, problem, first)

    @staticmethod
    def _has_blank_line(positions: Positions) -> bool:
        return bool(positions.size) and bool((np.diff(positions, prepend=-1) == 1).any())

    def _uneven(self, body: bytes, positions: Positions, is_break: Any, problem: str | None, first: int) -> CleanBlock | None:
        ends = np.flatnonzero(is_break)
        widths = np.diff(ends, prepend=-1)
        stops = positions[ends]
        starts = np.concatenate(([0], stops[:-1] + 1))
        is_blank = stops == starts
        suspects = np.flatnonzero((widths != self._width) | is_blank)
        if self._width > 1:
            for line in suspects[widths[suspects] == 1].tolist():
                is_blank[line] = not body[int(starts[line]) : int(stops[line])].strip()
        row_of_line = first - 1 + np.cumsum(~is_blank)
        is_kept = ~is_blank
        pieces: list[bytes] = []
        done = 0
        for line in suspects.tolist():
            start, stop = int(starts[line]), int(stops[line])
            pieces.append(body[done:start])
            done = stop + 1
            if is_blank[line]:
                continue
            row, found = int(row_of_line[line]), int(widths[line])
            begin = int(ends[line]) - found + 1  # index of the line's first separator
            if found < self._width:
                self._ragged(row, found, "those at its end were taken as missing")
                pieces.append(body[start:stop] + self._dialect.delimiter * (self._width - found) + b"\n")
                continue
            extra = int(positions[begin + self._width - 1])
            if body[extra:stop].strip(self._dialect.delimiter + b" \t"):
                self._ragged(row, found, "the row was left out")
                is_kept[line] = False
            else:
                self._ragged(row, found, "the extra ones are empty and were cut")
                pieces.append(body[start:extra] + b"\n")
        pieces.append(body[done:])
        if problem:
            self._name_damage(body, positions, is_break, row_of_line, problem, first)
        self.rows += int((~is_blank).sum())
        numbers = row_of_line[is_kept]
        if not numbers.size:
            return None
        is_contiguous = int(numbers[-1]) - int(numbers[0]) + 1 == numbers.size
        return CleanBlock(b"".join(pieces), int(numbers.size), int(numbers[0]), None if is_contiguous else numbers)

    def _ragged(self, row: int, found: int, outcome: str) -> None:
        self.ragged += 1
        if self._first_ragged is None:
            self._first_ragged = (row, found)
        if self._issues.is_full:
            self._issues.count_only(1)
            return
        self._issues.add(
            "RAGGED_ROW",
            f"Row {row} has {found:,} {'field' if found == 1 else 'fields'} where {self._width:,} were expected; {outcome}.",
            row=row,
        )

    def _name_damage(self, body: bytes, positions: Positions, is_break: Any, rows: Positions | None, problem: str, first: int) -> None:
        stops = positions[is_break]
        breaks = np.flatnonzero(is_break)
        for found in re.finditer(REPLACEMENT, body):
            if self._issues.is_full:
                self._issues.count_only(1)
                continue
            line = int(np.searchsorted(stops, found.start()))
            row = first + line if rows is None else int(rows[line])
            begin = int(breaks[line - 1]) + 1 if line else 0
            field = int(np.searchsorted(positions, found.start())) - begin
            self._damage(problem, row, field)

    def _damage(self, problem: str, row: int, field: int) -> None:
        column = self._names[field] if field < self._width else None
        place = f"Row {row}" if column is None else f"Row {row}, column {column!r},"
        what = "a NUL byte" if problem == "NUL_BYTE" else "bytes that are no text in the file's encoding"
        self._issues.add(problem, f"{place} holds {what}; each was replaced by U+FFFD.", column=column, row=row)

    # -- broken quoting

    def _repaired(self, body: bytes, *, is_end: bool) -> CleanBlock | None:
        body, problem = mend(body)
        first, kept = self.rows + 1, list[int]()
        lines: list[bytes] = []
        consumed = 0
        for record in self._parser.records(body, is_end=is_end):
            consumed = record.end
            fields = record.fields
            if len(fields) == 1 and not fields[0].strip() and not body[record.start : record.end].strip().startswith(self._dialect.quote):
                continue
            self.rows += 1
            row = self.rows
            if record.broken is not None:
                self._broken(row, record.broken, fields)
            if problem:
                for field, cell in enumerate(fields):
                    if REPLACEMENT in cell:
                        self._damage(problem, row, field)
            found = len(fields)
            if found < self._width:
                self._ragged(row, found, "those at its end were taken as missing")
                fields += [b""] * (self._width - found)
            elif found > self._width:
                if any(field.strip() for field in fields[self._width :]):
                    self._ragged(row, found, "the row was left out")
                    continue
                self._ragged(row, found, "the extra ones are empty and were cut")
                del fields[self._width :]
            kept.append(row)
            lines.append(encode(fields, self._dialect) if self._width > 1 or fields[0] else self._dialect.quote * 2 + b"\n")
        self._keep(body[consumed:])
        if not kept:
            return None
        numbers = np.array(kept, dtype=np.int64)
        is_contiguous = kept[0] == first and kept[-1] - first + 1 == len(kept)
        return CleanBlock(b"".join(lines), len(kept), kept[0], None if is_contiguous else numbers)

    def _broken(self, row: int, field: int, fields: list[bytes]) -> None:
        column = self._names[field] if field < self._width else None
        value = fields[field].decode("utf-8", "replace")
        self._issues.add(
            "BROKEN_QUOTE",
            f"Row {row}, field {field + 1}: the quoting is broken; the value was read as {shown(value)}. Double a quote that belongs to a value.",
            column=column,
            row=row,
        )
