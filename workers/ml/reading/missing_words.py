"""Words that mean a missing value."""

from __future__ import annotations

from dataclasses import dataclass
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
        longest = max(len(word.encode()) for word in self.words)
        return (text.str.len_bytes() <= longest) & text.is_in(list(self.words))

    @property
    def all(self) -> list[str]:
        return [*self.words, *self.placeholders]


DEFAULT: Final = MissingWords()
