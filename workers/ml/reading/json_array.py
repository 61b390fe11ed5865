"""A JSON document that is a table: an array of objects, of any size; or one object of at most 32 MiB that holds one.

An object may hold exactly one array of objects (beside other things), or arrays of equal length, one a column, or be a
single row itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import polars as pl

from workers.ml import limits
from workers.ml.errors import BadInput
from workers.ml.reading.encodings import Encoding, Transcoder, mend
from workers.ml.reading.issues import IssueLog, shown
from workers.ml.reading.marks import CARRIED, Mark, packed, unpacked
from workers.ml.reading.objects import ObjectTable
from workers.ml.reading.raw import RawFile
from workers.ml.reading.table import Progress

_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_ROWS_AT_ONCE = 50_000


class JsonArrayReader:
    """Raises BadInput: BAD_JSON (with the row), JSON_NOT_A_TABLE, JSON_TOO_LARGE, EMPTY_FILE, ROW_TOO_LONG, TOO_MANY_COLUMNS."""

    def __init__(self, raw: RawFile, encoding: Encoding, filename: str, progress: Progress) -> None:
        self._raw = raw
        self._encoding = encoding
        self._filename = filename
        self._progress = progress
        self._table = ObjectTable()
        self._text_issues = IssueLog()
        self._rows = 0
        self._source = Transcoder(encoding)
        self._carry: bytes | None = None  # of an array; None before it has begun
        self._has_ended = False
        self._left: Mark | None = None
        self.issues = IssueLog()

    def frames(self) -> Iterator[pl.DataFrame]:
        self._source, self._carry, self._has_ended = Transcoder(self._encoding), None, False
        left, self._left = self._left, None
        if left is None:
            self._table.start()
            self._text_issues = IssueLog()
            self._rows = 0
        else:
            self._restore(left)
        opening = self._encoding.text(self._raw.head(limits.SAMPLE_BYTES)).lstrip()[:1]
        for rows in self._array() if opening == "[" else self._document():
            for row, value in enumerate(rows, start=self._rows + 1):
                if not isinstance(value, dict):
                    raise self._not_a_table(f"element {row} of the array is {shown(value, 30)}, not an object")
            first = self._rows + 1
            self._rows += len(rows)
            if rows:
                yield self._table.frame(rows, range(first, self._rows + 1))
            self._progress(self._raw.share_read, f"reading JSON, {self._rows:,} rows")
        if not self._rows:
            raise BadInput("EMPTY_FILE", f"{self._filename!r} holds an empty array. Upload an array with at least one object.")

    def mark(self) -> Mark | None:
        if self._carry is None or len(self._carry) > CARRIED:
            return None  # an object, which is read as a whole, or the middle of a long element
        return {
            "source": self._source.mark(),
            "carry": packed(self._carry),
            "has_ended": self._has_ended,
            "rows": self._rows,
            "text_issues": self._text_issues.state(),
            "table": self._table.state(),
        }

    def go_on(self, mark: Mark) -> None:
        self._left = mark

    def _restore(self, mark: Mark) -> None:
        self._source.go_on(mark["source"])
        self._carry, self._has_ended = unpacked(mark["carry"]), mark["has_ended"]
        self._rows = mark["rows"]
        self._text_issues = IssueLog.restored(mark["text_issues"])
        self._table.restore(mark["table"])

    def must_repeat(self) -> bool:
        if self._table.must_repeat():
            return True
        self.issues = IssueLog()
        self.issues.extend(self._text_issues)
        self.issues.extend(self._table.issues())
        return False

    def column_types(self) -> dict[str, str]:
        return self._table.column_types()

    def _not_a_table(self, why: str) -> BadInput:
        return BadInput(
            "JSON_NOT_A_TABLE",
            f"{self._filename!r} is JSON, but not a table: {why}. Upload an array of objects, an object that holds one array of objects, or JSON lines.",
        )

    # -- an array, element by element

    def _array(self) -> Iterator[list[Any]]:
        for block in self._source.blocks(self._raw.blocks(limits.BLOCK_BYTES // 2, self._source.position)):
            text = (self._carry or b"") + block
            if self._carry is None:
                text = text.lstrip()[1:]
            if self._has_ended:
                self._carry = text
                continue
            cut, self._has_ended = _last_element(text)
            self._carry = text[cut + (1 if cut or self._has_ended else 0) :]
            if cut:
                yield from self._elements(text[:cut], is_last=self._has_ended)
            if len(self._carry) > limits.MAX_CELL_BYTES and not self._has_ended:
                row = self._rows + 1
                raise BadInput(
                    "ROW_TOO_LONG",
                    f"Element {row} of the array is longer than {limits.MAX_CELL_BYTES // limits.MIB} MiB, or never ends.",
                    row=row,
                )
        if not self._has_ended:
            raise BadInput(
                "BAD_JSON",
                f"The array is never closed; the last whole element is row {self._rows}. The file was cut: upload it whole.",
                row=self._rows,
            )
        if self._carry and self._carry.strip():
            raise BadInput(
                "BAD_JSON", f"After the array comes {shown(self._carry.strip()[:40].decode('utf-8', 'replace'))}. One array is expected."
            )

    def _elements(self, body: bytes, *, is_last: bool) -> Iterator[list[Any]]:
        body = self._mended(body)
        if is_last and not body.strip():
            return
        yield self._loads(b"[" + body + b"]")

    def _mended(self, body: bytes) -> bytes:
        body, problem = mend(body)
        if problem:
            what = "NUL bytes" if problem == "NUL_BYTE" else "bytes that are no text in the file's encoding"
            row = self._rows + 1
            self._text_issues.add(problem, f"After row {self._rows} come {what}; each was replaced by U+FFFD.", row=row)
        return body

    def _loads(self, text: bytes) -> Any:
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError as error:
            reason, place = error.msg, error.pos
        if b"NaN" in text or b"Infinity" in text:
            try:
                return json.loads(text, parse_constant=lambda _: None)
            except (ValueError, RecursionError):
                pass
        near = text.decode("utf-8", "replace")[max(0, place - 20) : place + 20]
        raise BadInput(
            "BAD_JSON", f"{self._filename!r} is not JSON after row {self._rows}: {reason}, near {shown(near)}.", row=self._rows + 1
        )

    # -- one object

    def _document(self) -> Iterator[list[Any]]:
        if self._raw.size > limits.JSON_DOCUMENT_BYTES:
            raise BadInput(
                "JSON_TOO_LARGE",
                f"{self._filename!r} is one JSON object of {self._raw.size / limits.MIB:,.0f} MiB; such documents are read up to "
                f"{limits.JSON_DOCUMENT_BYTES // limits.MIB} MiB. Write it as an array of objects or as JSON lines, which may be of any size.",
            )
        body = self._mended(b"".join(Transcoder(self._encoding).blocks(self._raw.blocks())))
        rows = self._rows_of(self._loads(body))
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            yield rows[start : start + _ROWS_AT_ONCE]

    def _rows_of(self, document: Any) -> list[Any]:
        if not isinstance(document, dict):
            raise self._not_a_table(f"it is {shown(document, 30)}")
        tables = [key for key, value in document.items() if isinstance(value, list) and value and isinstance(value[0], dict)]
        if len(tables) == 1:
            return document[tables[0]]
        if tables:
            raise self._not_a_table(f"the object holds {len(tables)} arrays of objects ({', '.join(map(repr, tables[:5]))})")
        lists = {key: value for key, value in document.items() if isinstance(value, list)}
        if lists and len(lists) == len(document):
            lengths = {len(value) for value in lists.values()}
            if len(lengths) == 1:
                return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]
            raise self._not_a_table("its arrays have different lengths")
        if document and not lists and not any(isinstance(value, dict) for value in document.values()):
            return [document]
        raise self._not_a_table("the object holds no array of objects")


def _last_element(text: bytes) -> tuple[int, bool]:
    """Offset of the last comma between elements, or of the bracket that ends the array, and whether it is that bracket.

    `text` begins inside the array and outside of its elements.
    """
    masked = _ESCAPE.sub(b"__", text) if b"\\" in text else text
    cells = np.frombuffer(masked, np.uint8)
    outside = ~np.bitwise_xor.accumulate(cells == 0x22)
    folded = cells | 0x20  # "{" and "[" differ in this bit alone, as do "}" and "]"
    opens, closes = folded == 0x7B, folded == 0x7D
    places = np.flatnonzero((opens | closes | (cells == 0x2C)) & outside)
    if not places.size:
        return 0, False
    depth = np.cumsum(opens[places].astype(np.int32) - closes[places])
    ends = np.flatnonzero(depth < 0)
    if ends.size:
        return int(places[ends[0]]), True
    commas = places[(depth == 0) & (cells[places] == 0x2C)]
    return (int(commas[-1]), False) if commas.size else (0, False)
