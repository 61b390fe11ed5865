"""Rows that look like something else than data: units under the header, a sum, a note or a control record at the end.

They are read as data, because nothing in the file says what they are; an issue names them.
"""

from __future__ import annotations

import re
from typing import Final

import polars as pl

from workers.ml.reading.issues import IssueLog, short_repr
from workers.ml.reading.reader_state import ReaderState

_FOOTER: Final = re.compile(
    r"""\W*(?:
    (?:(?:grand|sub|overall)[ -]?)?
    (?:totals?|sum|summe|gesamt(?:summe|ergebnis)?|zwischensumme|insgesamt|somme|totale|suma|soma|totaal|итого|всего|合計|合计|总计|總計|小計|小计|average|mean
      |mittelwert|durchschnitt|moyenne)(?:\W[\W\d]*)?
    |(?:sources?|quellen?|fuente|fonte|notes?|remarks?|hinweis|stand|rows|records|lines|count)\s*:.*
    |(?:end\ of\ (?:file|data|report)|eof|eod|trailer|trl|footer)
    |page\W*\d+(?:\ (?:of|von)\ \d+)?
    |\d+\ (?:rows?|records?|lines?|entries|zeilen|lignes)\b.*
    )\W*|\#(?:\s+\S.*)?""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
_MIN_CONSTANT_ROWS: Final = 10
_MAX_TEXT: Final = 200


class LastRow:
    """Follows the blocks of a table to the last row."""

    def __init__(self) -> None:
        self._row = 0
        self._cell: str | None = None
        self._has_gap = False
        self._constant: str | None = None
        """What all rows before the last have in the first column of text; None if they differ."""

    def state(self) -> ReaderState:
        return dict(vars(self))

    @classmethod
    def from_state(cls, state: ReaderState) -> LastRow:
        last = cls()
        vars(last).update(state)
        return last

    def add(self, frame: pl.DataFrame, column: str, last_row: int) -> None:
        """Add a block; `column` is the first one of text."""
        first = frame[column]
        cell = first[-1]
        self._follow_constant(first)
        self._row, self._cell = last_row, None if cell is None else cell[:_MAX_TEXT]
        self._has_gap = None in frame.row(-1)

    def _follow_constant(self, first: pl.Series) -> None:
        if self._row == 0:
            self._constant = first[0] if first[0] is not None and len(first[0]) < _MAX_TEXT else None
        elif self._cell != self._constant:
            self._constant = None
        body = first.head(first.len() - 1)
        if self._constant is None or (
            body.len() and (body[-1] != self._constant or not (body == self._constant).fill_null(value=False).all())
        ):
            self._constant = None

    def add_issue(self, log: IssueLog) -> None:
        cell = self._cell
        if cell is None or self._row < 3:
            return
        is_control = self._constant is not None and cell != self._constant and self._has_gap and self._row > _MIN_CONSTANT_ROWS
        if is_control or _FOOTER.fullmatch(cell.strip()):
            log.add(
                "FOOTER_ROW",
                f"The last row, row {self._row}, begins with {short_repr(cell)}: it looks like a sum, a note or a control record rather than "
                "data. It was read as data; delete it from the file if it is none.",
                row=self._row,
            )


def add_units_issue(log: IssueLog, units: dict[str, str]) -> None:
    """`units` are the texts of row 1 in columns whose other values are all of one type that is not text."""
    if not units:
        return
    listed = ", ".join(f"{name!r}: {short_repr(text, 40)}" for name, text in list(units.items())[:5]) + (", …" if len(units) > 5 else "")
    log.add(
        "UNITS_ROW",
        f"Row 1 looks like units or labels rather than data ({listed}): its texts keep {'a column' if len(units) == 1 else 'columns'} text whose "
        "other values are not. Delete the row, or give the types of the columns when you upload the file; these cells are then missing.",
        column=next(iter(units)) if len(units) == 1 else None,
        row=1,
    )
