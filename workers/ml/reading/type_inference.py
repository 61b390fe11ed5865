"""Type inference for tables of text: converts block by block and reports at the end which types fit the whole file."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from workers.ml import limits
from workers.ml.reading.issues import IssueLog, short_repr
from workers.ml.reading.reader_state import ReaderState
from workers.ml.reading.text_types import (
    FLOAT,
    INTEGER,
    JSON,
    MISSING_WORDS,
    PLACEHOLDERS,
    TEXT,
    TextType,
    TypeTally,
    describe_misfit,
    is_json,
    propose,
    types_from_state,
    types_to_state,
)

_LEADING_ZERO = r"^[+-]?0\d+$"
_LONG_INTEGER = r"^[+-]?\d{19,}$"


class TypeInference:
    """One pass over a table of text. `only` restricts the types that are tried (JSON strings are never numbers)."""

    def __init__(
        self,
        names: list[str],
        types: dict[str, TextType] | None = None,
        *,
        has_decimal_comma: bool = False,
        only: frozenset[str] | None = None,
    ) -> None:
        self.names = names
        self._types: dict[str, TextType] = dict(types or {})
        self._tallies = {name: TypeTally() for name in names}
        self._has_decimal_comma = has_decimal_comma
        self._only = only
        self._written_untyped: set[str] = set()
        self._kept_as_text: dict[str, tuple[int, str]] = {}

    def state(self) -> ReaderState:
        return {
            "types": types_to_state(self._types),
            "tallies": {name: tally.state() for name, tally in self._tallies.items()},
            "written_blank": sorted(self._written_untyped),
            "kept_as_text": self._kept_as_text,
        }

    def restore(self, state: ReaderState) -> None:
        """Continue from the state of another inference over the same columns."""
        self._types = types_from_state(state["types"]) or {}
        self._tallies = {name: TypeTally.from_state(tally) for name, tally in state["tallies"].items()}
        self._written_untyped = set(state["written_blank"])
        self._kept_as_text = {name: (row, value) for name, (row, value) in state["kept_as_text"].items()}

    def convert(self, frame: pl.DataFrame, row_number: Callable[[int], int]) -> pl.DataFrame:
        """Convert a frame of text to typed columns; `row_number` maps an index in the frame to the row's number in the file."""
        for name in self.names:
            if name not in self._types:
                self._propose(name, frame[name], row_number)
        result = frame.select(self._types.get(name, TEXT).parse(pl.col(name)).alias(name) for name in self.names)
        repaired_columns: list[pl.Series] = []
        for name in self.names:
            kind = self._types.get(name)
            if kind is None:
                self._written_untyped.add(name)
                continue
            text, values = frame[name], result[name]
            tally = self._tallies[name]
            if kind in (TEXT, JSON):
                tally.filled += values.len() - values.null_count()
                if kind == JSON and not all(map(is_json, values.drop_nulls())):
                    tally.misfits += 1
                continue
            if kind.name == "FLOAT" and values.is_nan().any():
                values = values.fill_nan(None)
                repaired_columns.append(values)
            null_count = text.null_count()
            missing = values.null_count()
            tally.filled += values.len() - missing
            if kind == INTEGER:
                self._check_leading_zeros(text, tally, row_number)
            if missing > null_count:
                refitted = self._retry_misfits(name, kind, text, values, row_number)
                if refitted is not None:
                    repaired_columns = [*(column for column in repaired_columns if column.name != name), refitted]
        return result.with_columns(repaired_columns) if repaired_columns else result

    def _propose(self, name: str, text: pl.Series, row_number: Callable[[int], int]) -> None:
        kind = propose(text, has_decimal_comma=self._has_decimal_comma)
        if kind is None:
            return
        if self._only is not None and kind.name not in self._only:
            kind = TEXT
        is_whole = kind == INTEGER or (kind == FLOAT and not text.str.contains("[.eEnN]").any())
        if is_whole:
            lossy_rows = (text.str.strip_chars().str.contains(_LEADING_ZERO) | _exceeds_int64(text)).arg_true()
            if lossy_rows.len():
                self._kept_as_text[name] = row_number(lossy_rows[0]), text[lossy_rows[0]]
                kind = TEXT
        self._types[name] = kind

    def _check_leading_zeros(self, text: pl.Series, tally: TypeTally, row_number: Callable[[int], int]) -> None:
        if tally.lossy_value is not None:
            return
        # The regular expression costs as much as parsing, so a cheap test comes first.
        has_zero = (text.str.starts_with("0") & (text.str.len_bytes() > 1)) | text.str.starts_with("-0")
        if has_zero.any():
            indices = has_zero.arg_true()
            indices = indices.filter(text.gather(indices).str.contains(_LEADING_ZERO))
            if indices.len():
                tally.lossy_value = row_number(indices[0]), text[indices[0]]

    def _retry_misfits(
        self, name: str, kind: TextType, text: pl.Series, values: pl.Series, row_number: Callable[[int], int]
    ) -> pl.Series | None:
        """Count and report values that did not parse; return the corrected column if trimming made some fit, else None."""
        indices = (values.is_null() & text.is_not_null()).arg_true()
        unparsed = text.gather(indices).str.strip_chars()
        is_missing = unparsed.is_in(MISSING_WORDS + PLACEHOLDERS)
        if is_missing.all():
            return None
        indices, unparsed = indices.filter(~is_missing), unparsed.filter(~is_missing)
        retried = unparsed.to_frame("v").select(kind.parse(pl.col("v"))).to_series()
        fits = retried.is_not_null()
        refitted: pl.Series | None = None
        tally = self._tallies[name]
        if fits.any():
            refitted = values.clone()
            refitted = refitted.scatter(indices.filter(fits), retried.filter(fits))
            tally.filled += int(fits.sum())
            if kind == INTEGER:
                self._check_leading_zeros(unparsed.filter(fits), tally, lambda index: row_number(indices.filter(fits)[index]))
        indices, unparsed = indices.filter(~fits), unparsed.filter(~fits)
        tally.filled += unparsed.len()
        tally.misfits += unparsed.len()
        if not unparsed.len():
            return refitted
        if tally.first_misfit is None:
            tally.first_misfit = row_number(indices[0]), unparsed[0]
        if kind == INTEGER:
            is_wide = _exceeds_int64(unparsed)
            if tally.lossy_value is None and is_wide.any():
                row_index = is_wide.arg_true()[0]
                tally.lossy_value = row_number(indices[row_index]), unparsed[row_index]
            is_float = unparsed.to_frame("v").select(FLOAT.parse(pl.col("v"))).to_series().is_not_null() & ~is_wide
            tally.float_misfits += int(is_float.sum())
            indices, unparsed = indices.filter(~is_float), unparsed.filter(~is_float)
        for row_index, value in zip(indices[: limits.MAX_ISSUES].to_list(), unparsed[: limits.MAX_ISSUES].to_list(), strict=True):
            if tally.issues.is_full:
                break
            row = row_number(row_index)
            tally.issues.add("BAD_VALUE", describe_misfit(name, row, value, kind), column=name, row=row)
        tally.issues.count = tally.misfits - tally.float_misfits
        return refitted

    def types(self) -> dict[str, TextType]:
        return {name: self._types.get(name, TEXT) for name in self.names}

    def revised_types(self) -> dict[str, TextType] | None:
        """Return the types for another pass, or None if the proposed ones fit the whole file."""
        final_types = {name: self._tallies[name].final_type(kind) for name, kind in self.types().items()}
        for name in self._written_untyped:
            if self._types.get(name, TEXT) != TEXT:
                return final_types  # the first blocks had no value and were written as text
        return final_types if final_types != self.types() else None

    def issues(self) -> IssueLog:
        """Return issues for values that do not fit, ordered by row. Call it once `revised_types` returns None."""
        log = IssueLog()
        misfit_issues = [issue for name in self.names for issue in self._tallies[name].issues.entries]
        log.entries = sorted(misfit_issues, key=lambda issue: issue["row"] or 0)[: limits.MAX_ISSUES]
        log.count = sum(self._tallies[name].issues.count for name in self.names)
        return log

    def column_issues(self) -> IssueLog:
        """Return issues that explain why a column that looks like another type is text."""
        log = IssueLog()
        for name, kind in self.types().items():
            tally = self._tallies[name]
            lossy_value = self._kept_as_text.get(name) or tally.lossy_value
            if lossy_value is not None:
                row, value = lossy_value
                reason = "has leading zeros" if value.strip().lstrip("+-").startswith("0") else "is beyond 64 bits"
                message = f"Column {name!r} is kept as text: {short_repr(value)} in row {row} {reason}, which a number would not preserve."
                log.add("KEPT_AS_TEXT", message, column=name, row=row)
            elif tally.first_misfit is not None and tally.final_type(kind) == TEXT and kind != JSON:
                row, value = tally.first_misfit
                message = (
                    f"Column {name!r} is kept as text: {tally.misfits - tally.float_misfits:,} of {tally.filled:,} values are not {kind.noun}, "
                    f"the first is {short_repr(value)} in row {row}. Up to 1 % would have been treated as missing."
                )
                log.add("MIXED_COLUMN", message, column=name, row=row)
        return log


def _exceeds_int64(text: pl.Series) -> pl.Series:
    """Mask of integers that do not fit 64 bits."""
    trimmed = text.str.strip_chars()
    return trimmed.str.contains(_LONG_INTEGER) & trimmed.cast(pl.Int64, strict=False).is_null()
