"""The rule for numbers, the same in every format.

Whole numbers are INTEGER where 64 bits hold all of them, DECIMAL where 38 digits do, and text otherwise. A column with a value that is
written with a point or an exponent is FLOAT, if a double holds each of its whole numbers exactly; otherwise it is DECIMAL where all
values are exact in 38 digits, and text where they are not. So no digit of a whole number is ever lost. Text with an exponent that no double
holds, because it is too large (204E020041) or too near to zero (1e-400), is rather an identifier: its column is text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal

import polars as pl

from workers.ml.reading.issues import short_repr
from workers.ml.reading.reader_state import ReaderState

MAX_DIGITS: Final = 38
"""Digits of a 128-bit decimal, in Parquet and in Arrow."""
MIN_INT64: Final = -(1 << 63)
MAX_INT64: Final = (1 << 63) - 1
MAX_EXACT_FLOAT: Final = 1 << 53
"""Whole numbers up to here are exact as doubles."""

NumberKind = Literal["INTEGER", "FLOAT", "DECIMAL", "STRING"]


@dataclass
class NumberTally:
    """What the numbers of a column need; positions are (row, text as written)."""

    fractions: int = 0
    """Values written with a point or an exponent."""
    whole_digits: int = 0
    fraction_digits: int = 0
    beyond_int64: tuple[int, str] | None = None
    inexact: tuple[int, str] | None = None
    """The first whole number that a double changes."""
    is_unlimited: bool = False
    """True with an infinity, or an exponent beyond 38 digits: no DECIMAL."""

    def add_whole(self, value: int, row: int, text: str | None = None) -> None:
        if -MAX_EXACT_FLOAT <= value <= MAX_EXACT_FLOAT:
            self.whole_digits = max(self.whole_digits, len(str(abs(value))))
            return
        written = str(value) if text is None else text
        self.whole_digits = max(self.whole_digits, len(written.lstrip("+-").lstrip("0")))
        if self.beyond_int64 is None and not MIN_INT64 <= value <= MAX_INT64:
            self.beyond_int64 = row, written
        if self.inexact is None and not is_exact_float(value):
            self.inexact = row, written

    def add_fractions(self, texts: Iterable[str]) -> None:
        """Add values with a point or an exponent, in plain notation with a decimal point."""
        for text in texts:
            self.fractions += 1
            whole, fraction = decimal_digits(text)
            if whole + fraction > 2 * MAX_DIGITS:
                self.is_unlimited = True
            self.whole_digits, self.fraction_digits = max(self.whole_digits, whole), max(self.fraction_digits, fraction)

    def add_beyond_floats(self, row: int, text: str) -> None:
        """Add a value with a point or an exponent that no double holds: it would become infinite, or zero."""
        self.fractions += 1
        self.is_unlimited = True
        self.inexact = self.inexact or (row, text)

    @property
    def kind(self) -> NumberKind:
        if self.fractions:
            if self.inexact is None:
                return "FLOAT"
        elif self.beyond_int64 is None:
            return "INTEGER"
        fits = not self.is_unlimited and self.whole_digits + self.fraction_digits <= MAX_DIGITS
        return "DECIMAL" if fits else "STRING"

    @property
    def lossy_value(self) -> tuple[int, str] | None:
        """The first value that keeps the column text; None unless it does."""
        return (self.inexact or self.beyond_int64) if self.kind == "STRING" else None

    def state(self) -> ReaderState:
        return dict(vars(self))

    @classmethod
    def from_state(cls, state: ReaderState) -> NumberTally:
        positions = {name: None if state[name] is None else (state[name][0], state[name][1]) for name in ("beyond_int64", "inexact")}
        values: dict[str, Any] = {**state, **positions}
        return cls(**values)


def describe_long_number(column: str, row: int, value: str) -> str:
    if "e" in value.lower() or value.lstrip("+-")[:2] in ("0.", "0,"):
        return (
            f"Column {column!r} is kept as text: {short_repr(value)} in row {row} is beyond the range of numbers (about 5e-324 to 1.8e308), "
            "and may be an identifier."
        )
    return (
        f"Column {column!r} is kept as text: {short_repr(value)} in row {row} has more digits than a number keeps here, which a number would "
        "not preserve."
    )


def is_exact_float(value: int) -> bool:
    try:
        return int(float(value)) == value
    except OverflowError:
        return False


def decimal_digits(text: str) -> tuple[int, int]:
    """Digits before and after the decimal point of a number in plain or exponential notation; many if it is infinite."""
    try:
        _, digits, exponent = Decimal(text).as_tuple()
    except InvalidOperation:
        return MAX_DIGITS + 1, MAX_DIGITS + 1
    if not isinstance(exponent, int):
        return MAX_DIGITS + 1, MAX_DIGITS + 1
    return max(len(digits) + exponent, 0), max(-exponent, 0)


def parse_decimals(texts: pl.Series, scale: int) -> pl.Series:
    """Parse numbers with a decimal point exactly; null for those that are no number or need more digits than DECIMAL(38, scale) has."""
    texts = texts.str.replace(r"^([+-]?)\.(\d)", "${1}0.${2}")
    plain = texts.str.contains(rf"^[+-]?0*\d{{1,{MAX_DIGITS - scale}}}" + (rf"(?:\.\d{{0,{scale}}})?$" if scale else "$"))
    dtype = pl.Decimal(MAX_DIGITS, scale)
    result = pl.select(pl.when(plain).then(texts.str.strip_chars_start("+"))).to_series().cast(dtype, strict=False)
    exponents = (texts.str.contains(r"^[+-]?\d*\.?\d+[eE][+-]?\d{1,3}$") | texts.str.contains(r"^[+-]?\d+\.[eE][+-]?\d{1,3}$")).fill_null(
        value=False
    ) & result.is_null()
    if exponents.any():
        indices = exponents.arg_true()
        values = [exact_decimal(text, scale) for text in texts.gather(indices)]
        result = result.scatter(indices, pl.Series(values, dtype=dtype))
    return result.rename(texts.name)


def exact_decimal(text: str, scale: int) -> Decimal | None:
    whole, fraction = decimal_digits(text)
    return Decimal(text) if fraction <= scale and whole <= MAX_DIGITS - scale else None
