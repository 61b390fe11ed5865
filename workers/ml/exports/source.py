"""The rows that are exported, and the files that are made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import polars as pl
import pyarrow.parquet as pq

from workers.ml.contents.places import ItemFiles
from workers.ml.reporting import ProgressReporter

BATCH_ROWS = 16_384
DATA, DESCRIPTION, ARCHIVE = "EXPORT", "CROISSANT", "ARCHIVE"  # the roles of files


class ColumnSpec(TypedDict):
    name: str
    type: str


class SourceSpec(TypedDict):
    """What is known of the version besides its rows; the texts are the owner's."""

    name: str
    number: int | None
    """None if it is not known, as in a pipeline that makes the version; `published` then is, too."""
    description: str | None
    license: str | None
    url: str | None
    published: str | None
    """When it became READY, an ISO 8601 date."""


class DetailedItemFiles(ItemFiles):
    """`places` has two more elements a line: [..., media type, metadata]."""


class TableSpec(TypedDict):
    """How rows are written: `stem` begins the names of files."""

    stem: str
    format: str
    options: dict[str, Any]


class ExportSpec(TableSpec):
    """`parquet` has the rows, `columns` their ColumnTypes; `problem_type` is the task of models of the data.

    With `items`, these are exported, and not their table alone; `modality` is that of the dataset.
    """

    parquet: str
    folder: str
    columns: list[ColumnSpec]
    problem_type: str | None
    source: SourceSpec
    modality: NotRequired[str]
    items: NotRequired[DetailedItemFiles]


class WrittenFile(TypedDict):
    """A file of an export; `size` in bytes and `sha256` are those of its content, `rows` is None unless it is a table. `member` is its path among the files."""

    path: str
    role: str
    filename: str
    member: str
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
    reporter: ProgressReporter

    def __post_init__(self) -> None:
        self.file = pq.ParquetFile(self.path, pre_buffer=False)
        self.count: int = self.file.metadata.num_rows

    def frames(self) -> Iterator[pl.DataFrame]:
        done = 0
        for frame in self.scan(list(self.types)):
            yield frame
            done += frame.height
            self.reporter.progress(95 * done / max(self.count, 1), f"Write rows: {done:,} of {self.count:,}")

    def scan(self, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """These columns of all rows, without reports, such as to count their values."""
        names = list(columns)
        for batch in self.file.iter_batches(BATCH_ROWS, columns=names, use_threads=False):
            yield pl.DataFrame(pl.from_arrow(batch)).select(names)

    def has_missing(self, column: str) -> bool:
        """Whether a value of the column may be null, by the statistics of the file."""
        index, metadata = self.file.schema_arrow.get_field_index(column), self.file.metadata
        statistics = (metadata.row_group(number).column(index).statistics for number in range(metadata.num_row_groups))
        return any(each is None or not each.has_null_count or each.null_count > 0 for each in statistics)

    @property
    def schema(self) -> pl.Schema:
        """The types of all columns of the file."""
        return pl.DataFrame(pl.from_arrow(self.file.schema_arrow.empty_table())).schema


def written(path: Path, filename: str, content_type: str, rows: int | None, role: str = DATA, member: str | None = None) -> WrittenFile:
    """Describe a complete file, whose content is hashed."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "path": str(path),
        "role": role,
        "filename": filename,
        "member": filename if member is None else member,
        "content_type": content_type,
        "size": path.stat().st_size,
        "sha256": digest,
        "rows": rows,
    }
