"""Typed columns from JSON objects.

JSON values are typed, so a string is never read as a number or a boolean; strings become DATE, DATETIME, TIME or DURATION as text of
other formats does, and the same words are missing. Numbers follow the rule in `numbers`; objects and arrays are JSON, stored as text. If
a column mixes kinds and at least 99 % of its values are numbers (or booleans), the others become missing and are reported as issues;
otherwise the column is JSON if it holds an object or array, and text if not. Keys that first appear late in the file are columns, too.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import chain
from typing import Any, Final

import polars as pl

from workers.ml import limits
from workers.ml.errors import BadInput
from workers.ml.reading import json_numbers
from workers.ml.reading.column_names import check_width, clean_names, composed_name
from workers.ml.reading.issues import IssueLog, short_repr
from workers.ml.reading.json_numbers import WideNumber
from workers.ml.reading.numbers import MAX_DIGITS, MAX_EXACT_FLOAT, MAX_INT64, MIN_INT64, NumberTally, decimal_digits, describe_long_number
from workers.ml.reading.odd_rows import add_units_issue
from workers.ml.reading.reader_state import ReaderState
from workers.ml.reading.text_types import TextType, types_from_state, types_to_state
from workers.ml.reading.type_inference import TextRules, TypeInference
from workers.ml.reading.value_notes import ValueNotes

TEMPORAL_TYPES: Final = frozenset({"DATE", "DATETIME", "TIME", "DURATION"})
STRING_RULES: Final = TextRules(only=TEMPORAL_TYPES)
_DTYPES = {"INTEGER": pl.Int64(), "FLOAT": pl.Float64(), "BOOLEAN": pl.Boolean()}
_NOUNS = {"INTEGER": "an integer", "FLOAT": "a number", "DECIMAL": "a number", "BOOLEAN": "true or false"}
_ACCEPTED_TYPES: dict[str, frozenset[type]] = {
    "INTEGER": frozenset({int, type(None)}),
    "FLOAT": frozenset({int, float, type(None)}),
    "DECIMAL": frozenset({int, float, type(None)}),
    "BOOLEAN": frozenset({bool, type(None)}),
}
_SURVEY: Final = "SURVEY"
"""The kind of a column of numbers whose digits another pass counts; it is read as FLOAT meanwhile."""


class ObjectTable:
    """Determines the types of a table of objects over one or more passes; `begin_pass` starts each."""

    def __init__(self, rules: TextRules = STRING_RULES) -> None:
        self._rules = replace(rules, only=TEMPORAL_TYPES)
        self._kinds: dict[str, str] = {}
        """Kind by key, in the order of first appearance."""
        self._names: dict[str, str] = {}
        self._counts: dict[str, Counter[str]] = {}
        self._numbers: dict[str, NumberTally] = {}
        self._notes: dict[str, ValueNotes] = {}
        self._first_texts: dict[str, tuple[int, str]] = {}
        """The first string of each column, with its row."""
        self._scales: dict[str, int] = {}
        self._surveyed: set[str] = set()
        """Keys of which each pass counts all digits."""
        self._text_types: dict[str, TextType] | None = None
        self._type_inference: TypeInference | None = None
        self._has_kinds = False
        self._name_issues = IssueLog()
        self._value_issues = IssueLog()
        self._column_issues = IssueLog()
        self._text_issues = IssueLog()
        """About columns of text, of all passes."""

    def begin_pass(self) -> None:
        self._counts, self._numbers, self._notes, self._first_texts = {}, {}, {}, {}
        self._value_issues = IssueLog()
        self._type_inference = None

    def state(self) -> ReaderState:
        return {
            "kinds": self._kinds,
            "names": self._names,
            "counts": self._counts,
            "numbers": {key: tally.state() for key, tally in self._numbers.items()},
            "notes": {key: notes.state() for key, notes in self._notes.items()},
            "first_texts": self._first_texts,
            "scales": self._scales,
            "surveyed": sorted(self._surveyed),
            "text_types": types_to_state(self._text_types),
            "typist": None if self._type_inference is None else [self._type_inference.names, self._type_inference.state()],
            "issues": [log.state() for log in (self._name_issues, self._value_issues, self._column_issues, self._text_issues)],
        }

    def restore(self, state: ReaderState) -> None:
        """Restore a state taken in the middle of a pass; replaces `begin_pass`."""
        self._kinds, self._names, self._scales = dict(state["kinds"]), dict(state["names"]), dict(state["scales"])
        self._surveyed = set(state["surveyed"])
        self._counts = {key: Counter(counts) for key, counts in state["counts"].items()}
        self._numbers = {key: NumberTally.from_state(tally) for key, tally in state["numbers"].items()}
        self._notes = {key: ValueNotes.from_state(notes) for key, notes in state["notes"].items()}
        self._first_texts = {key: (row, text) for key, (row, text) in state["first_texts"].items()}
        self._text_types = types_from_state(state["text_types"])
        self._has_kinds = True
        self._type_inference = None
        if state["typist"] is not None:
            self._type_inference = TypeInference(state["typist"][0], rules=self._rules)
            self._type_inference.restore(state["typist"][1])
        self._name_issues, self._value_issues, self._column_issues, self._text_issues = map(IssueLog.from_state, state["issues"])

    def frame(self, rows: list[dict[str, Any]], row_numbers: Sequence[int]) -> pl.DataFrame:
        """Convert rows to a typed frame; `row_numbers` are for issues. Raises BadInput (TOO_MANY_COLUMNS)."""
        for key in dict.fromkeys(chain.from_iterable(rows)):
            if key not in self._counts:
                self._counts[key], self._numbers[key], self._notes[key] = Counter(), NumberTally(), ValueNotes()
                check_width(len(self._counts), is_at_least=True)
        columns = {key: [row.get(key) for row in rows] for key in self._counts}
        for key, values in columns.items():
            self._count(key, values, row_numbers)
        if not self._has_kinds:
            kinds = {key: self._kind_of(key) for key in self._counts}
            self._set_kinds({key: "FLOAT" if kind == _SURVEY else kind for key, kind in kinds.items()})
            self._has_kinds = True
        frame = pl.DataFrame(
            [self._series(key, kind, columns.get(key) or [None] * len(rows), row_numbers) for key, kind in self._kinds.items()]
        )
        texts = [self._names[key] for key, kind in self._kinds.items() if kind == "STRING"]
        if not texts:
            return frame
        if self._type_inference is None:
            self._type_inference = TypeInference(texts, self._text_types, self._rules)
        return frame.with_columns(self._type_inference.convert(frame.select(texts), row_numbers.__getitem__).get_columns())

    def needs_another_pass(self) -> bool:
        """Raises BadInput (EMPTY_FILE) if no object has a key."""
        if not self._counts:
            raise BadInput(
                "EMPTY_FILE", "The file's objects have no keys, so there is no column. Upload objects with at least one key each."
            )
        kinds = {key: self._kind_of(key) for key in self._counts}
        scales = {key: self._numbers[key].fraction_digits for key, kind in kinds.items() if kind == "DECIMAL"}
        revised = self._type_inference.revised_types() if self._type_inference is not None else None
        if self._type_inference is not None:
            self._text_issues.extend_once(self._type_inference.column_issues())
        if kinds == self._kinds and scales == self._scales and revised is None:
            self._column_issues = self._kept_as_text()
            self._column_issues.extend(self._text_issues)
            return False
        if self._type_inference is not None:
            text_types = revised or self._type_inference.types()
            types_by_key = {key: text_types[name] for key, name in self._names.items() if name in text_types}
        else:
            types_by_key = {}
        self._set_kinds(kinds)
        # If a column has only now become text, the next pass infers the types of all text columns again.
        are_all_known = all(key in types_by_key for key, kind in kinds.items() if kind == "STRING")
        self._text_types = (
            {self._names[key]: kind for key, kind in types_by_key.items() if kinds[key] == "STRING"} if are_all_known else None
        )
        return True

    def issues(self) -> IssueLog:
        log = IssueLog()
        for entries in (self._name_issues, self._column_issues, self._value_issues):
            log.extend(entries)
        for key, name in self._names.items():
            self._notes[key].add_issues(name, log)
        if self._type_inference is not None:
            log.extend(self._type_inference.issues())
        return log

    def column_types(self) -> dict[str, str]:
        texts = self._type_inference.types() if self._type_inference is not None else {}
        return {name: texts[name].name if name in texts else self._kinds[key] for key, name in self._names.items()}

    # -- kinds

    def _set_kinds(self, kinds: dict[str, str]) -> None:
        self._kinds = kinds
        self._scales = {key: self._numbers[key].fraction_digits for key, kind in kinds.items() if kind == "DECIMAL"}
        self._surveyed |= {key for key, kind in kinds.items() if kind == _SURVEY}
        self._name_issues = IssueLog()
        self._names = dict(zip(kinds, clean_names(kinds, self._name_issues), strict=True))

    def _count(self, key: str, values: list[Any], row_numbers: Sequence[int]) -> None:
        counts = Counter(kind.__name__ for kind in map(type, values))
        numbers, notes = self._numbers[key], self._notes[key]
        if counts["str"] and key not in self._first_texts:
            index, text = next((index, value) for index, value in enumerate(values) if type(value) is str)
            self._first_texts[key] = row_numbers[index], text[:100]
        if counts["int"]:
            whole = [value for value in values if type(value) is int]
            if min(whole) < -MAX_EXACT_FLOAT or max(whole) > MAX_EXACT_FLOAT:
                for index, value in enumerate(values):
                    if type(value) is int:
                        numbers.add_whole(value, row_numbers[index])
            else:
                numbers.whole_digits = max(numbers.whole_digits, len(str(max(map(abs, whole)))))
        if counts[WideNumber.__name__]:
            for index, value in enumerate(values):
                if type(value) is WideNumber:
                    numbers.add_beyond_floats(row_numbers[index], value)
        if counts["float"]:
            counts["float"] -= self._count_special(values, notes, row_numbers)
            if key in self._surveyed:
                numbers.add_fractions(repr(value) for value in values if type(value) is float and not math.isnan(value))
            else:
                numbers.fractions += counts["float"]
        self._counts[key].update(counts)

    @staticmethod
    def _count_special(values: list[Any], notes: ValueNotes, row_numbers: Sequence[int]) -> int:
        """Note NaN and infinities, which strict JSON does not have; return the number of NaN."""
        floats = [value for value in values if type(value) is float]
        if math.isfinite(sum(floats)) and all(map(math.isfinite, floats)):
            return 0
        missing = 0
        for index, value in enumerate(values):
            if type(value) is float and math.isnan(value):
                notes.add_word("NaN", row_numbers[index])
                missing += 1
            elif type(value) is float and math.isinf(value):
                notes.infinite += 1
                notes.infinite_row = row_numbers[index] if notes.infinite_row is None else notes.infinite_row
        return missing

    def _kind_of(self, key: str) -> str:
        counts = self._counts[key]
        if composed_name(key) in self._rules.fixed:
            return "STRING"  # converted from text to the type that the user chose
        numbers, booleans, texts, nested = _count_of_numbers(counts), counts["bool"], counts["str"], counts["dict"] + counts["list"]
        total = numbers + booleans + texts + nested
        if not total:
            return "STRING"
        threshold = (1 - limits.MAX_MISFIT_SHARE) * total
        if numbers >= threshold:
            return self._number_kind(key)
        if booleans >= threshold:
            return "BOOLEAN"
        return "JSON" if nested else "STRING"

    def _number_kind(self, key: str) -> str:
        tally = self._numbers[key]
        is_open = tally.fractions and tally.inexact is not None and not tally.is_unlimited
        return _SURVEY if is_open and key not in self._surveyed else tally.kind

    def _kept_as_text(self) -> IssueLog:
        log, units = IssueLog(), dict[str, str]()
        for key, name in self._names.items():
            counts, position = self._counts[key], self._numbers[key].inexact or self._numbers[key].beyond_int64
            if self._kinds[key] == "STRING" and position is not None and not counts["str"]:
                row, value = position
                log.add("KEPT_AS_TEXT", describe_long_number(name, row, value), column=name, row=row)
            elif self._kinds[key] == "STRING" and composed_name(key) not in self._rules.fixed and key in self._first_texts:
                row, text = self._first_texts[key]
                others = counts.total() - counts["NoneType"] - 1
                if row == 1 and counts["str"] == 1 and others > 1 and others in (_count_of_numbers(counts), counts["bool"]):
                    units[name] = text
                else:
                    self._add_mixed(key, name, log)
        add_units_issue(log, units)
        return log

    def _add_mixed(self, key: str, name: str, log: IssueLog) -> None:
        """List a column that is text because of few of its values."""
        counts = self._counts[key]
        filled = counts.total() - counts["NoneType"]
        for noun, fitting in (("a number", _count_of_numbers(counts)), ("true or false", counts["bool"])):
            if fitting >= limits.MIN_PROPOSAL_SHARE * filled:
                row, text = self._first_texts[key]
                message = (
                    f"Column {name!r} is kept as text: {filled - fitting:,} of {filled:,} values are not {noun}, the first is {short_repr(text)} in "
                    f"row {row}. Up to 1 % would have been treated as missing."
                )
                log.add("MIXED_COLUMN", message, column=name, row=row)

    # -- values

    def _series(self, key: str, kind: str, values: list[Any], row_numbers: Sequence[int]) -> pl.Series:
        name = self._names[key]
        if kind == "STRING":
            return pl.Series(
                name,
                [value if value is None or isinstance(value, str) else _text_of(value) for value in values],
                dtype=pl.String,
            )
        if kind == "JSON":
            return pl.Series(name, [None if value is None else json_numbers.dumps(value) for value in values], dtype=pl.String)
        kind = "FLOAT" if kind == _SURVEY else kind
        accepted, scale = _ACCEPTED_TYPES[kind], self._scales.get(key, 0)
        is_number = kind != "BOOLEAN"
        if not set(map(type, values)) <= accepted or (is_number and not _are_simple(values, kind)):
            values = [self._fitting(value, kind, name, row_numbers[index], scale) for index, value in enumerate(values)]
        elif kind == "FLOAT":
            values = [None if value is None else float(value) for value in values]
        return pl.Series(name, values, dtype=pl.Decimal(MAX_DIGITS, scale) if kind == "DECIMAL" else _DTYPES[kind])

    def _fitting(self, value: Any, kind: str, name: str, row: int, scale: int) -> Any:
        """Return the value as the column's kind; None, with an issue, if it does not fit."""
        if value is None or (type(value) is float and math.isnan(value)):
            return None
        if type(value) in _ACCEPTED_TYPES[kind]:
            if kind == "BOOLEAN" or (kind == "INTEGER" and MIN_INT64 <= value <= MAX_INT64):
                return value
            if kind == "FLOAT":
                return _as_float(value)
            if kind == "DECIMAL":
                text = repr(value)
                whole, fraction = decimal_digits(text)
                if fraction <= scale and whole <= MAX_DIGITS - scale:
                    return Decimal(text)
            # Another pass will have a wider type.
            if type(value) is not bool and isinstance(value, int | float):
                return None
        if type(value) is WideNumber:
            return None  # and so it will here
        self._value_issues.add(
            "BAD_VALUE",
            f"Row {row}, column {name!r}: {short_repr(value)} is not {_NOUNS[kind]}; it was treated as missing.",
            column=name,
            row=row,
        )
        return None


def _text_of(value: Any) -> str | None:
    """The JSON of a value in a column of text; None for NaN, which `_count` has noted."""
    return None if type(value) is float and math.isnan(value) else json_numbers.dumps(value)


def _count_of_numbers(counts: Counter[str]) -> int:
    return counts["int"] + counts["float"] + counts[WideNumber.__name__]


def _are_simple(values: list[Any], kind: str) -> bool:
    """Whether all numbers can be converted as they are."""
    if kind == "DECIMAL":
        return False
    if kind == "INTEGER":
        whole = [value for value in values if value is not None]
        return not whole or (min(whole) >= MIN_INT64 and max(whole) <= MAX_INT64)
    return all(
        value is None or (type(value) is float and value == value) or -MAX_EXACT_FLOAT <= value <= MAX_EXACT_FLOAT for value in values
    )


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
