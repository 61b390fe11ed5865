"""Vectorised counting for the rule for numbers (`numbers`), over a block of text and the values parsed from it.

A block without a long number costs a minimum and a maximum; only the values that raise a doubt are looked at one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import polars as pl

from workers.ml.reading.first_bytes import FirstBytes, first_bytes
from workers.ml.reading.kept_as_text import WHOLE_WITH_PLUS
from workers.ml.reading.numbers import MAX_EXACT_FLOAT, MAX_INT64, MIN_INT64, NumberTally, is_exact_float
from workers.ml.reading.text_types import FLOAT, TextType, TypeTally

RowNumber = Callable[[int], int]
WHOLE: Final = r"^[+-]?\d+$"
_LEADING_ZERO: Final = r"^[+-]?0\d+(?:\.\d*)?(?:[eE][+-]?\d+)?$"
_EXACT_DIGITS: Final = 15
"""Any whole number of so many digits is exact as a double."""
_NOT_ZERO: Final = r"^[+-]?[0.,]*[1-9]"
_MINUS: Final = r"^-[\d.,]"
_PLAIN_FRACTION: Final = r"^[+-]?\d*\.?\d*$"


def check_integers(values: pl.Series, text: pl.Series, tally: TypeTally, row_number: RowNumber) -> None:
    low, high = values.min(), values.max()
    if not isinstance(low, int) or not isinstance(high, int):
        return
    numbers = tally.numbers
    numbers.whole_digits = max(numbers.whole_digits, len(str(abs(low))), len(str(abs(high))))
    if numbers.inexact is None and (low < -MAX_EXACT_FLOAT or high > MAX_EXACT_FLOAT):
        is_inexact = (values.cast(pl.Float64).cast(pl.Int64, strict=False) != values).fill_null(value=True) & values.is_not_null()
        if is_inexact.any():
            index = is_inexact.arg_true()[0]
            numbers.inexact = row_number(index), text[index]


def check_floats(kind: TextType, values: pl.Series, text: pl.Series, tally: TypeTally, row_number: RowNumber) -> pl.Series | None:
    """Return which values no double holds, infinite or zero while the text is not, or None. `values` are without NaN."""
    low, high = values.min(), values.max()
    if not isinstance(low, float) or not isinstance(high, float):
        return None
    is_beyond: pl.Series | None = None
    if low == float("-inf") or high == float("inf"):
        # Digits that become an infinity are an identifier like 101E010031 rather than a number.
        is_beyond = values.is_infinite() & text.str.contains(r"\d")
        tally.notes.add_infinite(values.set(is_beyond.fill_null(value=False), None), row_number)
    if low <= 0 <= high:
        zeros = (values == 0).arg_true()
        if zeros.len() and text.gather(zeros).str.contains(_NOT_ZERO).any():
            is_tiny = (values == 0) & text.str.contains(_NOT_ZERO)
            is_beyond = is_tiny if is_beyond is None else is_beyond | is_tiny
    if is_beyond is not None and (places := is_beyond.arg_true()).len():
        tally.numbers.add_beyond_floats(row_number(places[0]), text[places[0]])
    if tally.numbers.inexact is None and (low <= -MAX_EXACT_FLOAT or high >= MAX_EXACT_FLOAT):
        indices = ((values.abs() >= MAX_EXACT_FLOAT) & values.is_finite()).arg_true()
        _note_inexact(text.gather(indices), kind, tally.numbers, lambda index: row_number(indices[index]))
    return is_beyond


def check_leading_marks(kind: TextType, text: pl.Series, tally: TypeTally, row_number: RowNumber) -> None:
    """Note leading zeros, and plus and minus signs."""
    if tally.leading_zeros is not None:
        return
    # Regular expressions cost as much as parsing, so the first bytes choose the few texts that they look at.
    first = first_bytes(text)
    if not tally.has_minus:
        _note_signs(text, first, tally, row_number)
    if kind.parse_format is None:
        may_match = (first & 0xF0FF) == 0x3030  # "0" and a digit
        may_match |= (first & 0xF0FFF9) == 0x303029  # the same behind a sign
    else:
        may_match = ((first & 0xFF) == 0x30) & ((first & 0xFF00) != 0)  # "0" and more: a group mark may follow
        may_match |= (first & 0xFFF9) == 0x3029
    indices = pl.Series(np.flatnonzero(may_match))
    if indices.len():
        indices = indices.filter(kind.plain_values(text.gather(indices)).str.contains(_LEADING_ZERO))
        if indices.len():
            tally.leading_zeros = row_number(indices[0]), text[indices[0]]


def _note_signs(text: pl.Series, first: FirstBytes, tally: TypeTally, row_number: RowNumber) -> None:
    """Note whether a number has a minus; a plus counts only while none has."""
    minus = np.flatnonzero((first & 0xFF) == 0x2D)
    tally.has_minus = bool(minus.size) and bool(text.gather(minus).str.contains(_MINUS).any())
    if tally.first_plus is None:
        indices = pl.Series(np.flatnonzero((first & 0xFF) == 0x2B))
        if indices.len():
            indices = indices.filter(text.gather(indices).str.contains(WHOLE_WITH_PLUS))
        if indices.len():
            tally.first_plus = row_number(indices[0]), text[indices[0]]


def count_numbers(kind: TextType, unparsed: pl.Series, tally: TypeTally, row_number: RowNumber) -> pl.Series:
    """Count the numbers among values that did not parse as INTEGER or DECIMAL; return which they are."""
    plain = kind.plain_values(unparsed)
    is_whole = plain.str.contains(WHOLE).fill_null(value=False)
    if is_whole.any():
        indices = is_whole.arg_true()
        wide = plain.gather(indices)
        note_wide(wide, unparsed.gather(indices), tally.numbers, lambda index: row_number(indices[index]))
        check_leading_marks(FLOAT, wide, tally, lambda index: row_number(indices[index]))
    is_fraction = plain.to_frame("v").select(FLOAT.parse(pl.col("v"))).to_series().is_not_null() & ~is_whole
    if is_fraction.any():
        _count_fractions(plain.filter(is_fraction), tally.numbers)
    return is_whole | is_fraction


def note_wide(plain: pl.Series, written: pl.Series, numbers: NumberTally, row_number: RowNumber) -> None:
    """Add whole numbers of which some may be beyond 64 bits; `plain` are their digits with a sign."""
    digits = plain.to_frame("v").select(pl.col("v").str.strip_chars_start("+-0").str.len_bytes().max()).item()
    numbers.whole_digits = max(numbers.whole_digits, digits if isinstance(digits, int) else 0)
    if not isinstance(digits, int) or digits <= _EXACT_DIGITS:
        return
    if numbers.beyond_int64 is None:
        beyond = plain.cast(pl.Int64, strict=False).is_null().arg_true()
        if beyond.len():
            numbers.beyond_int64 = row_number(beyond[0]), written[beyond[0]]
    if numbers.inexact is None:
        _note_inexact(written, None, numbers, row_number, plain)


def _note_inexact(
    written: pl.Series, kind: TextType | None, numbers: NumberTally, row_number: RowNumber, plain: pl.Series | None = None
) -> None:
    if plain is None:
        assert kind is not None  # how to read `written`
        plain = kind.plain_values(written.str.strip_chars())
    for index in plain.str.contains(WHOLE).fill_null(value=False).arg_true():
        text = plain[index]
        if len(text) > 400 or not is_exact_float(int(text)):
            numbers.inexact = row_number(index), written[index]
            return


def _count_fractions(plain: pl.Series, numbers: NumberTally) -> None:
    is_plain = plain.str.contains(_PLAIN_FRACTION)
    simple = plain.filter(is_plain).str.strip_chars_start("+-")
    numbers.fractions += simple.len()
    if simple.len():
        point = simple.str.find(".", literal=True)
        fraction, whole = (simple.str.len_bytes().cast(pl.Int64) - point.cast(pl.Int64) - 1).max(), point.max()
        numbers.fraction_digits = max(numbers.fraction_digits, fraction if isinstance(fraction, int) else 0)
        numbers.whole_digits = max(numbers.whole_digits, whole if isinstance(whole, int) else 0)
    others = plain.filter(~is_plain)
    if others.len():
        numbers.add_fractions(others.unique().to_list())


def whole_kind(kind: TextType, text: pl.Series) -> NumberTally | None:
    """Tally the first block of a column of whole numbers; None if it has a value with a point or an exponent."""
    column = kind.plain(pl.col("v").str.strip_chars())
    value = column.cast(pl.Float64, strict=False)
    is_number = value.is_not_null() & value.is_not_nan()
    frame = text.to_frame("v").select(pl.col("v").filter(is_number), column.filter(is_number).alias("plain"))
    if not frame["plain"].str.contains(WHOLE).all():
        return None
    numbers = NumberTally()
    note_wide(frame["plain"], frame["v"], numbers, lambda index: index)
    return numbers


def is_within_int64(value: int) -> bool:
    return MIN_INT64 <= value <= MAX_INT64
