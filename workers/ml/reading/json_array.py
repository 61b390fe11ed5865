"""Reader for JSON documents that are tables: an array of objects or of arrays (the first may have the names), of any size, or one object
of at most 32 MiB that contains a table.

Such an object contains exactly one array of objects (besides other members), or one array per column, all of equal length, or it is a
single row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import orjson
import polars as pl

from workers.ml import limits
from workers.ml.errors import BadInput
from workers.ml.reading import json_faults, json_numbers
from workers.ml.reading.array_rows import ArrayRows
from workers.ml.reading.encodings import Encoding, Transcoder, sanitize_utf8
from workers.ml.reading.issues import IssueLog, short_repr
from workers.ml.reading.json_repeats import number_repeats
from workers.ml.reading.objects import ObjectTable
from workers.ml.reading.options import ReadingOptions
from workers.ml.reading.raw import RawFile
from workers.ml.reading.reader_state import MAX_CARRY_BYTES, ReaderState, decode_bytes, encode_bytes
from workers.ml.reading.table_reader import ProgressCallback

_BATCH_ROWS = 50_000


class JsonArrayReader:
    """Raises BadInput: BAD_JSON (with the row), JSON_NOT_A_TABLE, JSON_TOO_LARGE, EMPTY_FILE, ROW_TOO_LONG, TOO_MANY_COLUMNS."""

    def __init__(
        self, raw: RawFile, encoding: Encoding, filename: str, progress: ProgressCallback, options: ReadingOptions | None = None
    ) -> None:
        self._raw = raw
        self._encoding = encoding
        self._filename = filename
        self._progress = progress
        self._table = ObjectTable((options or ReadingOptions()).text_rules())
        self._arrays = ArrayRows()
        self._text_issues = IssueLog()
        self._row_count = 0
        self._source = Transcoder(encoding)
        self._carry: bytes | None = None  # text after the last parsed element; None before the array begins
        self._has_ended = False
        self._repeated: list[str] = []
        """Keys that objects repeat."""
        self._resume_state: ReaderState | None = None
        self.issues = IssueLog()

    def frames(self) -> Iterator[pl.DataFrame]:
        self._source, self._carry, self._has_ended = Transcoder(self._encoding), None, False
        state, self._resume_state = self._resume_state, None
        if state is None:
            self._table.begin_pass()
            self._arrays = ArrayRows()
            self._text_issues = IssueLog()
            self._row_count = 0
        else:
            self._restore(state)
        opening = self._encoding.decode(self._raw.head(limits.SAMPLE_BYTES)).lstrip()[:1]
        self._repeated = []
        for rows in self._array_elements() if opening == "[" else self._document_rows():
            objects, row_numbers = self._objects(rows)
            if self._repeated:
                number_repeats(objects, row_numbers, self._text_issues)
            if objects:
                yield self._table.frame(objects, row_numbers)
            self._progress(self._raw.share_read, f"Read JSON: {self._row_count:,} rows")
        if not self._row_count:
            raise BadInput("EMPTY_FILE", f"{self._filename!r} is an empty array. Upload an array with at least one object.")

    def _objects(self, rows: list[Any]) -> tuple[list[dict[str, Any]], Sequence[int]]:
        first_row, is_array = self._row_count + 1, self._arrays.names is not None
        if rows and set(map(type, rows)) == {list} and (is_array or not self._row_count):
            objects, row_numbers = self._arrays.objects(rows, first_row, self._text_issues)
            self._row_count = self._arrays.row_count
            return objects, row_numbers
        for row, value in enumerate(rows, start=first_row):
            if is_array or not isinstance(value, dict):
                raise self._not_a_table(
                    f"element {row} of the array is {short_repr(value, 30)}, not an {'array' if is_array else 'object'}"
                )
        self._row_count += len(rows)
        return rows, range(first_row, self._row_count + 1)

    def state(self) -> ReaderState | None:
        if self._carry is None or len(self._carry) > MAX_CARRY_BYTES:
            return None  # a single object, which is loaded whole, or the middle of a long element
        return {
            "source": self._source.state(),
            "carry": encode_bytes(self._carry),
            "has_ended": self._has_ended,
            "rows": self._row_count,
            "text_issues": self._text_issues.state(),
            "table": self._table.state(),
            "arrays": self._arrays.state(),
        }

    def resume_from(self, state: ReaderState) -> None:
        self._resume_state = state

    def _restore(self, state: ReaderState) -> None:
        self._source.restore(state["source"])
        self._carry, self._has_ended = decode_bytes(state["carry"]), state["has_ended"]
        self._row_count = state["rows"]
        self._text_issues = IssueLog.from_state(state["text_issues"])
        self._table.restore(state["table"])
        self._arrays.restore(state["arrays"])

    def needs_another_pass(self) -> bool:
        if self._table.needs_another_pass():
            return True
        self.issues = IssueLog()
        self._source.add_issue(self.issues)
        self.issues.extend(self._text_issues)
        self.issues.extend(self._table.issues())
        return False

    def column_types(self) -> dict[str, str]:
        return self._table.column_types()

    def _not_a_table(self, reason: str) -> BadInput:
        return BadInput(
            "JSON_NOT_A_TABLE",
            f"{self._filename!r} is JSON, but not a table: {reason}. Upload an array of objects, an object that contains one array of objects, or JSON lines.",
        )

    # -- an array, element by element

    def _array_elements(self) -> Iterator[list[Any]]:
        for block in self._source.blocks(self._raw.blocks(limits.BLOCK_BYTES // 2, self._source.position)):
            text = (self._carry or b"") + block
            if self._carry is None:
                text = text.lstrip()[1:]
            if self._has_ended:
                self._carry = text
                continue
            cut, self._has_ended = _last_separator(text)
            self._carry = text[cut + (1 if cut or self._has_ended else 0) :]
            if cut:
                yield from self._parse_elements(text[:cut], is_last=self._has_ended)
            if len(self._carry) > limits.MAX_CELL_BYTES and not self._has_ended:
                row = self._row_count + 1
                raise BadInput(
                    "ROW_TOO_LONG",
                    f"Element {row} of the array is longer than {limits.MAX_CELL_BYTES // limits.MIB} MiB, or is not terminated.",
                    row=row,
                )
        if not self._has_ended:
            text = "[" + (self._carry or b"").decode("utf-8", "replace")
            fault = json_faults.find_fault(text)
            if fault is not None and not fault.is_cut and fault.found != json_numbers.TOO_DEEP:
                raise self._bad_json(fault, text)
            raise BadInput(
                "BAD_JSON",
                f"The array is not closed; the last complete element is row {self._row_count}. The file is truncated: upload all of it.",
                row=self._row_count,
            )
        if self._carry and self._carry.strip():
            raise BadInput(
                "BAD_JSON",
                f"The array is followed by {short_repr(self._carry.strip()[:40].decode('utf-8', 'replace'))}. The file must contain a single array.",
            )

    def _parse_elements(self, body: bytes, *, is_last: bool) -> Iterator[list[Any]]:
        body = self._sanitized(body)
        if is_last and not body.strip():
            return
        yield self._loads(b"[" + body + b"]")

    def _sanitized(self, body: bytes) -> bytes:
        body, issue_code = sanitize_utf8(body)
        if issue_code:
            description = "NUL bytes" if issue_code == "NUL_BYTE" else "bytes that are invalid in the file's encoding"
            row = self._row_count + 1
            self._text_issues.add(issue_code, f"After row {self._row_count} there are {description}; each was replaced by U+FFFD.", row=row)
        return body

    def _loads(self, text: bytes) -> Any:
        try:
            return json_numbers.loads(text, self._repeated)
        except orjson.JSONDecodeError as error:
            reason = error.msg
        if (whole := json_numbers.without_half_characters(text)) != text:
            row = self._row_count + 1
            self._text_issues.add(
                "UNDECODABLE_BYTES",
                f"After row {self._row_count} there are escapes of half a character, such as \\ud83d; each was replaced by U+FFFD.",
                row=row,
            )
            return self._loads(whole)
        if b"NaN" in text or b"Infinity" in text:
            try:
                return json_numbers.loads_with_constants(text, self._repeated)
            except (ValueError, RecursionError):
                pass
        readable = text.decode("utf-8", "replace")
        raise self._bad_json(
            json_faults.find_fault(readable) or json_faults.Fault(reason, 0, "Write the data with a JSON library."), readable
        )

    def _bad_json(self, fault: json_faults.Fault, text: str) -> BadInput:
        row = self._row_count + 1 + json_faults.place_of(fault, text)
        where = f"in row {row}" if text.startswith("[") else "in its only object" if text.startswith("{") else "at its beginning"
        return BadInput(
            "BAD_JSON", f"{self._filename!r} is not valid JSON {where}: {json_faults.describe(fault, text)}. {fault.advice}", row=row
        )

    # -- one object

    def _document_rows(self) -> Iterator[list[Any]]:
        if self._raw.size > limits.MAX_JSON_DOCUMENT_BYTES:
            raise BadInput(
                "JSON_TOO_LARGE",
                f"{self._filename!r} is one JSON object of {self._raw.size / limits.MIB:,.0f} MiB; the maximum for such documents is "
                f"{limits.MAX_JSON_DOCUMENT_BYTES // limits.MIB} MiB. Write it as an array of objects or as JSON lines, which may have any size.",
            )
        body = self._sanitized(b"".join(Transcoder(self._encoding).blocks(self._raw.blocks())))
        rows = self._rows_of_document(self._loads(body))
        for start in range(0, len(rows), _BATCH_ROWS):
            yield rows[start : start + _BATCH_ROWS]

    def _rows_of_document(self, document: Any) -> list[Any]:
        if not isinstance(document, dict):
            raise self._not_a_table(f"it is {short_repr(document, 30)}")
        tables = [key for key, value in document.items() if isinstance(value, list) and value and isinstance(value[0], dict)]
        if len(tables) == 1:
            return document[tables[0]]
        if tables:
            raise self._not_a_table(
                f"the object contains {len(tables)} arrays of objects ({', '.join(repr(key.rstrip(json_numbers.REPEATED)) for key in tables[:5])})"
            )
        lists = {key: value for key, value in document.items() if isinstance(value, list)}
        if lists and len(lists) == len(document):
            lengths = {len(value) for value in lists.values()}
            if len(lengths) == 1:
                return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]
            raise self._not_a_table("its arrays have different lengths")
        if document and not lists and not any(isinstance(value, dict) for value in document.values()):
            return [document]
        raise self._not_a_table("the object contains no array of objects")


def _last_separator(text: bytes) -> tuple[int, bool]:
    """Return the offset of the last comma between elements, or of the bracket that ends the array, and whether it is that bracket.

    `text` must begin inside the array and outside of its elements.
    """
    buffer, is_unquoted = json_numbers.outside_strings(text)
    folded = buffer | 0x20  # "{" and "[" differ only in this bit, as do "}" and "]"
    opens, closes = folded == 0x7B, folded == 0x7D
    positions = np.flatnonzero((opens | closes | (buffer == 0x2C)) & is_unquoted)
    if not positions.size:
        return 0, False
    depth = np.cumsum(opens[positions].astype(np.int32) - closes[positions])
    closing = np.flatnonzero(depth < 0)
    if closing.size:
        return int(positions[closing[0]]), True
    commas = positions[(depth == 0) & (buffer[positions] == 0x2C)]
    return (int(commas[-1]), False) if commas.size else (0, False)
