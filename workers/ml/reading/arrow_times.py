"""Arrow's times with nanoseconds. Python's types and our columns have microseconds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import polars as pl
import pyarrow as pa

from workers.ml.reading.clock import clock_text


def has_nanoseconds(declared: pa.DataType) -> bool:
    is_temporal = pa.types.is_timestamp(declared) or pa.types.is_time64(declared) or pa.types.is_duration(declared)
    return is_temporal and declared.unit == "ns"


def nested_with_exact_times(values: pa.Array) -> pa.Array:
    """Cast the nanoseconds inside of lists, structs and maps to microseconds, or to text if that would lose digits."""
    in_microseconds = _replace_nanoseconds(values.type, _in_microseconds)
    if in_microseconds == values.type:
        return values
    try:
        return values.cast(in_microseconds)
    except pa.ArrowInvalid:
        return values.cast(_replace_nanoseconds(values.type, lambda _: pa.string()))


def _in_microseconds(declared: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(declared):
        return pa.timestamp("us", declared.tz)
    return pa.time64("us") if pa.types.is_time64(declared) else pa.duration("us")


def _replace_nanoseconds(declared: pa.DataType, replacement: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    def replaced(kind: pa.DataType) -> pa.DataType:
        return _replace_nanoseconds(kind, replacement)

    if has_nanoseconds(declared):
        return replacement(declared)
    if pa.types.is_list(declared):
        return pa.list_(declared.value_field.with_type(replaced(declared.value_type)))
    if pa.types.is_large_list(declared):
        return pa.large_list(declared.value_field.with_type(replaced(declared.value_type)))
    if pa.types.is_map(declared):
        return pa.map_(replaced(declared.key_type), replaced(declared.item_type))
    if pa.types.is_struct(declared):
        return pa.struct([field.with_type(replaced(field.type)) for field in declared])
    return declared


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
