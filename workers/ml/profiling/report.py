"""Structure of a profile, as served by `DatasetProfile` and `ColumnProfile`."""

from __future__ import annotations

from typing import Any, Final, TypedDict

QUANTILES: Final = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
BINS: Final = 30
TOP_VALUES: Final = 10
TEXT_LIMIT: Final = 200


class Bin(TypedDict):
    """One histogram bin, [lower, upper); the last one includes `upper`."""

    lower: float
    upper: float
    count: int


class ValueCount(TypedDict):
    value: Any
    count: int


class ColumnReport(TypedDict):
    """`infinite_count` is among the values that are not missing, and null where no value can be infinite;
    `quantiles` maps shares such as "0.25" to values; null for columns of a type without quantiles."""

    name: str
    type: str
    missing_count: int
    infinite_count: int | None
    distinct_count: int
    min: Any
    max: Any
    mean: float | None
    standard_deviation: float | None
    quantiles: dict[str, Any] | None
    histogram: list[Bin]
    top_values: list[ValueCount]


class ProfileReport(TypedDict):
    """`generation_time` is in seconds; `correlations` is {"method": "pearson", "columns": [...], "matrix": [[...]]}."""

    profiler_version: str
    is_exact: bool
    row_count: int
    duplicate_row_count: int
    missing_cell_ratio: float
    generation_time: float
    columns: list[ColumnReport]
    correlations: dict[str, Any]
