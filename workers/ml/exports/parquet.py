"""Parquet: the version's own file where that is what is asked for, so that it is stored once; else one that is written row group by row group."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from workers.ml.exports.source import Rows

OWN_COMPRESSION = "zstd"


def write_parquet(rows: Rows, path: Path, options: dict[str, Any]) -> Path:
    """Return the path of the file, which is the source if that has these columns and this compression."""
    names = list(rows.types)
    if options["compression"] == OWN_COMPRESSION and names == rows.file.schema_arrow.names:
        return rows.path
    schema = pa.schema([rows.file.schema_arrow.field(name) for name in names])
    with pq.ParquetWriter(path, schema, compression=options["compression"].upper()) as writer:
        for frame in row_groups(rows):
            writer.write_table(frame.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema), row_group_size=frame.height)
    return path


def row_groups(rows: Rows, size: int = 131_072) -> Any:
    """Yield the rows in frames of `size` rows, the last one with what is left."""
    pending: list[pl.DataFrame] = []
    height = 0
    for frame in rows.frames():
        pending.append(frame)
        height += frame.height
        while height >= size:
            joined = pl.concat(pending)
            yield joined[:size]
            pending, height = [joined[size:]], height - size
    if height:
        yield pl.concat(pending)
