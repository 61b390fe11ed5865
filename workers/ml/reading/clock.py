"""Durations and times of day written as text: 36:00:00, 06:00, 1:02:03.5, -0:30.

A column is TIME if all its values are times of day (less than 24 hours), and DURATION if one of them is not. A format that marks
durations, such as a number format of Excel, decides instead of the values.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import polars as pl

CLOCK: Final = r"^[+-]?\d{1,7}:[0-5]\d(?::[0-5]\d(?:[.,]\d{1,9})?)?$"
_PARTS: Final = r"^(?P<sign>[+-]?)(?P<hours>\d{1,7}):(?P<minutes>[0-5]\d)(?::(?P<seconds>[0-5]\d)(?:[.,](?P<fraction>\d{1,9}))?)?$"
_DAY: Final = 86_400_000_000


def parse_clock(text: pl.Expr, *, is_time: bool) -> pl.Expr:
    """Parse to Duration("us"), or to Time if the value is a time of day; null if it is not."""
    parts = text.str.extract_groups(_PARTS)

    def number(name: str) -> pl.Expr:
        return parts.struct.field(name).cast(pl.Int64, strict=False)

    fraction = parts.struct.field("fraction").str.pad_end(6, "0").str.slice(0, 6).cast(pl.Int64, strict=False).fill_null(0)
    magnitude = (number("hours") * 3_600 + number("minutes") * 60 + number("seconds").fill_null(0)) * 1_000_000 + fraction
    if not is_time:
        return pl.when(parts.struct.field("sign") == "-").then(-magnitude).otherwise(magnitude).cast(pl.Duration("us"))
    is_valid = (magnitude < _DAY) & (parts.struct.field("sign") == "")
    return (pl.when(is_valid).then(magnitude) * 1_000).cast(pl.Time)


def clock_text(value: timedelta) -> str:
    """Write a duration as text that `parse_clock` reads: [-]hours:minutes:seconds[.microseconds]."""
    microseconds = round(value / timedelta(microseconds=1))
    sign, microseconds = "-" if microseconds < 0 else "", abs(microseconds)
    seconds, fraction = divmod(microseconds, 1_000_000)
    minutes, seconds = divmod(seconds, 60)
    return f"{sign}{minutes // 60:02}:{minutes % 60:02}:{seconds:02}" + (f".{fraction:06}" if fraction else "")
