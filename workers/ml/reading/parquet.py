"""Reader for untrusted Parquet: decoded batch by batch, without relying on the sizes in its metadata.

Text and binary columns are read as dictionaries, so that the decoded size of a value stored once and repeated a million times is known
before it is materialized. Types: integers and decimals without fraction follow the rule in `numbers`; decimals with a fraction are FLOAT
where 15 digits hold all of them, else DECIMAL; timestamps are DATETIME in microseconds, times of day TIME, durations DURATION, all of
them text where a nanosecond would be lost; lists, structs and maps are JSON. Texts are read as those of JSON are: the same words are
missing, and dates and times written as text are such.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from workers.ml import limits
from workers.ml.errors import BadInput
from workers.ml.json_values import json_value
from workers.ml.reading.arrow_times import exact_times, first_finer, has_nanoseconds, nested_with_exact_times
from workers.ml.reading.clock import clock_text
from workers.ml.reading.column_names import check_width, clean_names
from workers.ml.reading.issues import IssueLog
from workers.ml.reading.kept_as_text import describe_kept_as_text
from workers.ml.reading.numbers import MAX_DIGITS
from workers.ml.reading.objects import STRING_RULES, TEMPORAL_TYPES
from workers.ml.reading.parquet_files import ParquetFiles, ParquetPart
from workers.ml.reading.parquet_folder import open_folder
from workers.ml.reading.raw import RawFile
from workers.ml.reading.reader_state import ReaderState
from workers.ml.reading.table_reader import ProgressCallback
from workers.ml.reading.text_types import TextType, types_from_state, types_to_state
from workers.ml.reading.type_inference import TextRules, TypeInference
from workers.ml.reading.value_notes import ValueNotes

_NESTED_BATCH_ROWS = 1_024
_BATCH_ROWS = 65_536
_BATCH_BYTES = 32 * limits.MIB
_TEXTS = frozenset({"STRING", "CATEGORY", "JSON"})  # types whose values are text in Parquet
_MAX_FLOAT_DIGITS = 15  # any decimal of so many digits survives the way to a double and back


class ParquetReader:
    """Raises BadInput: UNREADABLE_FILE, EMPTY_FILE, TOO_MANY_COLUMNS, CELL_TOO_LARGE, UNFOLDS_TOO_LARGE; of a folder those of `open_folder`, too."""

    def __init__(
        self, raw: RawFile, filename: str, progress: ProgressCallback, rules: TextRules = STRING_RULES, folder: Path | None = None
    ) -> None:
        """Reads the file `raw` or, with a `folder`, the Parquet files of that archive, which it unpacks there."""
        self._raw = raw
        self._filename = filename
        self._progress = progress
        self._decoded_bytes = 0
        self._max_decoded_bytes = max(limits.MAX_PARQUET_DECODED_BYTES, limits.MAX_PARQUET_DECODED_RATIO * raw.size)
        self._rules = replace(rules, only=TEMPORAL_TYPES)
        self._file_issues = IssueLog()
        """About the file and the names of its columns."""
        self._column_issues = IssueLog()
        """About columns of text, of all passes."""
        self.issues = IssueLog()
        self._recorded: Mapping[str, str] = {}
        """Types that an export recorded."""
        try:
            self._files = self._opened(folder)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._unreadable(error) from error
        schema = self._files.schema
        check_width(len(schema))
        if not len(schema):
            raise BadInput("EMPTY_FILE", f"{filename!r} is Parquet without columns.")
        self._names = clean_names(schema.names, self._file_issues)
        self._types: dict[str, str] = {}
        self._revised: dict[str, str] = {}
        """Types of columns of numbers that turned out wider than declared."""
        self._kept_as_text: dict[str, tuple[int, str]] = {}
        self._needs_another_pass = False
        self._notes: dict[str, ValueNotes] = {}
        self._text_types: dict[str, TextType] | None = None
        self._type_inference: TypeInference | None = None
        self._position = (0, 0, 0)  # completed chunks; batches of the next chunk; slices of its next batch
        self._resume_state: ReaderState | None = None
        self._batch_state: ReaderState = {}

    def _opened(self, folder: Path | None) -> ParquetFiles:
        if folder is None:
            return ParquetFiles([ParquetPart(self._raw.path, self._filename)])
        opened = open_folder(self._raw, self._filename, folder)
        files = ParquetFiles(opened.parts)
        self._file_issues.extend(opened.issues)
        self._recorded = opened.types
        # What was text stays text, and is no date that nobody has recognised yet. What the user says comes first.
        texts = [field.name for field in files.schema if _is_text(field.type) and opened.types.get(field.name) in _TEXTS]
        self._rules = replace(self._rules, fixed={**dict.fromkeys(texts, "STRING"), **self._rules.fixed})
        return files

    def frames(self) -> Iterator[pl.DataFrame]:
        state, self._resume_state = self._resume_state, None
        rows = 0
        try:
            schema, total = self._files.schema, self._files.row_count
            if total == 0:
                raise BadInput("EMPTY_FILE", f"{self._filename!r} is Parquet with {len(schema)} columns and no rows.")
            kinds = [_column_type(field.type) for field in schema]
            self._types = dict(zip(self._names, kinds, strict=True)) | self._revised
            self._notes = {name: ValueNotes() for name in self._names}
            texts = [
                name for name, field in zip(self._names, schema, strict=True)
                if (self._types[name] == "STRING" and _is_text(field.type)) or self._is_fixed(name)
            ]  # fmt: skip
            self._type_inference = TypeInference(texts, self._text_types, self._rules) if texts else None
            self._decoded_bytes, self._needs_another_pass, self._position = 0, False, (0, 0, 0)
            if state is not None:
                rows = self._restore(state)
            first_chunk, batches_done, slices_done = self._position
            # Dictionary values are measured before they are repeated. Arrow decodes nested values at once, so their batches are small.
            for chunk_index, chunk in enumerate(self._files.chunks[first_chunk:], start=first_chunk):
                batches = self._files.batches(chunk, _batch_rows(schema))
                for batch_index, batch in enumerate(islice(batches, batches_done, None), start=batches_done):
                    self._batch_state = {"rows": rows, "unfolded": self._decoded_bytes}
                    rows += batch.num_rows
                    first_row = rows - batch.num_rows + 1
                    for slice_index, part in enumerate(self._slices(batch, rows)):
                        if slice_index >= slices_done:
                            self._position = (chunk_index, batch_index, slice_index + 1)
                            yield self._frame(part, schema, first_row)
                        first_row += part.num_rows
                    slices_done = 0
                    self._progress(rows / max(1, total), f"Read Parquet: {rows:,} of {total:,} rows")
                batches_done = 0
        except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
            raise self._unreadable(error, rows) from error

    def state(self) -> ReaderState | None:
        """The position within the file. A resuming reader decodes the completed batches of the current chunk again, without yielding them."""
        types = {
            "types": self._types,
            "revised": self._revised,
            "kept_as_text": self._kept_as_text,
            "must_repeat": self._needs_another_pass,
            "notes": {name: notes.state() for name, notes in self._notes.items()},
            "text_types": types_to_state(self._text_types),
            "column_issues": self._column_issues.state(),
            "typist": None if self._type_inference is None else self._type_inference.state(),
        }
        return {"done": self._position, **self._batch_state, **types}

    def resume_from(self, state: ReaderState) -> None:
        self._resume_state = state
        self._revised = dict(state["revised"])
        self._column_issues = IssueLog.from_state(state["column_issues"])
        self._text_types = types_from_state(state["text_types"])

    def _restore(self, state: ReaderState) -> int:
        """Return the number of rows before the batch in which the state was taken."""
        self._types, self._needs_another_pass = dict(state["types"]), state["must_repeat"]
        self._kept_as_text = {name: (row, value) for name, (row, value) in state["kept_as_text"].items()}
        self._notes = {name: ValueNotes.from_state(notes) for name, notes in state["notes"].items()}
        if self._type_inference is not None:
            self._type_inference.restore(state["typist"])
        self._position = (state["done"][0], state["done"][1], state["done"][2])
        self._decoded_bytes = state["unfolded"]
        return state["rows"]

    def needs_another_pass(self) -> bool:
        inference = self._type_inference
        revised = None if inference is None else inference.revised_types()
        if inference is not None:
            self._column_issues.extend_once(inference.column_issues())
        if revised is not None or self._needs_another_pass:
            self._text_types = revised or (inference.types() if inference is not None else None)
            return True
        self.issues = IssueLog()
        self.issues.extend(self._file_issues)
        for name, (row, value) in self._kept_as_text.items():
            self.issues.add("KEPT_AS_TEXT", describe_kept_as_text(name, row, value), column=name, row=row)
        for name, notes in self._notes.items():
            notes.add_issues(name, self.issues)
        self.issues.extend(self._column_issues)
        if inference is not None:
            self.issues.extend(inference.issues())
        return False

    def column_types(self) -> dict[str, str]:
        texts = {} if self._type_inference is None else self._type_inference.types()
        types = self._types | {name: kind.name for name, kind in texts.items()}
        # JSON is text in Parquet.
        return {name: "JSON" if kind == "STRING" and self._recorded.get(name) == "JSON" else kind for name, kind in types.items()}

    def _unreadable(self, error: BaseException, rows: int | None = None) -> BadInput:
        where = (
            "its footer, which describes the columns,"
            if rows is None
            else "its footer or the beginning of its data"
            if not rows
            else "its data"
        )
        found = f"is damaged Parquet: {where} cannot be read{f' after row {rows:,}' if rows else ''}"
        advice = "Write it again and upload all of it."
        if isinstance(error, NotImplementedError):
            found = f"is Parquet with a compression or an encoding that is not read here{f', after row {rows:,}' if rows else ''}"
            advice = "Write it with common settings (compression snappy, zstd or gzip) and upload it."
        return BadInput("UNREADABLE_FILE", f"{self._filename!r} {found}. {advice}", row=(rows or 0) + 1)

    def _slices(self, batch: pa.RecordBatch, rows: int) -> Iterator[pa.RecordBatch]:
        """Cut the batch into slices of bounded decoded size. Raises BadInput: CELL_TOO_LARGE, UNFOLDS_TOO_LARGE."""
        size = 0
        for name, column in zip(self._names, batch.columns, strict=True):
            column_bytes, longest = _decoded_sizes(column)
            size += column_bytes
            if longest > limits.MAX_CELL_BYTES:
                raise BadInput(
                    "CELL_TOO_LARGE",
                    f"Column {name!r} has a value of {longest / limits.MIB:,.0f} MiB in one of the rows before row {rows + 1:,}; "
                    f"the maximum is {limits.MAX_CELL_BYTES // limits.MIB} MiB.",
                    column=name,
                )
        self._decoded_bytes += size
        if self._decoded_bytes > self._max_decoded_bytes:
            raise BadInput(
                "UNFOLDS_TOO_LARGE",
                f"{self._filename!r} has {self._raw.size / limits.MIB:,.1f} MiB and decodes to more than {self._max_decoded_bytes / limits.MIB:,.0f} MiB "
                f"by row {rows:,}. Split the file, or shorten long repeated values.",
                row=rows,
            )
        slice_count = max(1, -(-size // _BATCH_BYTES))
        slice_rows = max(1, -(-batch.num_rows // slice_count))
        for start in range(0, batch.num_rows, slice_rows):
            yield batch.slice(start, slice_rows)

    def _is_fixed(self, name: str) -> bool:
        """Whether the user chose another type than the file has."""
        return self._rules.fixed.get(name, self._types[name]) != self._types[name]

    def _frame(self, part: pa.RecordBatch, schema: pa.Schema, first_row: int) -> pl.DataFrame:
        columns = [self._column(part.column(index), name, schema.field(index).type, first_row) for index, name in enumerate(self._names)]
        frame = pl.DataFrame(columns)
        if self._type_inference is None:
            return frame
        texts = frame.select(self._type_inference.names)
        return frame.with_columns(self._type_inference.convert(texts, lambda index: first_row + index).get_columns())

    def _column(self, values: pa.Array, name: str, declared: pa.DataType, first_row: int) -> pl.Series:
        kind = self._types[name]
        if self._is_fixed(name):
            return _as_text(values, name)
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        if kind == "JSON":
            values = nested_with_exact_times(values)
            texts = [
                None if item is None else orjson.dumps(json_value(item, limits.MAX_CELL_BYTES)).decode() for item in values.to_pylist()
            ]
            return pl.Series(name, texts, dtype=pl.String)
        if kind == "CATEGORY" and not _is_text(values.type):
            return pl.Series(name, [None if item is None else str(item) for item in values.to_pylist()], dtype=pl.String)
        if pa.types.is_decimal(declared) or pa.types.is_uint64(declared):
            return self._exact_number(values, name, declared, first_row)
        if kind == "STRING" and not _is_text(declared):
            return _as_text(values, name)
        if has_nanoseconds(declared) and (finer := first_finer(values)) is not None:
            count, place = finer
            text = _as_text(values.slice(place, 1), name)[0]
            if self._rules.fixed.get(name) != kind:
                self._revised[name], self._needs_another_pass = "STRING", True
                self._kept_as_text.setdefault(name, (first_row + place, text))
                return pl.Series(name, [None] * len(values), dtype=pl.Int64)
            self._notes[name].add_finer(count, first_row + place, text)
            values = values.cast(pa.time64("us"), safe=False) if kind == "TIME" else values
        if pa.types.is_float16(declared):
            values = values.cast(pa.float64())
        series = pl.Series(name, values).cast(_polars_type(kind, declared))
        return self._noted_floats(series, first_row) if kind == "FLOAT" else series

    def _noted_floats(self, series: pl.Series, first_row: int) -> pl.Series:
        notes = self._notes[series.name]
        is_nan = series.is_nan()
        if is_nan.any():
            indices = is_nan.fill_null(value=False).arg_true()
            notes.add_words(pl.Series(["NaN"] * indices.len()), indices, lambda index: first_row + index)
            series = series.fill_nan(None)
        if series.is_infinite().any():
            notes.add_infinite(series, lambda index: first_row + index)
        return series

    def _exact_number(self, values: pa.Array, name: str, declared: pa.DataType, first_row: int) -> pl.Series:
        """Convert decimals and unsigned integers to the narrowest type that holds them exactly; a wider one takes another pass."""
        kind = self._types[name]
        scale = max(0, declared.scale) if pa.types.is_decimal(declared) else 0
        if kind == "STRING":
            return _as_text(values, name)
        decimal = pa.decimal128(MAX_DIGITS, scale)
        if kind == "FLOAT":
            series = None if _exceeds_float(values, scale) else pl.Series(name, values.cast(pa.float64(), safe=False))
        else:
            series = _cast(values, name, decimal if kind == "DECIMAL" else pa.int64())
        if series is not None:
            return series
        is_decimal = self._revised.get(name) != "STRING" and _cast(values, name, decimal) is not None
        self._revised[name] = "DECIMAL" if is_decimal else "STRING"
        if not is_decimal and name not in self._kept_as_text:
            inexact = (
                (index, value)
                for index, value in enumerate(values.to_pylist())
                if value is not None and Decimal(float(value)) != Decimal(value)
            )
            index, value = next(inexact)
            self._kept_as_text[name] = first_row + index, str(value)
        self._needs_another_pass = True
        return pl.Series(name, [None] * len(values), dtype=pl.Int64)


def _cast(values: pa.Array, name: str, target: pa.DataType) -> pl.Series | None:
    """None if the type cannot hold a value exactly."""
    try:
        return pl.Series(name, values.cast(target))
    except pa.ArrowException:
        return None


def _as_text(values: pa.Array, name: str) -> pl.Series:
    if has_nanoseconds(values.type):
        return exact_times(values, name)
    return pl.Series(name, [None if item is None else _text_of(item) for item in values.to_pylist()], dtype=pl.String)


def _text_of(item: Any) -> str:
    if isinstance(item, timedelta):
        return clock_text(item)
    return f"{item:f}" if isinstance(item, Decimal) else str(item)


def _exceeds_float(values: pa.Array, scale: int) -> bool:
    extremes = pc.min_max(values).as_py()
    greatest = max((abs(value) for value in extremes.values() if value is not None), default=Decimal(0))
    return greatest.scaleb(scale) >= 10**_MAX_FLOAT_DIGITS


def _batch_rows(schema: pa.Schema) -> int:
    rows = _NESTED_BATCH_ROWS if any(pa.types.is_nested(kind) for kind in schema.types) else _BATCH_ROWS
    return max(256, min(rows, 8_000_000 // max(1, len(schema))))


def _decoded_sizes(column: pa.Array) -> tuple[int, int]:
    """Decoded bytes of the whole column and of its longest value; the latter is 0 unless the column holds text or bytes."""
    if not len(column):
        return 0, 0
    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes), 0
    values = column.dictionary
    if not _is_text(values.type) and not pa.types.is_binary(values.type) and not pa.types.is_large_binary(values.type):
        return 8 * len(column), 0
    lengths = pc.cast(pc.take(pc.binary_length(values), column.indices), pa.int64())
    return pc.sum(lengths).as_py() or 0, pc.max(lengths).as_py() or 0


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _column_type(declared: pa.DataType) -> str:
    tests: list[tuple[str, Any]] = [
        ("CATEGORY", pa.types.is_dictionary),
        ("INTEGER", pa.types.is_integer),
        ("INTEGER", lambda kind: pa.types.is_decimal(kind) and kind.scale <= 0),
        ("FLOAT", lambda kind: pa.types.is_floating(kind) or pa.types.is_decimal(kind)),
        ("BOOLEAN", pa.types.is_boolean),
        ("DATE", pa.types.is_date),
        ("DATETIME", pa.types.is_timestamp),
        ("TIME", pa.types.is_time),
        ("DURATION", pa.types.is_duration),
        ("JSON", pa.types.is_nested),
        ("BINARY", lambda kind: pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)),
    ]
    return next((kind for kind, test in tests if test(declared)), "STRING")


def _polars_type(kind: str, declared: pa.DataType) -> pl.DataType:
    if kind == "DATETIME":
        return pl.Datetime("us", "UTC" if declared.tz else None)
    if kind == "FLOAT":
        return pl.Float32() if pa.types.is_float32(declared) else pl.Float64()
    if kind == "DURATION":
        return pl.Duration("us")
    return {"TIME": pl.Time(), "INTEGER": pl.Int64(), "BOOLEAN": pl.Boolean(), "DATE": pl.Date(), "BINARY": pl.Binary()}.get(
        kind, pl.String()
    )
