"""Arrow's times with nanoseconds. Python's types and our columns have microseconds."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pyarrow as pa

from workers.ml.reading.clock import clock_text


def has_nanoseconds(declared: pa.DataType) -> bool:
    is_temporal = pa.types.is_timestamp(declared) or pa.types.is_time64(declared) or pa.types.is_duration(declared)
    return is_temporal and declared.unit == "ns"


def first_finer(values: pa.Array) -> tuple[int, int] | None:
    """Return how many values have digits beyond microseconds and the place of the first; None if none has."""
    indices = (pl.Series(values).to_physical() % 1_000 != 0).arg_true()
    return (indices.len(), indices[0]) if indices.len() else None


def exact_times(values: pa.Array, name: str) -> pl.Series:
    """Write times as text with all of their digits."""
    if pa.types.is_duration(values.type):
        parts = [None if item is None else divmod(item, 1_000) for item in pl.Series(values).to_physical()]
        texts = [None if part is None else _duration_text(*part) for part in parts]
        return pl.Series(name, texts, dtype=pl.String)
    if pa.types.is_timestamp(values.type) and values.type.tz:
        values = values.cast(pa.timestamp("ns", "UTC"))
    return pl.Series(name, values.cast(pa.string()))


def _duration_text(microseconds: int, nanoseconds: int) -> str:
    if microseconds < 0 and nanoseconds:
        return "-" + _duration_text(-microseconds - 1, 1_000 - nanoseconds)
    text = clock_text(timedelta(microseconds=microseconds))
    return text if not nanoseconds else f"{text}{'' if '.' in text else '.000000'}{nanoseconds:03}"
