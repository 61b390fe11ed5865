"""The metadata of items in a Parquet file, as exports and Hugging Face's `datasets` have it."""

from __future__ import annotations

import io
import math
import re
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from workers.ml.limits import MIB
from workers.ml.split_names import SPLITS

PARQUET: Final = ".parquet"
_SHARD: Final = re.compile(r"(\w+)-\d{5}(?:-of-\d{5})?\.\w+")
_BATCH: Final = 1_000
_MAX_ROW_GROUP_BYTES: Final = 256 * MIB
"""Unpacked, of one column: more than the metadata of as many items as an archive has."""


def parquet_rows(content: bytes, max_fields: int, max_cells: int) -> tuple[list[dict[str, Any]], bool]:
    """The rows with their values as JSON has them, and whether there are more. None where the file is not Parquet or has no such metadata."""
    rows: list[dict[str, Any]] = []
    try:
        file = pq.ParquetFile(io.BytesIO(content))
        names = file.schema_arrow.names
        if not names or len(set(names)) < len(names) or len(names) > max_fields or _is_too_large(file.metadata):
            return [], False
        for batch in file.iter_batches(_BATCH):
            for row in batch.to_pylist():
                if (len(rows) + 1) * len(names) > max_cells:
                    return rows, True
                rows.append({name: _as_json(value) for name, value in row.items() if value is not None})
    except (pa.ArrowException, OSError, ValueError, OverflowError):
        return [], False
    return rows, False


def shard_name(filename: str) -> str | None:
    """What comes before the number in a name such as `train-00000.zip` or `val-00001-of-00003.parquet`."""
    shard = _SHARD.fullmatch(filename)
    return None if shard is None else shard[1]


def split_of_shard(filename: str) -> str | None:
    """The split in such a name, `validation` for the second."""
    name = shard_name(filename)
    return None if name is None else SPLITS.get(name.lower(), name)


def _is_too_large(metadata: pq.FileMetaData) -> bool:
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    columns = (group.column(number) for group in groups for number in range(metadata.num_columns))
    return any(column.total_uncompressed_size > _MAX_ROW_GROUP_BYTES for column in columns)


def _as_json(value: Any) -> Any:
    """JSON has no NaN, no times and no decimals; those are texts, as other metadata files would have them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_as_json(entry) for entry in value]
    if isinstance(value, dict):
        return {str(name): _as_json(entry) for name, entry in value.items()}
    return value if value is None or isinstance(value, bool | int | str) else str(value)
