"""Words that mean a missing value."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import polars as pl

# The defaults of pandas.read_csv, plus "Null".
_DEFAULT_WORDS: Final = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL", "Null", "NaN",
    "None", "n/a", "nan", "null",
    # Invisible characters alone.
    "\u200b", "\u2060", "\ufeff",
)  # fmt: skip
_DEFAULT_PLACEHOLDERS: Final = ("?", "-", "--", ".", "*")


@dataclass(frozen=True)
class MissingWords:
    """`words` are missing in every column; `placeholders` also in columns of numbers, booleans or times, and text elsewhere."""

    words: tuple[str, ...] = _DEFAULT_WORDS
    placeholders: tuple[str, ...] = _DEFAULT_PLACEHOLDERS

    @classmethod
    def only(cls, words: list[str]) -> MissingWords:
        """The words that a user gave, in place of the defaults; an empty cell is missing in any case."""
        return cls(("", *words), ())

    def in_text(self, text: pl.Expr) -> pl.Expr:
        return (text.str.len_bytes() <= self._longest) & text.is_in(self._words)

    @cached_property
    def _longest(self) -> int:
        return max(len(word.encode()) for word in self.words)

    @cached_property
    def _words(self) -> pl.Series:
        return pl.Series([list(self.words)], dtype=pl.List(pl.String))

    @cached_property
    def all(self) -> pl.Series:
        """One list, for `is_in`."""
        return pl.Series([[*self.words, *self.placeholders]], dtype=pl.List(pl.String))


DEFAULT: Final = MissingWords()
