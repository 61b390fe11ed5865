"""The first rows of a Parquet file as JSON."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from workers.ml import limits
from workers.ml.json_values import json_value


def preview(path: Path, types: dict[str, str]) -> list[dict[str, Any]]:
    """Return at most 100 rows and 1 MiB of JSON. Text is truncated to 1,000 characters; a JSON value within that length is parsed."""
    frame = pl.scan_parquet(path).head(limits.PREVIEW_ROWS).collect()
    rows: list[dict[str, Any]] = []
    size = 2
    for row in frame.iter_rows(named=True):
        cells = {name: _cell(value, types.get(name, "STRING")) for name, value in row.items()}
        size += len(orjson.dumps(cells)) + 1
        if size > limits.PREVIEW_BYTES:
            break
        rows.append(cells)
    return rows


def _cell(value: Any, column_type: str) -> Any:
    if column_type == "JSON" and isinstance(value, str) and len(value) <= limits.PREVIEW_TEXT_LENGTH:
        return json_value(orjson.loads(value), limits.PREVIEW_TEXT_LENGTH)
    if isinstance(value, Decimal):
        return f"{value:f}"  # as text throughout the column, with all digits
    return json_value(value, limits.PREVIEW_TEXT_LENGTH)
