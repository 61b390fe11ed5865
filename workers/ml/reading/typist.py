"""Holds every value of a text table against its column's type, block by block, and says at the end which types held."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from workers.ml import limits
from workers.ml.reading.issues import IssueLog, shown
from workers.ml.reading.marks import Mark
from workers.ml.reading.text_types import (
    FLOAT,
    INTEGER,
    JSON,
    MISSING_WORDS,
    PLACEHOLDERS,
    TEXT,
    Tally,
    TextType,
    describe_misfit,
    is_json,
    propose,
    types_restored,
    types_state,
)

_LEADING_ZERO = r"^[+-]?0\d+$"
_WIDE = r"^[+-]?\d{19,}$"


class Typist:
    """One pass over a table of text; `only` restricts the types that are tried (JSON strings are never numbers)."""

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
        self._tallies = {name: Tally() for name in names}
        self._has_decimal_comma = has_decimal_comma
        self._only = only
        self._written_blank: set[str] = set()
        self._kept_as_text: dict[str, tuple[int, str]] = {}

    def state(self) -> Mark:
        return {
            "types": types_state(self._types),
            "tallies": {name: tally.state() for name, tally in self._tallies.items()},
            "written_blank": sorted(self._written_blank),
            "kept_as_text": self._kept_as_text,
        }

    def restore(self, state: Mark) -> None:
        """What another typist of the same columns had seen counts here, too."""
        self._types = types_restored(state["types"]) or {}
        self._tallies = {name: Tally.restored(tally) for name, tally in state["tallies"].items()}
        self._written_blank = set(state["written_blank"])
        self._kept_as_text = {name: (row, value) for name, (row, value) in state["kept_as_text"].items()}

    def typed(self, frame: pl.DataFrame, number: Callable[[int], int]) -> pl.DataFrame:
        """`frame` of text as typed columns; `number` gives a row's number in the file."""
        for name in self.names:
            if name not in self._types:
                self._propose(name, frame[name], number)
        result = frame.select(self._types.get(name, TEXT).parsed(pl.col(name)).alias(name) for name in self.names)
        repaired: list[pl.Series] = []
        for name in self.names:
            kind = self._types.get(name)
            if kind is None:
                self._written_blank.add(name)
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
                repaired.append(values)
            blanks = text.null_count()
            missing = values.null_count()
            tally.filled += values.len() - missing
            if kind == INTEGER:
                self._watch_zeros(text, tally, number)
            if missing > blanks:
                mended = self._misfits(name, kind, text, values, number)
                if mended is not None:
                    repaired = [*(column for column in repaired if column.name != name), mended]
        return result.with_columns(repaired) if repaired else result

    def _propose(self, name: str, text: pl.Series, number: Callable[[int], int]) -> None:
        kind = propose(text, has_decimal_comma=self._has_decimal_comma)
        if kind is None:
            return
        if self._only is not None and kind.name not in self._only:
            kind = TEXT
        is_whole = kind == INTEGER or (kind == FLOAT and not text.str.contains("[.eEnN]").any())
        if is_whole:
            lossy = (text.str.strip_chars().str.contains(_LEADING_ZERO) | _is_wide(text)).arg_true()
            if lossy.len():
                self._kept_as_text[name] = number(lossy[0]), text[lossy[0]]
                kind = TEXT
        self._types[name] = kind

    def _watch_zeros(self, text: pl.Series, tally: Tally, number: Callable[[int], int]) -> None:
        if tally.keeps_text is not None:
            return
        # Text by text this costs as much as parsing, so the cheap question goes first.
        zeros = (text.str.starts_with("0") & (text.str.len_bytes() > 1)) | text.str.starts_with("-0")
        if zeros.any():
            places = zeros.arg_true()
            places = places.filter(text.gather(places).str.contains(_LEADING_ZERO))
            if places.len():
                tally.keeps_text = number(places[0]), text[places[0]]

    def _misfits(self, name: str, kind: TextType, text: pl.Series, values: pl.Series, number: Callable[[int], int]) -> pl.Series | None:
        """Counts and names what did not parse; gives the column anew where trimming made values fit."""
        places = (values.is_null() & text.is_not_null()).arg_true()
        strange = text.gather(places).str.strip_chars()
        is_missing = strange.is_in(MISSING_WORDS + PLACEHOLDERS)
        if is_missing.all():
            return None
        places, strange = places.filter(~is_missing), strange.filter(~is_missing)
        again = strange.to_frame("v").select(kind.parsed(pl.col("v"))).to_series()
        fits = again.is_not_null()
        mended: pl.Series | None = None
        tally = self._tallies[name]
        if fits.any():
            mended = values.clone()
            mended = mended.scatter(places.filter(fits), again.filter(fits))
            tally.filled += int(fits.sum())
            if kind == INTEGER:
                self._watch_zeros(strange.filter(fits), tally, lambda index: number(places.filter(fits)[index]))
        places, strange = places.filter(~fits), strange.filter(~fits)
        tally.filled += strange.len()
        tally.misfits += strange.len()
        if not strange.len():
            return mended
        if tally.first is None:
            tally.first = number(places[0]), strange[0]
        if kind == INTEGER:
            wide = _is_wide(strange)
            if tally.keeps_text is None and wide.any():
                place = wide.arg_true()[0]
                tally.keeps_text = number(places[place]), strange[place]
            is_float = strange.to_frame("v").select(FLOAT.parsed(pl.col("v"))).to_series().is_not_null() & ~wide
            tally.wider += int(is_float.sum())
            places, strange = places.filter(~is_float), strange.filter(~is_float)
        for place, value in zip(places[: limits.ISSUES_KEPT].to_list(), strange[: limits.ISSUES_KEPT].to_list(), strict=True):
            if tally.issues.is_full:
                break
            row = number(place)
            tally.issues.add("BAD_VALUE", describe_misfit(name, row, value, kind), column=name, row=row)
        tally.issues.count = tally.misfits - tally.wider
        return mended

    def types(self) -> dict[str, TextType]:
        return {name: self._types.get(name, TEXT) for name in self.names}

    def revised(self) -> dict[str, TextType] | None:
        """Types for another pass where the whole file did not bear out the proposed ones."""
        verdicts = {name: self._tallies[name].verdict(kind) for name, kind in self.types().items()}
        for name in self._written_blank:
            if self._types.get(name, TEXT) != TEXT:
                return verdicts  # the first blocks held no value, and were written as text
        return verdicts if verdicts != self.types() else None

    def issues(self) -> IssueLog:
        """Values that do not fit, by row; call it when `revised` has nothing more to say."""
        log = IssueLog()
        bad = [issue for name in self.names for issue in self._tallies[name].issues.kept]
        log.kept = sorted(bad, key=lambda issue: issue["row"] or 0)[: limits.ISSUES_KEPT]
        log.count = sum(self._tallies[name].issues.count for name in self.names)
        return log

    def remarks(self) -> IssueLog:
        """Why a column that looks like something else is text."""
        log = IssueLog()
        for name, kind in self.types().items():
            tally = self._tallies[name]
            kept = self._kept_as_text.get(name) or tally.keeps_text
            if kept is not None:
                row, value = kept
                why = "has leading zeros" if value.strip().lstrip("+-").startswith("0") else "is beyond 64 bits"
                message = f"Column {name!r} is kept as text: {shown(value)} in row {row} {why}, which a number would lose."
                log.add("KEPT_AS_TEXT", message, column=name, row=row)
            elif tally.first is not None and tally.verdict(kind) == TEXT and kind != JSON:
                row, value = tally.first
                message = (
                    f"Column {name!r} is kept as text: {tally.misfits - tally.wider:,} of {tally.filled:,} values are not {kind.noun}, "
                    f"the first is {shown(value)} in row {row}. Up to 1 % would have been taken as missing."
                )
                log.add("MIXED_COLUMN", message, column=name, row=row)
        return log


def _is_wide(text: pl.Series) -> pl.Series:
    """Whole numbers that 64 bits cannot hold."""
    trimmed = text.str.strip_chars()
    return trimmed.str.contains(_WIDE) & trimmed.cast(pl.Int64, strict=False).is_null()
