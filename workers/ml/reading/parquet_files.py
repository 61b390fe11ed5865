"""The Parquet files of a table: one, or several with the same columns, whose rows follow one another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from workers.ml.errors import BadInput

_MIN_CHUNK_ROWS: Final = 262_144


@dataclass(frozen=True, slots=True)
class ParquetPart:
    """A file of the table, and its name for users. `change` makes the table's columns of those of the file; None if they are the same."""

    path: Path
    name: str
    change: Callable[[pa.RecordBatch], pa.RecordBatch] | None = None


class ParquetFiles:
    """`chunks` are the parts in which the rows are read, in their order.

    Raises BadInput: UNREADABLE_FILE, COLUMNS_DIFFER; and what Arrow raises for a damaged footer.
    """

    def __init__(self, parts: Sequence[ParquetPart]) -> None:
        for part in parts:
            _check_footer(part)
        self._parts = parts
        self._metadata = [pq.read_metadata(part.path) for part in parts]
        schemas = [_schema(part, metadata) for part, metadata in zip(parts, self._metadata, strict=True)]
        self.schema = schemas[0]
        for part, schema in zip(parts[1:], schemas[1:], strict=True):
            _check_same(parts[0].name, self.schema, part.name, schema)
        self.row_count = sum(metadata.num_rows for metadata in self._metadata)
        self.chunks = [(index, chunk) for index, metadata in enumerate(self._metadata) for chunk in _row_group_chunks(metadata)]

    def batches(self, chunk: tuple[int, list[int]], batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Texts and bytes are dictionaries: their values are measured before they are repeated."""
        index, row_groups = chunk
        part, metadata = self._parts[index], self._metadata[index]
        with pq.ParquetFile(part.path, metadata=metadata, read_dictionary=_dictionary_columns(metadata.schema)) as file:
            for batch in file.iter_batches(batch_size=batch_rows, row_groups=row_groups, use_threads=False):
                yield batch if part.change is None else part.change(batch)


def _check_footer(part: ParquetPart) -> None:
    """Raises BadInput (UNREADABLE_FILE)."""
    size = part.path.stat().st_size
    with part.path.open("rb") as file:
        file.seek(max(0, size - 8))
        length = int.from_bytes(file.read(4), "little")
    if length + 12 > size:
        raise BadInput(
            "UNREADABLE_FILE",
            f"{part.name!r} is damaged Parquet: its end says that the footer, which describes the columns, has {length:,} bytes, and the whole "
            f"file has {size:,}. A part of it is missing or overwritten: write it again and upload all of it.",
            row=1,
        )


def _schema(part: ParquetPart, metadata: pq.FileMetaData) -> pa.Schema:
    schema = metadata.schema.to_arrow_schema()
    if part.change is None:
        return schema
    return part.change(pa.RecordBatch.from_arrays([pa.nulls(0, kind) for kind in schema.types], names=schema.names)).schema


def _check_same(first_name: str, first: pa.Schema, name: str, schema: pa.Schema) -> None:
    """Raises BadInput (COLUMNS_DIFFER)."""
    if first.names != schema.names:
        other = [column for column in first.names if column not in schema.names] + [
            column for column in schema.names if column not in first.names
        ]
        found = f"{other[0]!r} is in one of them alone" if other else "their columns are in another order"
        raise _differs(first_name, name, found)
    for column, expected, kind in zip(first.names, first.types, schema.types, strict=True):
        if kind != expected:
            raise _differs(first_name, name, f"{column!r} is {expected} in the first and {kind} in the other", column)


def _differs(first: str, name: str, found: str, column: str | None = None) -> BadInput:
    return BadInput(
        "COLUMNS_DIFFER", f"{first!r} and {name!r} are not of one table: {found}. Write all files with the same columns.", column=column
    )


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


def _dictionary_columns(schema: pq.ParquetSchema) -> list[str]:
    """Paths of text and binary columns. Decimals may be byte arrays, too, but are not read as dictionaries."""
    columns = [schema.column(index) for index in range(len(schema))]
    return [column.path for column in columns if column.physical_type == "BYTE_ARRAY" and column.converted_type != "DECIMAL"]
