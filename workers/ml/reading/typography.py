"""Numbers as typography writes them: U+2212 for minus, no-break or thin spaces and apostrophes between groups of three digits, digits of
other scripts, invisible characters around them; and lakhs, 12,34,567.00 with groups of two digits before the last, as in India.

They are read as numbers, and an issue says so. An ordinary space may as well stand between the parts of an identifier: such text is text.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

import polars as pl

_GROUP: Final = "\u00a0"
_MINUS: Final = "\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d"
_GROUP_MARKS: Final = "\u00a0\u2007\u2008\u2009\u202f\u066c'\u2018\u2019\u02bc"
_INVISIBLE: Final = "\u200b\u200e\u200f\u2060\ufeff"
_OTHERS: Final = {"\ufe62": "+", "\uff0b": "+", "\uff0c": ",", "\uff0e": ".", "\u066b": "."}
_TABLE: Final = {
    **dict.fromkeys(map(ord, _MINUS), "-"),
    **dict.fromkeys(map(ord, _GROUP_MARKS), _GROUP),
    **dict.fromkeys(map(ord, _INVISIBLE), ""),
    **{ord(character): plain for character, plain in _OTHERS.items()},
}
_GROUPED: Final = re.compile(rf"[+-]?\d{{1,3}}(?:{_GROUP}\d{{3}})+(?:[.,]\d*)?", re.ASCII)
_LAKHS: Final = re.compile(r"[+-]?\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d*)?", re.ASCII)
_UNGROUPED: Final = re.compile(r"[+-]?(?:\d[\d.,]*|[.,]\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_SUSPECT: Final = r"[^\x00-\x7f]|\d'\d|\d,\d\d,\d"
_SAMPLE_ROWS: Final = 200


def is_used(values: pl.Series) -> bool:
    """Whether a sample of a column has such a number."""
    sample = set(values.head(_SAMPLE_ROWS).to_list())
    return any(_plain(text.strip()) is not None for text in sample if text and not _is_plain(text))


def plain_numbers(values: pl.Series) -> pl.Series:
    """Rewrite such numbers with ASCII alone and without those groups; other texts stay as they are. `values` are without spaces around them."""
    suspects = values.str.contains(_SUSPECT).arg_true()
    if not suspects.len():
        return values
    texts = [_plain(text) or text for text in values.gather(suspects)]
    return values.clone().scatter(suspects, pl.Series(texts, dtype=pl.String))


def _is_plain(text: str) -> bool:
    return text.isascii() and "'" not in text and (text.count(",") < 2 or _LAKHS.fullmatch(text.strip()) is None)


def _plain(text: str) -> str | None:
    """The number with ASCII alone; None if it is none."""
    if len(text) > 1_000:
        return None
    translated = text.translate(_TABLE).strip()
    if not translated.isascii():
        translated = "".join(str(unicodedata.decimal(character, character)) for character in translated)
    if _LAKHS.fullmatch(translated):
        return translated.replace(",", "")
    if _UNGROUPED.fullmatch(translated):
        return translated
    return translated.replace(_GROUP, "") if _GROUPED.fullmatch(translated) else None
