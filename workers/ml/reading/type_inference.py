"""Type inference for tables of text: converts block by block and reports at the end which types fit the whole file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import polars as pl

from workers.ml import limits
from workers.ml.reading import missing_words, number_checks, typography
from workers.ml.reading.decimal_marks import DecimalMark, detect_decimal_mark
from workers.ml.reading.issues import IssueLog, short_repr
from workers.ml.reading.kept_as_text import FINER_THAN_MICROSECONDS, describe_kept_as_text, first_unread_date, first_unread_number
from workers.ml.reading.missing_words import MissingWords
from workers.ml.reading.odd_rows import LastRow, add_units_issue
from workers.ml.reading.reader_state import ReaderState
from workers.ml.reading.text_types import JSON, TEXT, TextType, TypeTally, is_json, types_from_state, types_to_state
from workers.ml.reading.type_proposals import describe_misfit, propose, propose_of_type

POINT: Final = DecimalMark()
_SAMPLE_ROWS: Final = 2_000


@dataclass(frozen=True)
class TextRules:
    """How text is read, as far as it is known before reading: from the format of the file or from its user."""

    mark: DecimalMark | None = POINT
    """None: the first block decides, with `delimiter`."""
    delimiter: str = ","
    words: MissingWords = missing_words.DEFAULT
    only: frozenset[str] | None = None
    """The types that are tried; all if None. JSON strings are never numbers."""
    fixed: Mapping[str, str] = field(default_factory=dict[str, str])
    """ColumnType by column, chosen by the user: values that do not fit are missing, however many they are."""


class TypeInference:
    """One pass over a table of text."""

    def __init__(self, names: list[str], types: dict[str, TextType] | None = None, rules: TextRules | None = None) -> None:
        self.names = names
        self._rules = rules or TextRules()
        self._types: dict[str, TextType] = dict(types or {})
        self._tallies = {name: TypeTally() for name in names}
        self.mark = self._rules.mark
        """The file's decimal mark, for further passes; None before the first block."""
        self._written_untyped: set[str] = set()
        self._kept_as_text: dict[str, tuple[int, str]] = {}
        self._open_dates: dict[str, tuple[int, str]] = {}
        self._units: dict[str, str] = {}
        self._last_row = LastRow()

    def state(self) -> ReaderState:
        return {
            "types": types_to_state(self._types),
            "tallies": {name: tally.state() for name, tally in self._tallies.items()},
            "mark": None if self.mark is None else self.mark.state(),
            "written_blank": sorted(self._written_untyped),
            "kept_as_text": self._kept_as_text,
            "open_dates": self._open_dates,
            "units": self._units,
            "last_row": self._last_row.state(),
        }

    def restore(self, state: ReaderState) -> None:
        """Continue from the state of another inference over the same columns."""
        self._types = types_from_state(state["types"]) or {}
        self._tallies = {name: TypeTally.from_state(tally) for name, tally in state["tallies"].items()}
        self.mark = None if state["mark"] is None else DecimalMark.from_state(state["mark"])
        self._written_untyped = set(state["written_blank"])
        self._kept_as_text = {name: (row, value) for name, (row, value) in state["kept_as_text"].items()}
        self._open_dates = {name: (row, value) for name, (row, value) in state["open_dates"].items()}
        self._units = dict(state["units"])
        self._last_row = LastRow.from_state(state["last_row"])

    def convert(self, frame: pl.DataFrame, row_number: Callable[[int], int]) -> pl.DataFrame:
        """Convert a frame of text to typed columns; `row_number` maps an index in the frame to the row's number in the file."""
        if self.mark is None:
            plain = [typography.plain_numbers(texts) if typography.is_used(texts) else texts for texts in frame.select(self.names)]
            self.mark = detect_decimal_mark(pl.DataFrame(plain), self._rules.delimiter)
        for name in self.names:
            if name not in self._types:
                self._propose(name, frame[name], row_number)
        result = frame.select(self._types.get(name, TEXT).parse(pl.col(name), self._rules.words).alias(name) for name in self.names)
        repaired_columns: list[pl.Series] = []
        for name in self.names:
            kind = self._types.get(name)
            if kind is None:
                self._written_untyped.add(name)
                kind = TEXT
            column = self._check(name, kind, frame[name], result[name], row_number)
            if column is not None:
                repaired_columns.append(column)
        first_text = next((name for name in self.names if self._types.get(name) == TEXT), None)
        if first_text is not None and frame.height:
            self._last_row.add(frame, first_text, row_number(frame.height - 1))
        return result.with_columns(repaired_columns) if repaired_columns else result

    def _check(self, name: str, kind: TextType, text: pl.Series, values: pl.Series, row_number: Callable[[int], int]) -> pl.Series | None:
        """Count how the values fit; return the column if some of them were corrected, else None."""
        tally = self._tallies[name]
        missing, null_count = values.null_count(), text.null_count()
        tally.filled += values.len() - missing
        if kind.name in ("STRING", "CATEGORY", "JSON"):
            if missing > null_count:
                indices = (values.is_null() & text.is_not_null()).arg_true()
                tally.notes.add_words(text.gather(indices), indices, row_number)
            if kind == JSON and not all(map(is_json, values.drop_nulls())):
                tally.misfits += 1
            return None
        repaired: pl.Series | None = None
        is_beyond: pl.Series | None = None
        if kind.name == "FLOAT":
            is_nan = values.is_nan()
            if is_nan.any():
                indices = is_nan.fill_null(value=False).arg_true()
                tally.notes.add_words(text.gather(indices), indices, row_number)
                tally.filled -= indices.len()
                repaired = values = values.fill_nan(None)
            is_beyond = number_checks.check_floats(kind, values, text, tally, row_number)
        elif kind.name == "INTEGER":
            number_checks.check_integers(values, text, tally, row_number)
        elif kind.has_time:
            _check_fractions(kind, text, tally, row_number)
        if kind.is_number:
            number_checks.check_leading_marks(kind, text, tally, row_number)
        if missing > null_count:
            refitted = self._retry_misfits(name, kind, text, values, row_number)
            repaired = repaired if refitted is None else refitted
        if is_beyond is not None and name in self._rules.fixed:
            return self._without_beyond(name, kind, values if repaired is None else repaired, text, is_beyond, row_number)
        return repaired

    def _without_beyond(
        self, name: str, kind: TextType, values: pl.Series, text: pl.Series, is_beyond: pl.Series, row_number: Callable[[int], int]
    ) -> pl.Series:
        """Where the user wants numbers, those that no double holds are missing."""
        indices = is_beyond.arg_true()
        if indices.len():
            self._count_misfits(name, kind, indices, text.gather(indices).str.strip_chars(), row_number)
        return values.set(is_beyond.fill_null(value=False), None)

    def _propose(self, name: str, text: pl.Series, row_number: Callable[[int], int]) -> None:
        assert self.mark is not None  # set by convert
        fixed = self._rules.fixed.get(name)
        if fixed is not None:
            self._types[name] = propose_of_type(fixed, text, self.mark.mark)
            return
        proposal = propose(text, self.mark.mark, self._rules.words)
        if proposal is None:
            return
        kind = proposal.kind
        if proposal.is_open_date:
            index = (text.is_not_null() & ~self._is_word(text)).arg_true()[0]
            self._open_dates[name] = row_number(index), text[index]
        lossy_place: int | None = None
        if proposal.odd_date is not None:
            lossy_place = (text.str.strip_chars() == proposal.odd_date).arg_true()[0]
        elif self._rules.only is not None and kind.name not in self._rules.only:
            lossy_place = first_unread_date(self._without_words(text.head(_SAMPLE_ROWS))) if kind == TEXT else None
            kind = TEXT
        elif kind.has_time:
            lossy_place = next(iter(_finer_places(kind, text)), None)
        elif kind == TEXT and row_number(0) == 1 and (unit := self._unit(text)) is not None:
            self._units[name] = unit
        elif kind == TEXT and not proposal.is_open_date:
            sample = self._without_words(text.head(_SAMPLE_ROWS))
            lossy_place = first_unread_number(sample)
            lossy_place = first_unread_date(sample) if lossy_place is None else lossy_place
        if lossy_place is not None:
            self._kept_as_text[name] = row_number(lossy_place), text[lossy_place]
            kind = TEXT
        if kind.name in ("INTEGER", "FLOAT") and (numbers := number_checks.whole_kind(kind, text)) is not None:
            tally = TypeTally()
            number_checks.check_leading_marks(kind, text.str.strip_chars(), tally, row_number)
            lossy_value = tally.leading_zeros
            if numbers.kind == "STRING" and numbers.lossy_value is not None:
                index = (text == numbers.lossy_value[1]).arg_true()[0]
                lossy_value = lossy_value or (row_number(index), numbers.lossy_value[1])
            if lossy_value is not None:
                self._kept_as_text[name] = lossy_value
                kind = TEXT
            else:
                kind = replace(kind, name=numbers.kind)
        self._types[name] = kind

    def _is_word(self, text: pl.Series) -> pl.Series:
        return text.str.strip_chars().is_in(self._rules.words.all).fill_null(value=False)

    def _without_words(self, text: pl.Series) -> pl.Series:
        return text.set(self._is_word(text), None)

    def _unit(self, text: pl.Series) -> str | None:
        """The first text of a column whose other values are of one type that is not text."""
        assert self.mark is not None  # set by convert
        sample = text.head(_SAMPLE_ROWS)
        rest = sample.slice(1).filter(sample.slice(1).is_not_null())
        rest = rest.filter(~self._is_word(rest))
        if text[0] is None or text[0][:1].isdigit() or rest.len() < 2 or not rest[0][:1].strip("+-").isascii():
            return None
        if sum(value.strip()[:1].isdigit() or value.strip()[:1] in "+-.," for value in rest.head(20)) < min(rest.len(), 20):
            return None
        proposal = propose(rest, self.mark.mark, self._rules.words)
        return None if proposal is None or proposal.kind in (TEXT, JSON) else text[0].strip()

    def _retry_misfits(
        self, name: str, kind: TextType, text: pl.Series, values: pl.Series, row_number: Callable[[int], int]
    ) -> pl.Series | None:
        """Count and report values that did not parse; return the corrected column if trimming made some fit, else None."""
        indices = (values.is_null() & text.is_not_null()).arg_true()
        unparsed = written = text.gather(indices).str.strip_chars()
        tally = self._tallies[name]
        if kind.is_number:
            unparsed = typography.plain_numbers(unparsed)
        is_missing = unparsed.is_in(self._rules.words.all) | (unparsed.cast(pl.Float64, strict=False).is_nan().fill_null(value=False))
        if is_missing.any():
            tally.notes.add_words(unparsed.filter(is_missing), indices.filter(is_missing), row_number)
            if is_missing.all():
                return None
        indices, unparsed, written = indices.filter(~is_missing), unparsed.filter(~is_missing), written.filter(~is_missing)
        retried = unparsed.to_frame("v").select(kind.parse_mixed(pl.col("v"), self._rules.words)).to_series()
        fits = retried.is_not_null()
        refitted: pl.Series | None = None
        if fits.any():
            places, trimmed = indices.filter(fits), unparsed.filter(fits)
            parsed = retried.filter(fits)
            is_respelled = trimmed != written.filter(fits)
            if is_respelled.any():
                tally.notes.add_respelled(
                    written.filter(fits).filter(is_respelled), trimmed.filter(is_respelled), places.filter(is_respelled), row_number
                )
            is_beyond = self._check_trimmed(kind, trimmed, parsed, tally, lambda index: row_number(places[index]))
            if is_beyond is not None and name in self._rules.fixed:
                parsed = self._without_beyond(name, kind, parsed, trimmed, is_beyond, lambda index: row_number(places[index]))
            refitted = values.clone().scatter(places, parsed)
            tally.filled += places.len()
        indices, unparsed = indices.filter(~fits), unparsed.filter(~fits)
        if unparsed.len():
            self._count_misfits(name, kind, indices, unparsed, row_number)
        return refitted

    @staticmethod
    def _check_trimmed(
        kind: TextType, text: pl.Series, values: pl.Series, tally: TypeTally, row_number: Callable[[int], int]
    ) -> pl.Series | None:
        if kind.is_number:
            number_checks.check_leading_marks(kind, text, tally, row_number)
        if kind.name == "INTEGER":
            number_checks.check_integers(values, text, tally, row_number)
        elif kind.name == "FLOAT":
            return number_checks.check_floats(kind, values, text, tally, row_number)
        elif kind.has_time:
            _check_fractions(kind, text, tally, row_number)
        return None

    def _count_misfits(self, name: str, kind: TextType, indices: pl.Series, unparsed: pl.Series, row_number: Callable[[int], int]) -> None:
        tally = self._tallies[name]
        tally.filled += unparsed.len()
        tally.misfits += unparsed.len()
        if tally.first_misfit is None:
            tally.first_misfit = row_number(indices[0]), unparsed[0]
        if name not in self._rules.fixed:
            is_wider: pl.Series | None = None
            if kind.name in ("INTEGER", "DECIMAL"):
                is_wider = number_checks.count_numbers(kind, unparsed, tally, lambda index: row_number(indices[index]))
            elif kind.wider is not None:
                is_wider = unparsed.to_frame("v").select(kind.wider.parse(pl.col("v"))).to_series().is_not_null()
            if is_wider is not None:
                tally.wider_misfits += int(is_wider.sum())
                indices, unparsed = indices.filter(~is_wider), unparsed.filter(~is_wider)
        for row_index, value in zip(indices[: limits.MAX_ISSUES].to_list(), unparsed[: limits.MAX_ISSUES].to_list(), strict=True):
            if tally.issues.is_full:
                break
            row = row_number(row_index)
            tally.issues.add("BAD_VALUE", describe_misfit(name, row, value, kind), column=name, row=row)
        tally.issues.count = tally.misfits - tally.wider_misfits

    def types(self) -> dict[str, TextType]:
        return {name: self._types.get(name, TEXT) for name in self.names}

    def _final_type(self, name: str) -> TextType:
        kind = self._types.get(name, TEXT)
        return kind if name in self._rules.fixed else self._tallies[name].final_type(kind)

    def revised_types(self) -> dict[str, TextType] | None:
        """Return the types for another pass, or None if the proposed ones fit the whole file."""
        final_types = {name: self._final_type(name) for name in self.names}
        for name in self._written_untyped:
            if self._types.get(name, TEXT) != TEXT:
                return final_types  # the first blocks had no value and were written as text
        return final_types if final_types != self.types() else None

    def issues(self) -> IssueLog:
        """Return issues for values, ordered by row. Call it once `revised_types` returns None."""
        notes = IssueLog()
        for name in self.names:
            self._tallies[name].notes.add_issues(name, notes)
        misfit_issues = [issue for name in self.names for issue in self._tallies[name].issues.entries]
        self._last_row.add_issue(notes)
        log = IssueLog()
        log.entries = sorted([*notes.entries, *misfit_issues], key=lambda issue: issue["row"] or 0)[: limits.MAX_ISSUES]
        log.count = notes.count + sum(self._tallies[name].issues.count for name in self.names)
        return log

    def column_issues(self) -> IssueLog:
        """Return issues that explain why a column that looks like another type is text, or what was assumed."""
        log, units = IssueLog(), dict(self._units)
        for name, kind in self.types().items():
            if name in self._rules.fixed:
                continue
            tally, is_text = self._tallies[name], self._final_type(name) == TEXT
            lossy_value = self._kept_as_text.get(name) or (tally.lossy_value(kind) if is_text else None)
            if lossy_value is not None:
                row, value = lossy_value
                log.add("KEPT_AS_TEXT", describe_kept_as_text(name, row, value), column=name, row=row)
            elif name in self._open_dates and is_text:
                row, value = self._open_dates[name]
                message = (
                    f"Column {name!r} is kept as text: its dates, the first of which is {short_repr(value)} in row {row}, may have the day or the "
                    "month first. Write them as 2024-12-31, or give the column the type DATE or DATETIME when you upload the file, which takes "
                    "the day first."
                )
                log.add("OPEN_DATES", message, column=name, row=row)
            elif tally.first_misfit is not None and is_text and kind != JSON and tally.misfits == 1 and tally.first_misfit[0] == 1:
                units[name] = tally.first_misfit[1]
            elif tally.first_misfit is not None and is_text and kind != JSON:
                row, value = tally.first_misfit
                message = (
                    f"Column {name!r} is kept as text: {tally.misfits - tally.wider_misfits:,} of {tally.filled:,} values are not {kind.noun}, "
                    f"the first is {short_repr(value)} in row {row}. Up to 1 % would have been treated as missing."
                )
                log.add("MIXED_COLUMN", message, column=name, row=row)
        add_units_issue(log, units)
        return log

    def mark_issues(self) -> IssueLog:
        """Return issues about the decimal mark."""
        log = IssueLog()
        mark = self.mark or POINT
        name_of = {".": "point", ",": "comma"}
        other = name_of["," if mark.mark == "." else "."]
        for name in mark.contrary:
            if name not in self._rules.fixed:
                message = (
                    f"Column {name!r} is kept as text: its numbers have a decimal {other}, and those of the other columns a decimal "
                    f"{name_of[mark.mark]}. Give the decimal mark or the column's type when you upload the file."
                )
                log.add("OTHER_DECIMAL_MARK", message, column=name)
        for name in mark.assumed:
            if name not in self._rules.fixed and self.types()[name].is_number:
                kind = self.types()[name]
                reading = "between groups of three digits" if kind.name != "FLOAT" else f"a decimal {name_of[mark.mark]}"
                message = (
                    f"Column {name!r}: nothing in the file shows whether the mark in its numbers is a decimal mark or stands between groups of "
                    f"three digits; it was read as {'a mark ' if kind.name != 'FLOAT' else ''}{reading}. "
                    "If that is wrong, give the decimal mark when you upload the file."
                )
                log.add("DECIMAL_MARK_ASSUMED", message, column=name)
        return log


def _check_fractions(kind: TextType, text: pl.Series, tally: TypeTally, row_number: Callable[[int], int]) -> None:
    """Note digits beyond microseconds in the times among `text`."""
    indices = _finer_places(kind, text)
    if indices.len():
        tally.notes.add_finer(indices.len(), row_number(indices[0]), text[indices[0]])


def _finer_places(kind: TextType, text: pl.Series) -> pl.Series:
    longest = text.str.len_bytes().max()  # the regular expression costs twice as much as parsing
    is_short = not isinstance(longest, int) or longest < len("1.1.2024 0:00:00.1234567" if kind.is_date else "0:00:00.1234567")
    return pl.Series(dtype=pl.UInt32) if is_short else text.str.contains(FINER_THAN_MICROSECONDS).arg_true()
