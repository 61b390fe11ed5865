"""What was done to the values of a column without changing its type: words taken for missing,
unusual spellings of numbers, infinities, and digits of times that were cut. Each becomes an issue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from workers.ml.reading.issues import IssueLog, short_repr
from workers.ml.reading.reader_state import ReaderState

_MAX_WORDS: Final = 100


@dataclass
class ValueNotes:
    """Counts of one column; rows are the first of their kind."""

    words: Counter[str] = field(default_factory=Counter)
    word_row: int | None = None
    infinite: int = 0
    infinite_row: int | None = None
    respelled: int = 0
    """Numbers of `typography`."""
    first_respelled: tuple[int, str, str] | None = None
    """Row, text and number."""
    finer: int = 0
    """Times with digits beyond microseconds, which are cut."""
    first_finer: tuple[int, str] | None = None

    def add_respelled(self, texts: pl.Series, plain: pl.Series, indices: pl.Series, row_number: Callable[[int], int]) -> None:
        self.respelled += texts.len()
        if self.first_respelled is None and texts.len():
            self.first_respelled = row_number(indices[0]), texts[0], plain[0]

    def add_finer(self, count: int, row: int, text: str) -> None:
        """Add times with digits beyond microseconds; `row` and `text` are those of the first."""
        self.finer += count
        self.first_finer = self.first_finer or (row, text)

    def add_words(self, words: pl.Series, indices: pl.Series, row_number: Callable[[int], int]) -> None:
        """Add values that were taken for missing; an empty cell is no word. `indices` are their places in the frame."""
        is_word = words.str.strip_chars() != ""
        if not is_word.any():
            return
        first = row_number(indices.filter(is_word)[0])
        self.word_row = first if self.word_row is None else self.word_row
        counts = words.filter(is_word).str.strip_chars().value_counts()
        for word, count in counts.head(_MAX_WORDS).iter_rows():
            self.words[word] += count

    def add_word(self, word: str, row: int) -> None:
        self.words[word] += 1
        self.word_row = row if self.word_row is None else self.word_row

    def add_infinite(self, values: pl.Series, row_number: Callable[[int], int]) -> None:
        indices = values.is_infinite().arg_true()
        self.infinite += indices.len()
        if self.infinite_row is None and indices.len():
            self.infinite_row = row_number(indices[0])

    def add_issues(self, column: str, log: IssueLog) -> None:
        if self.words:
            total = self.words.total()
            listed = ", ".join(
                f"{short_repr(word)} {count:,} times"
                for word, count in sorted(self.words.items(), key=lambda item: (-item[1], item[0]))[:5]
            )
            log.add(
                "MISSING_WORDS",
                f"Column {column!r}: {total:,} {'value was' if total == 1 else 'values were'} taken for missing ({listed}), the first in row "
                f"{self.word_row}. If they are values, give the words that mean missing when you upload the file.",
                column=column,
                row=self.word_row,
            )
        if self.first_respelled is not None:
            row, text, plain = self.first_respelled
            log.add(
                "NUMBER_SPELLING",
                f"Column {column!r} has {self.respelled:,} {'number' if self.respelled == 1 else 'numbers'} with signs, digits or group marks of "
                f"typography: {short_repr(text)} in row {row} was read as {plain}. If that is wrong, give the column's type when you upload the file.",
                column=column,
                row=row,
            )
        if self.first_finer is not None:
            row, text = self.first_finer
            log.add(
                "DIGITS_CUT",
                f"Column {column!r} has {self.finer:,} {'time' if self.finer == 1 else 'times'} with digits beyond microseconds, the first of which is "
                f"{short_repr(text)} in row {row}. Those digits were cut; give the column the type STRING when you upload the file to keep them.",
                column=column,
                row=row,
            )
        if self.infinite:
            log.add(
                "INFINITE_VALUES",
                f"Column {column!r} has {self.infinite:,} infinite {'value' if self.infinite == 1 else 'values'}, the first in row "
                f"{self.infinite_row}. They are kept, and left out of histogram and correlations; training refuses them.",
                column=column,
                row=self.infinite_row,
            )

    def state(self) -> ReaderState:
        return {**vars(self), "words": dict(self.words)}

    @classmethod
    def from_state(cls, state: ReaderState) -> ValueNotes:
        firsts = {name: None if state.get(name) is None else tuple(state[name]) for name in ("first_respelled", "first_finer")}
        values: dict[str, Any] = {**state, "words": Counter(state["words"]), **firsts}
        return cls(**values)
