"""Reader for JSON lines of any size: one object per line, or one array per line (the first may have the names), in any encoding."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import orjson
import polars as pl

from workers.ml import limits
from workers.ml.errors import BadInput
from workers.ml.reading import json_faults, json_numbers
from workers.ml.reading.array_rows import ArrayRows
from workers.ml.reading.encodings import REPLACEMENT, Encoding, Transcoder, sanitize_utf8, shows_nothing
from workers.ml.reading.issues import IssueLog, short_repr
from workers.ml.reading.json_repeats import number_repeats
from workers.ml.reading.objects import ObjectTable
from workers.ml.reading.options import ReadingOptions
from workers.ml.reading.raw import RawFile
from workers.ml.reading.reader_state import MAX_CARRY_BYTES, ReaderState, decode_bytes, encode_bytes
from workers.ml.reading.table_reader import ProgressCallback


class JsonLinesReader:
    """Skips blank lines. A line that is not an object is omitted and reported as an issue; more than 10 % of them fail the file."""

    def __init__(
        self, raw: RawFile, encoding: Encoding, filename: str, progress: ProgressCallback, options: ReadingOptions | None = None
    ) -> None:
        self._raw = raw
        self._encoding = encoding
        self._filename = filename
        self._progress = progress
        self._table = ObjectTable((options or ReadingOptions()).text_rules())
        self._arrays = ArrayRows()
        self._line_issues = IssueLog()
        self._row_count = 0
        self._bad_count = 0
        self._first_bad: tuple[int, str] | None = None
        self._source = Transcoder(encoding)
        self._carry = b""
        self._resume_state: ReaderState | None = None
        self.issues = IssueLog()

    def frames(self) -> Iterator[pl.DataFrame]:
        """Raises BadInput: BAD_JSON, EMPTY_FILE, ROW_TOO_LONG, TOO_MANY_COLUMNS."""
        self._source, self._carry = Transcoder(self._encoding), b""
        state, self._resume_state = self._resume_state, None
        if state is None:
            self._table.begin_pass()
            self._arrays = ArrayRows()
            self._line_issues = IssueLog()
            self._row_count = self._bad_count = 0
            self._first_bad = None
        else:
            self._restore(state)
        for block in self._line_blocks():
            rows, row_numbers = self._parse_block(block)
            if self._row_count >= limits.EARLY_ABORT_ROWS and self._bad_count > self._row_count // 2:
                self._fail()
            if rows:
                yield self._table.frame(rows, row_numbers)
            self._progress(self._raw.share_read, f"Read JSON lines: {self._row_count:,} rows")
        if not self._row_count:
            raise BadInput("EMPTY_FILE", f"{self._filename!r} contains no objects. Upload a file with one JSON object per line.")
        if self._bad_count == self._row_count or (
            self._bad_count > limits.RAGGED_ROWS_ALLOWED and self._bad_count > limits.MAX_RAGGED_SHARE * self._row_count
        ):
            self._fail()

    def state(self) -> ReaderState | None:
        if len(self._carry) > MAX_CARRY_BYTES:
            return None
        return {
            "source": self._source.state(),
            "carry": encode_bytes(self._carry),
            "rows": self._row_count,
            "bad": self._bad_count,
            "first_bad": self._first_bad,
            "line_issues": self._line_issues.state(),
            "table": self._table.state(),
            "arrays": self._arrays.state(),
        }

    def resume_from(self, state: ReaderState) -> None:
        self._resume_state = state

    def _restore(self, state: ReaderState) -> None:
        self._source.restore(state["source"])
        self._carry = decode_bytes(state["carry"])
        self._row_count, self._bad_count = state["rows"], state["bad"]
        self._first_bad = None if state["first_bad"] is None else (state["first_bad"][0], state["first_bad"][1])
        self._line_issues = IssueLog.from_state(state["line_issues"])
        self._table.restore(state["table"])
        self._arrays.restore(state["arrays"])

    def needs_another_pass(self) -> bool:
        if self._table.needs_another_pass():
            return True
        self.issues = IssueLog()
        self._source.add_issue(self.issues)
        self.issues.extend(self._line_issues)
        self.issues.extend(self._table.issues())
        return False

    def column_types(self) -> dict[str, str]:
        return self._table.column_types()

    def _line_blocks(self) -> Iterator[bytes]:
        """Yield blocks of whole lines."""
        for block in self._source.blocks(self._raw.blocks(limits.BLOCK_BYTES // 2, self._source.position)):
            text = self._carry + block
            cut = text.rfind(b"\n") + 1
            self._carry = text[cut:]
            if len(self._carry) > limits.MAX_CELL_BYTES:
                row = self._row_count + 1
                raise BadInput(
                    "ROW_TOO_LONG", f"Row {row} is longer than {limits.MAX_CELL_BYTES // limits.MIB} MiB without a line break.", row=row
                )
            if cut:
                yield text[:cut]
        if self._carry:
            last, self._carry = self._carry, b""
            yield last

    def _parse_block(self, body: bytes) -> tuple[list[dict[str, Any]], range | list[int]]:
        body, issue_code = sanitize_utf8(body)
        lines = [line for line in body.split(b"\n") if line and not line.isspace()]
        if not body.isascii():
            lines = self._without_invisible(lines)
        first_row, repeated = self._row_count + 1, list[str]()
        if issue_code is None:
            try:
                rows = json_numbers.loads(b"[" + b",".join(lines) + b"]", repeated)
            except orjson.JSONDecodeError:
                rows = []
            kinds, is_array = set(map(type, rows)), self._arrays.names is not None
            if len(rows) == len(lines) and kinds == {list} and (is_array or not self._row_count):
                objects, row_numbers = self._arrays.objects(rows, first_row, self._line_issues)
                self._row_count = self._arrays.row_count
                return self._numbered(objects, repeated, row_numbers), row_numbers
            if len(rows) == len(lines) and kinds == {dict} and not is_array:
                self._row_count += len(rows)
                row_range = range(first_row, first_row + len(rows))
                return self._numbered(rows, repeated, row_range), row_range
        return self._parse_lines(lines, issue_code)

    def _numbered(self, rows: list[dict[str, Any]], repeated: list[str], row_numbers: Sequence[int]) -> list[dict[str, Any]]:
        if repeated:
            number_repeats(rows, row_numbers, self._line_issues)
        return rows

    def _without_invisible(self, lines: list[bytes]) -> list[bytes]:
        shown = [line for line in lines if line[0] < 0x80 or not shows_nothing(line)]
        if len(shown) != len(lines):
            row = next(index for index, line in enumerate(lines) if line[0] >= 0x80 and shows_nothing(line)) + self._row_count
            count = len(lines) - len(shown)
            message = f"After row {row} there {'is a line' if count == 1 else f'are {count:,} lines'} of invisible characters alone, skipped as blank."
            self._line_issues.add("INVISIBLE_LINE", message, row=row + 1)
        return shown

    def _parse_lines(self, lines: list[bytes], issue_code: str | None) -> tuple[list[dict[str, Any]], list[int]]:
        rows: list[dict[str, Any]] = []
        row_numbers: list[int] = []
        for line in lines:
            self._row_count += 1
            if issue_code and REPLACEMENT in line:
                description = "a NUL byte" if issue_code == "NUL_BYTE" else "bytes that are invalid in the file's encoding"
                self._line_issues.add(
                    issue_code, f"Row {self._row_count} has {description}; each was replaced by U+FFFD.", row=self._row_count
                )
            repeated: list[str] = []
            value, reason = self._parse_line(line, repeated)
            if reason is not None and (whole := json_numbers.without_half_characters(line)) != line:
                value, reason = self._parse_line(whole, repeated)
                self._line_issues.add(
                    "UNDECODABLE_BYTES",
                    f"Row {self._row_count} has escapes of half a character, such as \\ud83d; each was replaced by U+FFFD.",
                    row=self._row_count,
                )
            if isinstance(value, list) and self._arrays.names is not None:
                objects, _ = self._arrays.objects([value], self._row_count, self._line_issues)
                rows += self._numbered(objects, repeated, [self._row_count] * len(objects))
                row_numbers += [self._row_count] * len(objects)
            elif isinstance(value, dict) and self._arrays.names is None:
                rows += self._numbered([value], repeated, [self._row_count])
                row_numbers.append(self._row_count)
            else:
                self._add_bad_line(reason or f"is {short_repr(value, 30)}, not an {'object' if self._arrays.names is None else 'array'}")
        return rows, row_numbers

    @staticmethod
    def _parse_line(line: bytes, repeated: list[str]) -> tuple[Any, str | None]:
        try:
            value = json_numbers.loads(line, repeated)
        except orjson.JSONDecodeError as error:
            value = None
            if b"NaN" in line or b"Infinity" in line:
                # Python writes NaN and Infinity, which JSON does not have.
                with contextlib.suppress(ValueError, RecursionError):
                    value = json_numbers.loads_with_constants(line, repeated)
            if value is None:
                text = line.decode("utf-8", "replace")
                fault = json_faults.find_fault(text)
                found = error.msg if fault is None else f"{json_faults.describe(fault, text)} ({fault.advice[:-1]})"
                return None, f"is not valid JSON: {found}"
        return value, None

    def _add_bad_line(self, reason: str) -> None:
        self._bad_count += 1
        if self._first_bad is None:
            self._first_bad = (self._row_count, reason)
        self._line_issues.add("BAD_JSON", f"Row {self._row_count} {reason}; it was omitted.", row=self._row_count)

    def _fail(self) -> None:
        assert self._first_bad is not None  # called only with bad lines
        row, reason = self._first_bad
        raise BadInput(
            "BAD_JSON", f"{self._bad_count:,} of {self._row_count:,} lines are not JSON objects; the first, row {row}, {reason}.", row=row
        )
