"""Typed columns from JSON objects.

JSON values are typed, so a string is never read as a number; strings become DATE or DATETIME if at least 99 % parse as such. A column of
integers and fractions is FLOAT; objects and arrays are JSON, stored as text. If a column mixes kinds and at least 99 % of its values are
numbers (or booleans), the others become missing and are reported as issues; otherwise the column is JSON if it holds an object or array,
and text if not. Keys that first appear late in the file are columns, too. Integers beyond 64 bits make a column text up to 2^64, and
FLOAT above.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Any

import orjson
import polars as pl

from workers.ml import limits
from workers.ml.reading.column_names import check_width, clean_names
from workers.ml.reading.issues import IssueLog, short_repr
from workers.ml.reading.reader_state import ReaderState
from workers.ml.reading.text_types import TextType, types_from_state, types_to_state
from workers.ml.reading.type_inference import TypeInference

_DTYPES = {"INTEGER": pl.Int64(), "FLOAT": pl.Float64(), "BOOLEAN": pl.Boolean()}
_NOUNS = {"INTEGER": "an integer", "FLOAT": "a number", "BOOLEAN": "true or false"}
_TEMPORAL_TYPES = frozenset({"DATE", "DATETIME"})


class ObjectTable:
    """Determines the types of a table of objects over one or more passes; `begin_pass` starts each."""

    def __init__(self) -> None:
        self._kinds: dict[str, str] = {}
        """Kind by key, in the order of first appearance."""
        self._names: dict[str, str] = {}
        self._counts: dict[str, Counter[str]] = {}
        self._text_types: dict[str, TextType] | None = None
        self._type_inference: TypeInference | None = None
        self._has_kinds = False
        self._name_issues = IssueLog()
        self._value_issues = IssueLog()
        self._column_issues = IssueLog()

    def begin_pass(self) -> None:
        self._counts = {}
        self._value_issues = IssueLog()
        self._type_inference = None

    def state(self) -> ReaderState:
        return {
            "kinds": self._kinds,
            "names": self._names,
            "counts": self._counts,
            "text_types": types_to_state(self._text_types),
            "typist": None if self._type_inference is None else [self._type_inference.names, self._type_inference.state()],
            "issues": [log.state() for log in (self._name_issues, self._value_issues, self._column_issues)],
        }

    def restore(self, state: ReaderState) -> None:
        """Restore a state taken in the middle of a pass; replaces `begin_pass`."""
        self._kinds, self._names = dict(state["kinds"]), dict(state["names"])
        self._counts = {key: Counter(counts) for key, counts in state["counts"].items()}
        self._text_types = types_from_state(state["text_types"])
        self._has_kinds = True
        self._type_inference = None
        if state["typist"] is not None:
            self._type_inference = TypeInference(state["typist"][0], only=_TEMPORAL_TYPES)
            self._type_inference.restore(state["typist"][1])
        self._name_issues, self._value_issues, self._column_issues = (IssueLog.from_state(log) for log in state["issues"])

    def frame(self, rows: list[dict[str, Any]], row_numbers: Sequence[int]) -> pl.DataFrame:
        """Convert rows to a typed frame; `row_numbers` are for issues. Raises BadInput (TOO_MANY_COLUMNS)."""
        for key in dict.fromkeys(chain.from_iterable(rows)):
            if key not in self._counts:
                self._counts[key] = Counter()
                check_width(len(self._counts), is_at_least=True)
        columns = {key: [row.get(key) for row in rows] for key in self._counts}
        for key, values in columns.items():
            self._counts[key].update(_kind_counts(values))
        if not self._has_kinds:
            self._set_kinds({key: _kind_of(counts) for key, counts in self._counts.items()})
            self._has_kinds = True
        frame = pl.DataFrame(
            [self._series(key, kind, columns.get(key) or [None] * len(rows), row_numbers) for key, kind in self._kinds.items()]
        )
        texts = [self._names[key] for key, kind in self._kinds.items() if kind == "STRING"]
        if not texts:
            return frame
        if self._type_inference is None:
            self._type_inference = TypeInference(texts, self._text_types, only=_TEMPORAL_TYPES)
        return frame.with_columns(self._type_inference.convert(frame.select(texts), row_numbers.__getitem__).get_columns())

    def needs_another_pass(self) -> bool:
        kinds = {key: _kind_of(counts) for key, counts in self._counts.items()}
        revised = self._type_inference.revised_types() if self._type_inference is not None else None
        if self._type_inference is not None:
            self._column_issues.extend(self._type_inference.column_issues())
        if kinds == self._kinds and revised is None:
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
        if self._type_inference is not None:
            log.extend(self._type_inference.issues())
        return log

    def column_types(self) -> dict[str, str]:
        texts = self._type_inference.types() if self._type_inference is not None else {}
        return {name: texts[name].name if name in texts else self._kinds[key] for key, name in self._names.items()}

    def _set_kinds(self, kinds: dict[str, str]) -> None:
        self._kinds = kinds
        self._name_issues = IssueLog()
        self._names = dict(zip(kinds, clean_names(kinds, self._name_issues), strict=True))

    def _series(self, key: str, kind: str, values: list[Any], row_numbers: Sequence[int]) -> pl.Series:
        name = self._names[key]
        if kind == "STRING":
            return pl.Series(
                name,
                [value if value is None or isinstance(value, str) else orjson.dumps(value).decode() for value in values],
                dtype=pl.String,
            )
        if kind == "JSON":
            return pl.Series(name, [None if value is None else orjson.dumps(value).decode() for value in values], dtype=pl.String)
        accepted = _ACCEPTED_TYPES[kind]
        if not set(map(type, values)) <= accepted or (kind == "INTEGER" and any(map(_exceeds_int64, values))):
            values = [value if self._fits(value, kind, name, row_numbers, index) else None for index, value in enumerate(values)]
        if kind == "FLOAT":
            values = [None if value is None else float(value) for value in values]
        return pl.Series(name, values, dtype=_DTYPES[kind])

    def _fits(self, value: Any, kind: str, name: str, row_numbers: Sequence[int], index: int) -> bool:
        if value is None or (type(value) in _ACCEPTED_TYPES[kind] and not (kind == "INTEGER" and _exceeds_int64(value))):
            return True
        row = row_numbers[index]
        self._value_issues.add(
            "BAD_VALUE",
            f"Row {row}, column {name!r}: {short_repr(value)} is not {_NOUNS[kind]}; it was treated as missing.",
            column=name,
            row=row,
        )
        return False


_ACCEPTED_TYPES: dict[str, frozenset[type]] = {
    "INTEGER": frozenset({int, type(None)}),
    "FLOAT": frozenset({int, float, type(None)}),
    "BOOLEAN": frozenset({bool, type(None)}),
}


def _exceeds_int64(value: Any) -> bool:
    return type(value) is int and not -(1 << 63) <= value < 1 << 63


def _kind_counts(values: list[Any]) -> Counter[str]:
    counts = Counter(kind.__name__ for kind in map(type, values))
    if counts["int"] and (wide_count := sum(map(_exceeds_int64, values))):
        counts["wide"] = wide_count
        counts["int"] -= wide_count
    return counts


def _kind_of(counts: Counter[str]) -> str:
    numbers, booleans, texts, nested = counts["int"] + counts["float"], counts["bool"], counts["str"], counts["dict"] + counts["list"]
    total = numbers + counts["wide"] + booleans + texts + nested
    if not total:
        return "STRING"
    threshold = (1 - limits.MAX_MISFIT_SHARE) * total
    if counts["float"] and numbers + counts["wide"] >= threshold:
        return "FLOAT"
    if numbers >= threshold and not counts["wide"]:
        return "INTEGER"
    if booleans >= threshold:
        return "BOOLEAN"
    return "JSON" if nested else "STRING"
