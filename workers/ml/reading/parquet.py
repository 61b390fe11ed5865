"""Reader for untrusted Parquet: decoded batch by batch, without relying on the sizes in its metadata.

Text and binary columns are read as dictionaries, so that the decoded size of a value stored once and repeated a million times is known
before it is materialized. Types: integers are INTEGER (a column with an unsigned value of 2^63 or more is text), decimals FLOAT,
timestamps DATETIME in microseconds, lists, structs and maps JSON, times of day and durations text.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workers.ml import limits
from workers.ml.errors import BadInput
from workers.ml.json_values import json_value
from workers.ml.reading.column_names import check_width, clean_names
from workers.ml.reading.issues import IssueLog
from workers.ml.reading.raw import RawFile
from workers.ml.reading.reader_state import ReaderState
from workers.ml.reading.table_reader import ProgressCallback

_MAX_INT64 = (1 << 63) - 1
_NESTED_BATCH_ROWS = 1_024
_BATCH_ROWS = 65_536
_MIN_CHUNK_ROWS = 262_144
_BATCH_BYTES = 32 * limits.MIB


class ParquetReader:
    """Raises BadInput: UNREADABLE_FILE, EMPTY_FILE, TOO_MANY_COLUMNS, CELL_TOO_LARGE, UNFOLDS_TOO_LARGE."""

    def __init__(self, raw: RawFile, filename: str, progress: ProgressCallback) -> None:
        self._raw = raw
        self._filename = filename
        self._progress = progress
        self._decoded_bytes = 0
        self._max_decoded_bytes = max(limits.MAX_PARQUET_DECODED_BYTES, limits.MAX_PARQUET_DECODED_RATIO * raw.size)
        self.issues = IssueLog()
        try:
            schema = pq.read_schema(raw.path)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._unreadable(error) from error
        check_width(len(schema))
        if not len(schema):
            raise BadInput("EMPTY_FILE", f"{filename!r} is Parquet without columns.")
        self._names = clean_names(schema.names, self.issues)
        self._types: dict[str, str] = {}
        self._beyond_int64: set[str] = set()
        self._needs_another_pass = False
        self._position = (0, 0, 0)  # completed chunks; batches of the next chunk; slices of its next batch
        self._resume_state: ReaderState | None = None
        self._batch_state: ReaderState = {}

    def frames(self) -> Iterator[pl.DataFrame]:
        state, self._resume_state = self._resume_state, None
        rows = 0
        try:
            with pq.ParquetFile(self._raw.path) as probe:
                schema, total = probe.schema_arrow, probe.metadata.num_rows
                dictionary_columns = _dictionary_columns(probe.schema)
                chunks = _row_group_chunks(probe.metadata)
            if total == 0:
                raise BadInput("EMPTY_FILE", f"{self._filename!r} is Parquet with {len(schema)} columns and no rows.")
            kinds = [_column_type(field.type) for field in schema]
            self._types = dict(zip(self._names, kinds, strict=True)) | dict.fromkeys(self._beyond_int64, "STRING")
            self._decoded_bytes, self._needs_another_pass, self._position = 0, False, (0, 0, 0)
            if state is not None:
                rows = self._restore(state)
            first_chunk, batches_done, slices_done = self._position
            # Dictionary values are measured before they are repeated. Arrow decodes nested values at once, so their batches are small.
            with pq.ParquetFile(self._raw.path, read_dictionary=dictionary_columns) as file:
                for chunk_index, row_groups in enumerate(chunks[first_chunk:], start=first_chunk):
                    batches = file.iter_batches(batch_size=_batch_rows(schema), row_groups=row_groups, use_threads=False)
                    for batch_index, batch in enumerate(islice(batches, batches_done, None), start=batches_done):
                        self._batch_state = {"rows": rows, "unfolded": self._decoded_bytes}
                        rows += batch.num_rows
                        for slice_index, frame in enumerate(self._slices(batch, schema, rows)):
                            if slice_index >= slices_done:
                                self._position = (chunk_index, batch_index, slice_index + 1)
                                yield frame
                        slices_done = 0
                        self._progress(rows / max(1, total), f"reading Parquet, {rows:,} of {total:,} rows")
                    batches_done = 0
        except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
            raise self._unreadable(error, rows) from error

    def state(self) -> ReaderState | None:
        """The position within the file. A resuming reader decodes the completed batches of the current chunk again, without yielding them."""
        types = {"types": self._types, "wide": sorted(self._beyond_int64), "must_repeat": self._needs_another_pass}
        return {"done": self._position, **self._batch_state, **types}

    def resume_from(self, state: ReaderState) -> None:
        self._resume_state = state

    def _restore(self, state: ReaderState) -> int:
        """Return the number of rows before the batch in which the state was taken."""
        self._types, self._beyond_int64, self._needs_another_pass = dict(state["types"]), set(state["wide"]), state["must_repeat"]
        self._position = (state["done"][0], state["done"][1], state["done"][2])
        self._decoded_bytes = state["unfolded"]
        return state["rows"]

    def needs_another_pass(self) -> bool:
        return self._needs_another_pass

    def column_types(self) -> dict[str, str]:
        return self._types

    def _unreadable(self, error: BaseException, rows: int = 0) -> BadInput:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        return BadInput(
            "UNREADABLE_FILE",
            f"{self._filename!r} is damaged Parquet: it cannot be read after row {rows:,} ({reason}). Write it again and upload it.",
            row=rows + 1,
        )

    def _slices(self, batch: pa.RecordBatch, schema: pa.Schema, rows: int) -> Iterator[pl.DataFrame]:
        """Decode the batch into frames of bounded size. Raises BadInput: CELL_TOO_LARGE, UNFOLDS_TOO_LARGE."""
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
            record_slice = batch.slice(start, slice_rows)
            yield pl.DataFrame(
                [self._column(record_slice.column(index), name, schema.field(index).type) for index, name in enumerate(self._names)]
            )

    def _column(self, values: pa.Array, name: str, declared: pa.DataType) -> pl.Series:
        kind = self._types[name]
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        if kind == "JSON":
            texts = [
                None if item is None else orjson.dumps(json_value(item, limits.MAX_CELL_BYTES)).decode() for item in values.to_pylist()
            ]
            return pl.Series(name, texts, dtype=pl.String)
        if kind == "CATEGORY" and not _is_text(values.type):
            return pl.Series(name, [None if item is None else str(item) for item in values.to_pylist()], dtype=pl.String)
        if pa.types.is_decimal(declared) or pa.types.is_float16(declared):
            values = values.cast(pa.float64(), safe=False)
        elif kind == "STRING" and not _is_text(declared):
            return pl.Series(name, [None if item is None else str(item) for item in values.to_pylist()], dtype=pl.String)
        series = pl.Series(name, values)
        if pa.types.is_uint64(declared) and kind == "INTEGER" and (series > _MAX_INT64).any():
            self._beyond_int64.add(name)
            self._needs_another_pass = True
            return series.cast(pl.Int64, strict=False)
        return series.cast(_polars_type(kind, declared))


def _row_group_chunks(metadata: pq.FileMetaData) -> list[list[int]]:
    """Group row group indices into chunks of at least 262,144 rows: batches do not span chunks, and small ones are slow."""
    chunks: list[list[int]] = []
    rows = _MIN_CHUNK_ROWS
    for row_group in range(metadata.num_row_groups):
        if rows >= _MIN_CHUNK_ROWS:
            chunks.append([])
            rows = 0
        chunks[-1].append(row_group)
        rows += metadata.row_group(row_group).num_rows
    return chunks


def _batch_rows(schema: pa.Schema) -> int:
    rows = _NESTED_BATCH_ROWS if any(pa.types.is_nested(kind) for kind in schema.types) else _BATCH_ROWS
    return max(256, min(rows, 8_000_000 // max(1, len(schema))))


def _dictionary_columns(schema: pq.ParquetSchema) -> list[str]:
    """Paths of text and binary columns. Decimals may be byte arrays, too, but are not read as dictionaries."""
    columns = [schema.column(index) for index in range(len(schema))]
    return [column.path for column in columns if column.physical_type == "BYTE_ARRAY" and column.converted_type != "DECIMAL"]


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
        ("FLOAT", lambda kind: pa.types.is_floating(kind) or pa.types.is_decimal(kind)),
        ("BOOLEAN", pa.types.is_boolean),
        ("DATE", pa.types.is_date),
        ("DATETIME", pa.types.is_timestamp),
        ("JSON", pa.types.is_nested),
        ("BINARY", lambda kind: pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)),
    ]
    return next((kind for kind, test in tests if test(declared)), "STRING")


def _polars_type(kind: str, declared: pa.DataType) -> pl.DataType:
    if kind == "DATETIME":
        return pl.Datetime("us", "UTC" if declared.tz else None)
    if kind == "FLOAT":
        return pl.Float32() if pa.types.is_float32(declared) else pl.Float64()
    return {"INTEGER": pl.Int64(), "BOOLEAN": pl.Boolean(), "DATE": pl.Date(), "BINARY": pl.Binary()}.get(kind, pl.String())
