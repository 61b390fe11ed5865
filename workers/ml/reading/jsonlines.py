"""JSON lines of any size: one object a line, in any encoding."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import orjson
import polars as pl

from workers.ml import limits
from workers.ml.errors import BadInput
from workers.ml.reading.encodings import REPLACEMENT, Encoding, Transcoder, mend
from workers.ml.reading.issues import IssueLog, shown
from workers.ml.reading.marks import CARRIED, Mark, packed, unpacked
from workers.ml.reading.objects import ObjectTable
from workers.ml.reading.raw import RawFile
from workers.ml.reading.table import Progress


class JsonLinesReader:
    """Blank lines are skipped; a line that is no object is an issue and left out, and more than 10 % of them fail the file."""

    def __init__(self, raw: RawFile, encoding: Encoding, filename: str, progress: Progress) -> None:
        self._raw = raw
        self._encoding = encoding
        self._filename = filename
        self._progress = progress
        self._table = ObjectTable()
        self._line_issues = IssueLog()
        self._rows = 0
        self._bad = 0
        self._first_bad: tuple[int, str] | None = None
        self._source = Transcoder(encoding)
        self._carry = b""
        self._left: Mark | None = None
        self.issues = IssueLog()

    def frames(self) -> Iterator[pl.DataFrame]:
        """Raises BadInput: BAD_JSON, EMPTY_FILE, ROW_TOO_LONG, TOO_MANY_COLUMNS."""
        self._source, self._carry = Transcoder(self._encoding), b""
        left, self._left = self._left, None
        if left is None:
            self._table.start()
            self._line_issues = IssueLog()
            self._rows = self._bad = 0
            self._first_bad = None
        else:
            self._restore(left)
        for body in self._bodies():
            rows, numbers = self._parse(body)
            if self._rows >= limits.HOPELESS_ROWS and self._bad > self._rows // 2:
                self._fail()
            if rows:
                yield self._table.frame(rows, numbers)
            self._progress(self._raw.share_read, f"reading JSON lines, {self._rows:,} rows")
        if not self._rows:
            raise BadInput("EMPTY_FILE", f"{self._filename!r} holds no objects. Upload a file with one JSON object a line.")
        if self._bad == self._rows or (self._bad > limits.RAGGED_FREE and self._bad > limits.RAGGED_SHARE * self._rows):
            self._fail()

    def mark(self) -> Mark | None:
        if len(self._carry) > CARRIED:
            return None
        return {
            "source": self._source.mark(),
            "carry": packed(self._carry),
            "rows": self._rows,
            "bad": self._bad,
            "first_bad": self._first_bad,
            "line_issues": self._line_issues.state(),
            "table": self._table.state(),
        }

    def go_on(self, mark: Mark) -> None:
        self._left = mark

    def _restore(self, mark: Mark) -> None:
        self._source.go_on(mark["source"])
        self._carry = unpacked(mark["carry"])
        self._rows, self._bad = mark["rows"], mark["bad"]
        self._first_bad = None if mark["first_bad"] is None else (mark["first_bad"][0], mark["first_bad"][1])
        self._line_issues = IssueLog.restored(mark["line_issues"])
        self._table.restore(mark["table"])

    def must_repeat(self) -> bool:
        if self._table.must_repeat():
            return True
        self.issues = IssueLog()
        self.issues.extend(self._line_issues)
        self.issues.extend(self._table.issues())
        return False

    def column_types(self) -> dict[str, str]:
        return self._table.column_types()

    def _bodies(self) -> Iterator[bytes]:
        """Whole lines."""
        for block in self._source.blocks(self._raw.blocks(limits.BLOCK_BYTES // 2, self._source.position)):
            text = self._carry + block
            cut = text.rfind(b"\n") + 1
            self._carry = text[cut:]
            if len(self._carry) > limits.MAX_CELL_BYTES:
                row = self._rows + 1
                raise BadInput(
                    "ROW_TOO_LONG", f"Row {row} is longer than {limits.MAX_CELL_BYTES // limits.MIB} MiB without a line end.", row=row
                )
            if cut:
                yield text[:cut]
        if self._carry:
            last, self._carry = self._carry, b""
            yield last

    def _parse(self, body: bytes) -> tuple[list[dict[str, Any]], range | list[int]]:
        body, problem = mend(body)
        lines = [line for line in body.split(b"\n") if line and not line.isspace()]
        first = self._rows + 1
        if problem is None:
            try:
                rows = orjson.loads(b"[" + b",".join(lines) + b"]")
            except orjson.JSONDecodeError:
                rows = []
            if len(rows) == len(lines) and set(map(type, rows)) == {dict}:
                self._rows += len(rows)
                return rows, range(first, first + len(rows))
        return self._one_by_one(lines, problem)

    def _one_by_one(self, lines: list[bytes], problem: str | None) -> tuple[list[dict[str, Any]], list[int]]:
        rows: list[dict[str, Any]] = []
        numbers: list[int] = []
        for line in lines:
            self._rows += 1
            if problem and REPLACEMENT in line:
                what = "a NUL byte" if problem == "NUL_BYTE" else "bytes that are no text in the file's encoding"
                self._line_issues.add(problem, f"Row {self._rows} holds {what}; each was replaced by U+FFFD.", row=self._rows)
            value, why = _loads(line)
            if isinstance(value, dict):
                rows.append(value)
                numbers.append(self._rows)
            else:
                self._left_out(why or f"is {shown(value, 30)}, not an object")
        return rows, numbers

    def _left_out(self, why: str) -> None:
        self._bad += 1
        if self._first_bad is None:
            self._first_bad = (self._rows, why)
        self._line_issues.add("BAD_JSON", f"Row {self._rows} {why}; it was left out.", row=self._rows)

    def _fail(self) -> None:
        assert self._first_bad is not None  # there is one
        row, why = self._first_bad
        raise BadInput("BAD_JSON", f"{self._bad:,} of {self._rows:,} lines hold no JSON object; the first, row {row}, {why}.", row=row)


def _loads(line: bytes) -> tuple[Any, str | None]:
    try:
        return orjson.loads(line), None
    except orjson.JSONDecodeError as error:
        reason = f"is not JSON ({error.msg}, column {error.colno})"
    if b"NaN" in line or b"Infinity" in line:
        # Python writes NaN where JSON has no word; here it is missing.
        try:
            return json.loads(line, parse_constant=lambda _: None), None
        except (ValueError, RecursionError):
            pass
    return None, reason
