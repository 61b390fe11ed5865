"""The values of columns as texts, with all their digits, that an ingest reads back: ISO 8601, decimals, clock times, Base64."""

from __future__ import annotations

import polars as pl

_SECOND, _MINUTE, _HOUR = 1_000_000, 60_000_000, 3_600_000_000


def as_text(name: str, dtype: pl.DataType) -> pl.Expr:
    """The text of each value; null stays null, and NaN and infinities are NaN, inf and -inf."""
    column = pl.col(name)
    match dtype:
        case pl.Boolean():
            return column.cast(pl.String)
        case pl.Datetime(time_zone=zone):
            text = (column if zone is None else column.dt.convert_time_zone("UTC")).dt.strftime("%Y-%m-%dT%H:%M:%S%.f")
            return text if zone is None else text + "Z"
        case pl.Date():
            return column.dt.strftime("%Y-%m-%d")
        case pl.Time():
            return column.dt.strftime("%H:%M:%S%.f")
        case pl.Duration():
            return _clock(column.dt.total_microseconds())
        case pl.Binary():
            return column.bin.encode("base64")
        case _:
            return column.cast(pl.String)


def _clock(microseconds: pl.Expr) -> pl.Expr:
    size = microseconds.abs()

    def two_digits(value: pl.Expr) -> pl.Expr:
        return value.cast(pl.String).str.pad_start(2, "0")

    fraction = size % _SECOND
    return (
        pl.when(microseconds < 0).then(pl.lit("-")).otherwise(pl.lit(""))
        + two_digits(size // _HOUR)
        + ":"
        + two_digits(size // _MINUTE % 60)
        + ":"
        + two_digits(size // _SECOND % 60)
        + pl.when(fraction > 0).then("." + fraction.cast(pl.String).str.pad_start(6, "0")).otherwise(pl.lit(""))
    )


def is_text(dtype: pl.DataType) -> bool:
    return dtype == pl.String or isinstance(dtype, pl.Categorical | pl.Enum)
