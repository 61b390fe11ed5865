"""Types of text columns.

The first block (8 MiB) proposes a type for each column: the narrowest that fits 90 % of its values. The whole file then decides. If at
most 1 % of the values do not fit, they become missing, each an issue with row and column; if more do not, the column is text (or the
wider type) and the file is parsed again. Nothing is converted with a loss: a single number with leading zeros ("007") makes a column
text, and so does one with a point or an exponent (001.5, 003E7), a whole number with a plus in a column without a minus (+49151 is the
beginning of a telephone number), and a time with a digit beyond microseconds that is not zero; `numbers` has the rule for long numbers.

INTEGER: an optional sign and digits. FLOAT: also a decimal mark, an exponent or `inf`. The decimal mark is the file's (`decimal_marks`);
the other mark may stand between groups of three digits. BOOLEAN: true, True, TRUE and the same forms of false. DATE and DATETIME: ISO
8601 first, then the formats below; day/month/year and month/day/year, also with hyphens, are distinguished only if the values are
unambiguous, otherwise the column is text. A column may mix them with the formats that have one reading. A time with an offset is converted to UTC. TIME and DURATION:
`clock`. JSON: every value is an object or array.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, Final

import orjson
import polars as pl

from workers.ml import limits
from workers.ml.reading import missing_words
from workers.ml.reading.clock import parse_clock
from workers.ml.reading.issues import IssueLog
from workers.ml.reading.missing_words import MissingWords
from workers.ml.reading.numbers import MAX_DIGITS, NumberTally, parse_decimals
from workers.ml.reading.reader_state import ReaderState
from workers.ml.reading.value_notes import ValueNotes

_ONE_READING: Final = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y")
_FIRST_DATE: Final = date(1000, 1, 1)  # otherwise "01.02.20" would be a date in the year 20
NUMERIC: Final = frozenset({"INTEGER", "FLOAT", "DECIMAL"})
_WITH_TIME: Final = frozenset({"DATETIME", "TIME", "DURATION"})


@dataclass(frozen=True)
class TextType:
    """A ColumnType with its parse format: chrono's for DATE and DATETIME; for numbers "," or "." if they have that decimal mark and the
    other mark may group digits, None if they have a decimal point and no groups. `scale` is that of DECIMAL."""

    name: str
    parse_format: str | None = None
    scale: int = 0

    def parse(self, text: pl.Expr, words: MissingWords = missing_words.DEFAULT) -> pl.Expr:
        """Parse text to this type; null if it does not fit, NaN if the text is a form of NaN."""
        match self.name:
            case "INTEGER":
                return self.plain(text).cast(pl.Int64, strict=False)
            case "FLOAT":
                return self.plain(text).cast(pl.Float64, strict=False)
            case "DECIMAL":
                scale = self.scale
                return self.plain(text).map_batches(lambda values: parse_decimals(values, scale), return_dtype=self.dtype)
            case "BOOLEAN":
                # Comparisons of short texts take half the time of `is_in`.
                is_true = (text == "true") | (text == "True") | (text == "TRUE")
                is_false = (text == "false") | (text == "False") | (text == "FALSE")
                return pl.when(is_true | is_false).then(is_true)
            case "DATE":
                day = text.str.to_date(self.parse_format, strict=False)
                return day if self.parse_format == "%Y-%m-%d" else pl.when(day >= _FIRST_DATE).then(day)
            case "DATETIME":
                return text.str.to_datetime(self.parse_format, strict=False, time_unit="us")
            case "TIME" | "DURATION":
                return parse_clock(text, is_time=self.name == "TIME")
            case _:
                return pl.when(words.in_text(text)).then(None).otherwise(text)

    def parse_mixed(self, text: pl.Expr, words: MissingWords = missing_words.DEFAULT) -> pl.Expr:
        """Parse as `parse` does, and dates and times also if they are written in another way that has one reading."""
        formats: list[str] = []
        if self.name == "DATE":
            formats = [*_ONE_READING, "%Y-%m-%d 00:00:00"]
        elif self.name == "DATETIME":
            zones = ("%#z", " %#z") if (self.parse_format or "").endswith("%#z") else ("",)
            clocks = [f"{join}{clock}{zone}" for join in " T" for clock in ("%H:%M:%S%.f", "%H:%M") for zone in zones]
            formats = [day + clock for day in _ONE_READING for clock in clocks]
        kinds = [self, *(replace(self, parse_format=parse_format) for parse_format in formats if parse_format != self.parse_format)]
        return pl.coalesce([kind.parse(text, words) for kind in kinds])

    def plain(self, text: pl.Expr) -> pl.Expr:
        """Numbers with a decimal point and without groups; null if the marks are not those of this type."""
        if self.parse_format is None:
            return text
        group = "." if self.parse_format == "," else ","
        is_grouped = text.str.contains(group, literal=True)
        pattern = rf"^[+-]?\d{{1,3}}(?:[{group}]\d{{3}})+(?:[{self.parse_format}]\d*)?$"
        ungrouped = pl.when(text.str.contains(pattern)).then(text.str.replace_all(group, "", literal=True))
        plain = pl.when(is_grouped).then(ungrouped).otherwise(text)
        return plain.str.replace(",", ".", literal=True, n=1) if self.parse_format == "," else plain

    def plain_values(self, texts: pl.Series) -> pl.Series:
        return texts if self.parse_format is None else texts.to_frame("v").select(self.plain(pl.col("v"))).to_series()

    @property
    def dtype(self) -> pl.DataType:
        match self.name:
            case "INTEGER":
                return pl.Int64()
            case "FLOAT":
                return pl.Float64()
            case "DECIMAL":
                return pl.Decimal(MAX_DIGITS, self.scale)
            case "BOOLEAN":
                return pl.Boolean()
            case "DATE":
                return pl.Date()
            case "DATETIME":
                return pl.Datetime("us", "UTC" if self.parse_format and self.parse_format.endswith("%#z") else None)
            case "TIME":
                return pl.Time()
            case "DURATION":
                return pl.Duration("us")
            case _:
                return pl.String()

    @property
    def is_number(self) -> bool:
        return self.name in NUMERIC

    @property
    def is_date(self) -> bool:
        return self.name in ("DATE", "DATETIME")

    @property
    def has_time(self) -> bool:
        return self.name in _WITH_TIME

    @property
    def wider(self) -> TextType | None:
        """The type that also takes some values which do not fit this one."""
        if self.name == "TIME":
            return DURATION
        return replace(self, name="FLOAT") if self.name == "INTEGER" else None

    @property
    def noun(self) -> str:
        """The type in words for messages; not defined for text and JSON."""
        return {
            "INTEGER": "an integer", "FLOAT": "a number", "DECIMAL": "a number", "BOOLEAN": "true or false", "DATE": "a date",
            "DATETIME": "a time", "TIME": "a time of day", "DURATION": "a duration",
        }[self.name]  # fmt: skip


TEXT: Final = TextType("STRING")
JSON: Final = TextType("JSON")
INTEGER: Final = TextType("INTEGER")
FLOAT: Final = TextType("FLOAT")
BOOLEAN: Final = TextType("BOOLEAN")
TIME: Final = TextType("TIME")
DURATION: Final = TextType("DURATION")


def types_to_state(types: Mapping[str, TextType] | None) -> ReaderState | None:
    return None if types is None else {name: [kind.name, kind.parse_format, kind.scale] for name, kind in types.items()}


def types_from_state(state: ReaderState | None) -> dict[str, TextType] | None:
    return None if state is None else {name: TextType(*parts) for name, parts in state.items()}


@dataclass
class TypeTally:
    """Counts of how the values of the whole file fit one column's proposed type."""

    filled: int = 0
    misfits: int = 0
    wider_misfits: int = 0
    """Misfits that parse as the wider type, or as a number."""
    first_misfit: tuple[int, str] | None = None
    leading_zeros: tuple[int, str] | None = None
    """Row and text of the first number with leading zeros."""
    first_plus: tuple[int, str] | None = None
    """Row and text of the first whole number with a plus sign."""
    has_minus: bool = False
    """Whether a number has a minus sign, so that a plus is only a sign, too."""
    numbers: NumberTally = field(default_factory=NumberTally)
    """Complete for INTEGER; for FLOAT and DECIMAL only what raises a doubt."""
    issues: IssueLog = field(default_factory=IssueLog)
    notes: ValueNotes = field(default_factory=ValueNotes)

    def state(self) -> ReaderState:
        return {
            **vars(self), "numbers": self.numbers.state(), "issues": self.issues.state(), "notes": self.notes.state(),
        }  # fmt: skip

    @classmethod
    def from_state(cls, state: ReaderState) -> TypeTally:
        names = ("first_misfit", "leading_zeros", "first_plus")
        positions = {name: None if state.get(name) is None else (state[name][0], state[name][1]) for name in names}
        parts = {
            "numbers": NumberTally.from_state(state["numbers"]),
            "issues": IssueLog.from_state(state["issues"]),
            "notes": ValueNotes.from_state(state["notes"]),
        }
        values: dict[str, Any] = {**state, **positions, **parts}
        return cls(**values)

    @property
    def _has_many_misfits(self) -> bool:
        return self.misfits - self.wider_misfits > limits.MAX_MISFIT_SHARE * self.filled

    def lossy_value(self, proposed: TextType) -> tuple[int, str] | None:
        """Row and text of the first value that the proposed type, or a wider one, would not preserve; None if all are preserved."""
        if self.leading_zeros is not None:
            return self.leading_zeros
        if proposed.is_number and self.numbers.lossy_value is not None:
            return self.numbers.lossy_value
        if self._has_many_misfits:
            return None
        if proposed.has_time:
            return self.notes.first_finer
        is_whole = (proposed.name == "INTEGER" and not self.numbers.fractions) or (proposed.name == "DECIMAL" and not proposed.scale)
        return self.first_plus if is_whole and not self.has_minus else None

    def final_type(self, proposed: TextType) -> TextType:
        """Return the type that the counts justify: the proposed one, a wider one, or text.

        INTEGER for a proposed FLOAT or DECIMAL means another pass, which counts everything that the rule for numbers needs.
        """
        if proposed == TEXT or (proposed == JSON and not self.misfits):
            return proposed
        if proposed == JSON or self.lossy_value(proposed) is not None or self._has_many_misfits:
            return TEXT
        match proposed.name:
            case "INTEGER":
                return replace(
                    proposed, name=self.numbers.kind, scale=self.numbers.fraction_digits if self.numbers.kind == "DECIMAL" else 0
                )
            case "FLOAT" if self.numbers.inexact is not None:
                return replace(proposed, name="INTEGER")
            case "DECIMAL" if self.wider_misfits:
                return replace(proposed, name="INTEGER", scale=0)
            case _:
                return proposed.wider or proposed if self.wider_misfits else proposed


def is_json(text: str) -> bool:
    """True for the text of a JSON object or array."""
    try:
        return isinstance(orjson.loads(text), dict | list)
    except orjson.JSONDecodeError:
        return False
