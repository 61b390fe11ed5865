"""Values for whose sake a column that looks like numbers or times is kept as text, and what users are told about it."""

from __future__ import annotations

import re
from typing import Final

import polars as pl

from workers.ml import limits
from workers.ml.reading.issues import short_repr
from workers.ml.reading.numbers import MAX_DIGITS, describe_long_number

FINER_THAN_MICROSECONDS: Final = r":\d\d[.,]\d{6}\d*[1-9]"
"""In a time: a digit beyond microseconds that is not zero."""
WHOLE_WITH_PLUS: Final = r"^\+\d+$"
_CURRENCY: Final = (
    r"(?:[A-Z]{0,3}\p{Sc}|AUD|BRL|CAD|CHF|CNY|CZK|DKK|EUR|GBP|HKD|HUF|INR|JPY|KRW|MXN|NOK|NZD|PLN|RMB|RUB|SEK|SGD|TRY|USD|ZAR"
    r"|S?Fr\.?|kr\.?|zł|Kč|Ft|руб\.?)"
)
_AMOUNT: Final = r"[+-]?(?:\d[\d.,'’\x{a0}\x{2009}\x{202f}]*(?: \d{3})*(?:[.,]\d+)?|[.,]\d+)"
_SPACE: Final = r"[ \x{a0}\x{2009}\x{202f}]?"
_MARKED: Final = rf"^(?:[+-]?{_CURRENCY}{_SPACE}{_AMOUNT}|{_AMOUNT}{_SPACE}(?:{_CURRENCY}|[%‰])|\({_CURRENCY}{_SPACE}{_AMOUNT}\))$"
_ACCOUNTED: Final = rf"^(?:\({_AMOUNT}\)|{_AMOUNT} ?-)$"
"""Negative amounts as accountants write them: in parentheses, or with the minus behind."""
_SPACED: Final = r"^[+-]?[1-9]\d{0,2}(?: \d{3})+(?:[.,]\d+)?$"
_MONTH: Final = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DATED: Final = (
    rf"(?i)^(?:\d{{1,2}}[ ./-]?{_MONTH},?[ ./-]?\d{{2,4}}|{_MONTH}[ -]\d{{1,2}},?[ -]\d{{4}}|\d{{2}}[./]\d{{2}}[./]\d{{2}}"
    r"|\d{1,4}[./-]\d{1,2}[./-]\d{1,4},? \d{1,2}:\d{2}(?::\d{2})? ?[ap]\.?m\.?)(?: \d{1,2}:\d{2}(?::\d{2})?)?$"
)
"""Dates with the name of the month, a year of two digits or a clock of twelve hours."""
_PLAIN: Final = rf"^{_AMOUNT}$"


def first_unread_number(text: pl.Series) -> int | None:
    """Return the place of the first amount of money, percentage or number of unusual form among such values, numbers and nulls; None for
    other texts."""
    sample = text.str.strip_chars()
    filled = sample.len() - sample.null_count()
    is_marked = sample.str.contains(f"{_MARKED}|{_ACCOUNTED}|{_SPACED}").fill_null(value=False)
    marked = int(is_marked.sum())
    if (
        not marked
        or marked + int((sample.str.contains(_PLAIN).fill_null(value=False) & ~is_marked).sum()) < limits.MIN_PROPOSAL_SHARE * filled
    ):
        return None
    return int(is_marked.arg_true()[0])


def first_unread_date(text: pl.Series) -> int | None:
    """Return the place of the first date among dates in forms that are not read, and nulls; None for other texts."""
    is_dated = text.str.strip_chars().str.contains(_DATED)
    dated = int(is_dated.sum())
    return int(is_dated.arg_true()[0]) if dated and dated >= limits.MIN_PROPOSAL_SHARE * (text.len() - text.null_count()) else None


def describe_kept_as_text(column: str, row: int, value: str) -> str:
    """Say why a column is text, by the value in `row`, and what to do if it should not be."""
    text = value.strip()
    place = f"Column {column!r} is kept as text: {short_repr(value)} in row {row}"
    if re.search(FINER_THAN_MICROSECONDS, text):
        return (
            f"{place} has digits beyond microseconds, which a time would not preserve. To cut them, give the column the type DATETIME, TIME or "
            "DURATION when you upload the file."
        )
    if text.endswith(("%", "‰")):
        return f"{place} has a percent sign. Write the number alone, as 12.5 or as the share 0.125, and upload the file again."
    if pl.Series([text]).str.contains(_MARKED).item():
        return (
            f"{place} is an amount of money. Write the number alone, with the currency in the column's name or in a column of its own, and upload "
            "the file again."
        )
    if pl.Series([text]).str.contains(_SPACED).item():
        return f"{place} has spaces between its digits, and may be an identifier. If it is a number, write it without spaces and upload the file again."
    if pl.Series([text]).str.contains(_ACCOUNTED).item():
        return f"{place} is written as accounts write a negative amount. Write it with a minus in front, as -1234.5, and upload the file again."
    if pl.Series([text]).str.contains(_DATED).item():
        return f"{place} looks like a date in a form that is not read. Write dates as 2024-12-31 and times as 2024-12-31 14:30:00, and upload the file again."
    if re.match(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}", text):
        return (
            f"{place} is not written like its other dates and times: some have a time of day or an offset, and some have not. Write all of them "
            "alike, or give the column the type DATE or DATETIME when you upload the file; what does not fit is then missing."
        )
    if text.lstrip("+-").startswith("0"):
        return f"{place} has leading zeros, which a number would not preserve."
    if re.fullmatch(WHOLE_WITH_PLUS, text) and len(text) <= MAX_DIGITS:
        return (
            f"{place} has a plus sign, as telephone numbers have, which a number would not preserve, and no value has a minus sign. If they are "
            "numbers, give the column the type INTEGER when you upload the file."
        )
    return describe_long_number(column, row, value)
