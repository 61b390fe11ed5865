"""How values of each column type are ordered, hashed and converted to JSON. Sorting and counting run on plain numpy keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, cast

import numpy as np
import polars as pl

from workers.ml.json_values import json_value
from workers.ml.profiling.report import TEXT_LIMIT

Keys = np.ndarray[Any, np.dtype[Any]]
Hashes = np.ndarray[Any, np.dtype[np.uint64]]

_NAIVE_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - epoch of columns without a time zone
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_DAY: Final = date(1970, 1, 1)


@dataclass(frozen=True)
class Domain:
    """A column's type and the conversion of its keys to values."""

    name: str
    type: str
    to_json: Callable[[Any], Any]
    to_axis: Callable[[float], float] = float
    """Converts a key to its position on the histogram's axis."""
    has_order: bool = True
    """True if keys are the values themselves and sort like them; otherwise keys are hashes."""
    has_histogram: bool = True

    @property
    def is_number(self) -> bool:
        return self.type in {"INTEGER", "FLOAT", "DECIMAL"}

    @property
    def has_moments(self) -> bool:
        return self.is_number or self.type == "DURATION"

    def amounts(self, keys: Keys) -> Keys:
        """The numbers of which mean and standard deviation are computed; seconds for durations."""
        return keys / 1e6 if self.type == "DURATION" else keys

    def prepare(self, values: pl.Series) -> pl.Series:
        """Convert NaN to null, times and durations to microseconds and categories to text."""
        if values.dtype.is_float():
            return values.fill_nan(None)
        if isinstance(values.dtype, pl.Datetime | pl.Duration):
            return values.dt.cast_time_unit("us")
        if isinstance(values.dtype, pl.Categorical | pl.Enum):
            return values.cast(pl.String)
        return values

    def keys(self, filled: pl.Series) -> Keys:
        """Return the keys of values without nulls, in row order."""
        if filled.dtype.is_temporal():
            return filled.to_physical().cast(pl.Int64).to_numpy()
        if filled.dtype.is_float() or filled.dtype.is_decimal():
            return filled.cast(pl.Float64).to_numpy()
        if filled.dtype == pl.Boolean:
            return filled.cast(pl.UInt8).to_numpy()
        return filled.to_numpy() if filled.dtype == pl.UInt64 else filled.cast(pl.Int64).to_numpy()


def domain_of(name: str, dtype: pl.DataType, recorded_type: str | None) -> Domain:
    """Return the domain of a column; `recorded_type` is the ColumnType that the file's metadata holds."""

    def datetime_to_json(key: Any) -> str:
        epoch = _EPOCH if isinstance(dtype, pl.Datetime) and dtype.time_zone else _NAIVE_EPOCH
        return _iso_date(lambda: epoch + timedelta(microseconds=round(key)))

    if dtype.is_integer():
        return Domain(name, "INTEGER", int)
    if dtype.is_float():
        return Domain(name, "FLOAT", lambda key: json_value(float(key)))
    if dtype == pl.Boolean:
        return Domain(name, "BOOLEAN", bool, has_histogram=False)
    if dtype == pl.Date:
        return Domain(
            name, "DATE", lambda key: _iso_date(lambda: _FIRST_DAY + timedelta(days=round(key))), lambda key: float(key) * 86_400.0
        )
    if isinstance(dtype, pl.Datetime):
        return Domain(name, "DATETIME", datetime_to_json, lambda key: float(key) / 1e6)
    if dtype == pl.Time:
        return Domain(name, "TIME", _time_to_json, lambda key: float(key) / 1e9)
    if isinstance(dtype, pl.Duration):
        return Domain(name, "DURATION", lambda key: float(key) / 1e6, lambda key: float(key) / 1e6)
    if dtype.is_decimal():
        # As text, because a JSON number of 38 digits is rounded by most who read it. Distinct values are told by hashes, not as floats.
        return Domain(name, "DECIMAL", lambda value: value if isinstance(value, float) else f"{value:f}", has_order=False)
    if isinstance(dtype, pl.Categorical | pl.Enum):
        kind = "CATEGORY"
    elif dtype == pl.Binary:
        kind = "BINARY"
    elif dtype == pl.String:
        kind = recorded_type if recorded_type in {"JSON", "CATEGORY"} else "STRING"
    else:
        kind = "JSON" if dtype.is_nested() else "STRING"
    return Domain(name, kind, lambda value: json_value(value, TEXT_LIMIT), has_order=False)


def _time_to_json(key: Any) -> str:
    """ISO 8601 text of a time of day, from nanoseconds; the fraction is cut to microseconds."""
    seconds, nanoseconds = divmod(round(key), 1_000_000_000)
    return time(seconds // 3_600, seconds // 60 % 60, seconds % 60, nanoseconds // 1_000).isoformat()


def _iso_date(build: Callable[[], date]) -> str:
    """ISO 8601 text of a date. Parquet can hold years outside of Python's range; those are described in words."""
    try:
        return build().isoformat()
    except OverflowError:
        return "out of range (years 1 to 9999)"


def hashes(values: pl.Series, seed: int) -> Hashes:
    """Return a 64-bit hash of each value, nulls included. Equal values have equal hashes in every chunk of the column."""
    if values.dtype.is_nested():
        values = pl.Series(values.name, [str(value) for value in values], dtype=pl.String)
    mixed = cast("Hashes", values.hash(seed).to_numpy()).copy()
    # Finalizer of splitmix64 (Steele, Lea and Flood, 2014): without it, sums of hashes of neighbouring integers collide.
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed
