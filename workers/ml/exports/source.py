"""The rows that are exported, and the files that are made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import polars as pl
import pyarrow.parquet as pq

from workers.ml.reporting import Reporter

BATCH_ROWS = 16_384
DATA, DESCRIPTION = "EXPORT", "CROISSANT"  # the roles of files


class ColumnSpec(TypedDict):
    name: str
    type: str


class SourceSpec(TypedDict):
    """What is known of the version besides its rows; the texts are the owner's."""

    name: str
    number: int
    description: str | None
    license: str | None
    url: str | None
    published: str
    """When it became READY, an ISO 8601 date."""


class ExportSpec(TypedDict):
    """`parquet` has the rows, `columns` their ColumnTypes; `stem` begins the names of files."""

    parquet: str
    folder: str
    stem: str
    format: str
    options: dict[str, Any]
    columns: list[ColumnSpec]
    source: SourceSpec


class WrittenFile(TypedDict):
    """A file of an export; `size` in bytes and `sha256` are those of its content, `rows` is None if it holds none."""

    path: str
    role: str
    filename: str
    content_type: str
    size: int
    sha256: str
    rows: int | None


class ExportResult(TypedDict):
    files: list[WrittenFile]
    rows: int


@dataclass
class Rows:
    """The rows of a Parquet file in the order of the file, as frames of at most `BATCH_ROWS`. Reading them reports the progress, from 0 to 95 percent."""

    path: Path
    types: Mapping[str, str]
    """The ColumnType of each column that is exported, in order."""
    reporter: Reporter

    def __post_init__(self) -> None:
        self.file = pq.ParquetFile(self.path, pre_buffer=False)
        self.count: int = self.file.metadata.num_rows

    def frames(self, columns: Sequence[str] | None = None) -> Iterator[pl.DataFrame]:
        names = list(self.types if columns is None else columns)
        done = 0
        for batch in self.file.iter_batches(BATCH_ROWS, columns=names, use_threads=False):
            frame = pl.DataFrame(pl.from_arrow(batch)).select(names)
            yield frame
            done += frame.height
            self.reporter.progress(95 * done / max(self.count, 1), f"Write rows: {done:,} of {self.count:,}")


def written(path: Path, filename: str, content_type: str, rows: int | None, role: str = DATA) -> WrittenFile:
    """Describe a complete file, whose content is hashed."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "path": str(path),
        "role": role,
        "filename": filename,
        "content_type": content_type,
        "size": path.stat().st_size,
        "sha256": digest,
        "rows": rows,
    }
