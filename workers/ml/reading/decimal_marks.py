"""The decimal mark of a file of text: one mark a file, decided by the values that allow only one reading.

4,50 has a decimal comma and 4.50 a decimal point; 1.234.567 has points between thousands and so a decimal comma. 5.148 alone allows both
readings: it follows the other values of the file. If no value decides, the mark is assumed, and the columns that depend on it are named.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import polars as pl

from workers.ml import limits
from workers.ml.reading.reader_state import ReaderState

_NUMBER: Final = r"^[+-]?(?:\d[\d.,]*|[.,]\d+)(?:[eE][+-]?\d+)?$"
_OPEN: Final = r"^[+-]?[1-9]\d{0,2}[.,]\d{3}$"
_SAMPLE_ROWS: Final = 2_000


def _decides(mark: str) -> str:
    """A pattern of numbers that can only have this decimal mark; no number matches the patterns of both marks."""
    decimal, group = f"[{mark}]", "[.]" if mark == "," else "[,]"
    return (
        rf"^[+-]?(?:\d*{decimal}(?:\d{{1,2}}|\d{{4,}})|0*{decimal}\d+|\d{{4,}}{decimal}\d*|\d+{decimal}|\d*{decimal}\d+[eE][+-]?\d+"
        rf"|\d{{1,3}}(?:{group}\d{{3}})+{decimal}\d*|\d{{1,3}}(?:{group}\d{{3}}){{2,}})$"
    )


_DECIDES: Final = {mark: _decides(mark) for mark in ".,"}


@dataclass(frozen=True)
class DecimalMark:
    """`mark` is "." or ","; `assumed` are the columns whose values could have either, if nothing in the file decides."""

    mark: str = "."
    assumed: tuple[str, ...] = ()
    contrary: tuple[str, ...] = ()
    """Columns whose numbers can only have the other mark; they stay text."""

    def state(self) -> ReaderState:
        return {"mark": self.mark, "assumed": self.assumed, "contrary": self.contrary}

    @classmethod
    def from_state(cls, state: ReaderState) -> DecimalMark:
        return cls(state["mark"], tuple(state["assumed"]), tuple(state["contrary"]))


def detect_decimal_mark(frame: pl.DataFrame, delimiter: str) -> DecimalMark:
    """Decide by the first block of a table of text."""
    deciding: dict[str, list[str]] = {".": [], ",": []}
    undecided: dict[str, list[str]] = {".": [], ",": []}
    for name in frame.columns:
        values = _marked_numbers(frame[name])
        if values is None:
            continue
        counts = {mark: int(values.str.contains(pattern).sum()) for mark, pattern in _DECIDES.items()}
        if any(counts.values()):
            deciding["." if counts["."] >= counts[","] else ","].append(name)
        elif values.str.contains(_OPEN).sum() >= limits.MIN_PROPOSAL_SHARE * values.len():
            undecided["." if values.str.contains(".", literal=True).any() else ","].append(name)
    points, commas = len(deciding["."]), len(deciding[","])
    if points or commas:
        mark = "." if points > commas or (points == commas and delimiter == ",") else ","
        return DecimalMark(mark, contrary=tuple(deciding["," if mark == "." else "."]))
    # Between commas, numbers have points: a decimal comma would have to be quoted. Elsewhere a lone comma is rather a decimal one.
    if delimiter == "," or undecided["."] or not undecided[","]:
        return DecimalMark(".", tuple(undecided[","] if delimiter == "," else undecided["."] + undecided[","]))
    return DecimalMark(",", tuple(undecided[","]))


def _marked_numbers(values: pl.Series) -> pl.Series | None:
    """The values with a point or a comma of a column of numbers, or None. A sample answers unless all of it is open."""
    column = pl.col("v")
    sample = values.to_frame("v").select(column.drop_nulls().head(_SAMPLE_ROWS).str.strip_chars())
    sample = sample.with_columns(is_number=column.str.contains(_NUMBER), is_marked=column.str.contains("[.,]"))
    if not sample.height or sample["is_number"].sum() < limits.MIN_PROPOSAL_SHARE / 2 * sample.height:
        return None
    if not sample["is_marked"].any() and values.len() <= _SAMPLE_ROWS:
        return None
    marked = sample.filter("is_number", "is_marked")["v"]
    if marked.len() and not marked.str.contains(_OPEN).all():
        return marked
    if values.len() <= _SAMPLE_ROWS:
        return marked if marked.len() else None
    marked = values.filter(values.str.contains(r"^\s*[+-]?[\d.,]*[.,]\d*"))
    return marked.str.strip_chars() if marked.len() else None
