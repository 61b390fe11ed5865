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
        self.issues = IssueLog()

    def frames(self) -> Iterator[pl.DataFrame]:
        self._table.start()
        self._text_issues = IssueLog()
        self._rows = 0
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
        carry: bytes | None = None
        has_ended = False
        for block in Transcoder(self._encoding).blocks(self._raw.blocks(limits.BLOCK_BYTES // 2)):
            text = (carry or b"") + block
            if carry is None:
                text = text.lstrip()[1:]
            if has_ended:
                carry = text
                continue
            cut, has_ended = _last_element(text)
            if cut:
                yield from self._elements(text[:cut], is_last=has_ended)
            carry = text[cut + (1 if cut or has_ended else 0) :]
            if len(carry) > limits.MAX_CELL_BYTES and not has_ended:
                row = self._rows + 1
                raise BadInput(
                    "ROW_TOO_LONG",
                    f"Element {row} of the array is longer than {limits.MAX_CELL_BYTES // limits.MIB} MiB, or never ends.",
                    row=row,
                )
        if not has_ended:
            raise BadInput(
                "BAD_JSON",
                f"The array is never closed; the last whole element is row {self._rows}. The file was cut: upload it whole.",
                row=self._rows,
            )
        if carry and carry.strip():
            raise BadInput(
                "BAD_JSON", f"After the array comes {shown(carry.strip()[:40].decode('utf-8', 'replace'))}. One array is expected."
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
