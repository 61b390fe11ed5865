"""Types of text columns.

The first block (8 MiB) proposes a type for each column: the narrowest that fits 90 % of its values. The whole file then decides. If at
most 1 % of the values do not fit, they become missing, each an issue with row and column; if more do not, the column is text (or the
wider type) and the file is parsed again. Nothing is converted with a loss: a single number with leading zeros ("007") or beyond 64 bits
makes a column text.

INTEGER: an optional sign and digits. FLOAT: also a decimal point, an exponent or `inf`; a decimal comma if the delimiter is another
character. BOOLEAN: true, True, TRUE and the same forms of false. DATE and DATETIME: ISO 8601 first, then the formats below;
day/month/year and month/day/year are distinguished only if the values are unambiguous, otherwise the column is text. A time with an
offset is converted to UTC. JSON: every value is an object or array. Numbers with thousands separators stay text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Final

import orjson
import polars as pl

from workers.ml import limits
from workers.ml.reading.issues import IssueLog, short_repr
from workers.ml.reading.reader_state import ReaderState

# The defaults of pandas.read_csv, plus "Null".
MISSING_WORDS: Final = [
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL", "Null", "NaN",
    "None", "n/a", "nan", "null",
]  # fmt: skip
PLACEHOLDERS: Final = ["?", "-", "--", ".", "*"]
"""Also missing in columns of numbers, booleans or times; text elsewhere."""

_LONGEST_WORD: Final = max(map(len, MISSING_WORDS))
_DATE_FORMATS: Final = [
    (re.compile(r"\d{4}-\d{1,2}-\d{1,2}"), "%Y-%m-%d"),
    (re.compile(r"\d{4}/\d{1,2}/\d{1,2}"), "%Y/%m/%d"),
    (re.compile(r"\d{1,2}\.\d{1,2}\.\d{4}"), "%d.%m.%Y"),
    (re.compile(r"\d{1,2}/\d{1,2}/\d{4}"), "%d/%m/%Y"),
    (re.compile(r"\d{1,2}/\d{1,2}/\d{4}"), "%m/%d/%Y"),
]
_TIME_PATTERN: Final = re.compile(
    r"(?P<join>[T ])\d{1,2}:\d{2}(?P<seconds>:\d{2}(?P<fraction>[.]\d+)?)?(?P<zone> ?(?:Z|[+-]\d{2}:?\d{2}))?"
)
_FIRST_DATE: Final = date(1000, 1, 1)  # otherwise "01.02.20" would be a date in the year 20


@dataclass(frozen=True)
class TextType:
    """A ColumnType with its parse format: chrono's for DATE and DATETIME, "," for FLOAT with a decimal comma."""

    name: str
    parse_format: str | None = None

    def parse(self, text: pl.Expr) -> pl.Expr:
        """Parse text to this type; null if it does not fit, NaN if the text is a form of NaN."""
        match self.name:
            case "INTEGER":
                return text.cast(pl.Int64, strict=False)
            case "FLOAT" if self.parse_format == ",":
                return text.str.replace(",", ".", literal=True, n=1).cast(pl.Float64, strict=False)
            case "FLOAT":
                return text.cast(pl.Float64, strict=False)
            case "BOOLEAN":
                is_true = text.is_in(["true", "True", "TRUE"])
                return pl.when(is_true | text.is_in(["false", "False", "FALSE"])).then(is_true)
            case "DATE":
                day = text.str.to_date(self.parse_format, strict=False)
                return day if self.parse_format == "%Y-%m-%d" else pl.when(day >= _FIRST_DATE).then(day)
            case "DATETIME":
                return text.str.to_datetime(self.parse_format, strict=False, time_unit="us")
            case _:
                missing = (text.str.len_bytes() <= _LONGEST_WORD) & text.is_in(MISSING_WORDS)
                return pl.when(missing).then(None).otherwise(text)

    @property
    def dtype(self) -> pl.DataType:
        match self.name:
            case "INTEGER":
                return pl.Int64()
            case "FLOAT":
                return pl.Float64()
            case "BOOLEAN":
                return pl.Boolean()
            case "DATE":
                return pl.Date()
            case "DATETIME":
                return pl.Datetime("us", "UTC" if self.parse_format and self.parse_format.endswith("%#z") else None)
            case _:
                return pl.String()

    @property
    def noun(self) -> str:
        """The type in words for messages; not defined for text and JSON."""
        return {"INTEGER": "an integer", "FLOAT": "a number", "BOOLEAN": "true or false", "DATE": "a date", "DATETIME": "a time"}[self.name]


TEXT: Final = TextType("STRING")
JSON: Final = TextType("JSON")
INTEGER: Final = TextType("INTEGER")
FLOAT: Final = TextType("FLOAT")
COMMA_FLOAT: Final = TextType("FLOAT", ",")
BOOLEAN: Final = TextType("BOOLEAN")


def types_to_state(types: Mapping[str, TextType] | None) -> ReaderState | None:
    return None if types is None else {name: [kind.name, kind.parse_format] for name, kind in types.items()}


def types_from_state(state: ReaderState | None) -> dict[str, TextType] | None:
    return None if state is None else {name: TextType(kind, form) for name, (kind, form) in state.items()}


@dataclass
class TypeTally:
    """Counts of how the values of the whole file fit one column's proposed type."""

    filled: int = 0
    misfits: int = 0
    float_misfits: int = 0
    """Misfits of INTEGER that parse as FLOAT."""
    first_misfit: tuple[int, str] | None = None
    lossy_value: tuple[int, str] | None = None
    """Row and text of the first value that a number would not preserve: leading zeros, or more than 64 bits."""
    issues: IssueLog = field(default_factory=IssueLog)

    def state(self) -> ReaderState:
        positions = {"first": self.first_misfit, "keeps_text": self.lossy_value}
        return {"filled": self.filled, "misfits": self.misfits, "wider": self.float_misfits, **positions, "issues": self.issues.state()}

    @classmethod
    def from_state(cls, state: ReaderState) -> TypeTally:
        first_misfit, lossy_value = (
            None if position is None else (position[0], position[1]) for position in (state["first"], state["keeps_text"])
        )
        return cls(state["filled"], state["misfits"], state["wider"], first_misfit, lossy_value, IssueLog.from_state(state["issues"]))

    def final_type(self, proposed: TextType) -> TextType:
        """Return the type that the counts justify: the proposed one, FLOAT instead of INTEGER, or text."""
        if proposed == TEXT or (not self.misfits and self.lossy_value is None):
            return proposed
        if proposed == JSON or self.lossy_value is not None:
            return TEXT
        if self.misfits - self.float_misfits > limits.MAX_MISFIT_SHARE * self.filled:
            return TEXT
        return FLOAT if self.float_misfits else proposed


def propose(values: pl.Series, *, has_decimal_comma: bool = False) -> TextType | None:
    """Return the narrowest type that fits at least 90 % of the first block's values; None if all are missing."""
    filled = values.to_frame("v").select(TEXT.parse(pl.col("v"))).to_series().drop_nulls()
    if not filled.len():
        return None
    sample = filled.head(2_000)
    candidates = _candidates(sample, has_decimal_comma=has_decimal_comma)
    for candidate in candidates:
        if candidate == JSON:
            if all(map(is_json, filled)):
                return JSON
            continue
        non_placeholders = filled.filter(~filled.is_in(PLACEHOLDERS))
        if not non_placeholders.len():
            return TEXT
        share = (
            1
            - non_placeholders.to_frame("v").select(candidate.parse(pl.col("v").str.strip_chars())).to_series().null_count()
            / non_placeholders.len()
        )
        if candidate == INTEGER and share < 1 and _fitting_share(non_placeholders, FLOAT) > share:
            continue
        if share >= limits.MIN_PROPOSAL_SHARE:
            return TEXT if _is_ambiguous(candidate, non_placeholders) else candidate
    return TEXT


def _candidates(sample: pl.Series, *, has_decimal_comma: bool) -> list[TextType]:
    texts = [text.strip() for text in sample.head(200)]
    threshold = len(texts) * 0.5
    if sum(text[:1] in "0123456789+-.iInN,?*" for text in texts) >= threshold:
        return [INTEGER, FLOAT, *([COMMA_FLOAT] if has_decimal_comma else []), *_temporal_candidates(texts)]
    if sum(text.lower() in {"true", "false"} for text in texts) >= threshold:
        return [BOOLEAN]
    if all(text[:1] in {"{", "["} for text in texts):
        return [JSON]
    return []


def _temporal_candidates(texts: list[str]) -> list[TextType]:
    candidates: dict[TextType, None] = {}
    for text in texts[:20]:
        for pattern, date_format in _DATE_FORMATS:
            day = pattern.match(text)
            if day is None:
                continue
            rest = text[day.end() :]
            if not rest:
                candidates[TextType("DATE", date_format)] = None
            elif (time := _TIME_PATTERN.fullmatch(rest)) is not None:
                if date_format == "%Y-%m-%d" and all(other.endswith(" 00:00:00") for other in texts):
                    candidates[TextType("DATE", "%Y-%m-%d 00:00:00")] = None
                clock = "%H:%M" + ("" if not time["seconds"] else ":%S%.f" if any("." in other[day.end() :] for other in texts) else ":%S")
                zone = "" if not time["zone"] else " %#z" if time["zone"].startswith(" ") else "%#z"
                candidates[TextType("DATETIME", date_format + time["join"] + clock + zone)] = None
    return list(candidates)


def _is_ambiguous(candidate: TextType, values: pl.Series) -> bool:
    """True if day/month/year and month/day/year both fit: 03/04 could be the third of April or the fourth of March."""
    if candidate.parse_format is None or "/%Y" not in candidate.parse_format:
        return False
    other = TextType(
        candidate.name,
        candidate.parse_format.replace("%d/%m", "%m/%d")
        if candidate.parse_format.startswith("%d")
        else candidate.parse_format.replace("%m/%d", "%d/%m"),
    )
    return _fitting_share(values, other) >= _fitting_share(values, candidate)


def _fitting_share(values: pl.Series, kind: TextType) -> float:
    return 1 - values.to_frame("v").select(kind.parse(pl.col("v").str.strip_chars())).to_series().null_count() / max(1, values.len())


def is_json(text: str) -> bool:
    """True for the text of a JSON object or array."""
    try:
        return isinstance(orjson.loads(text), dict | list)
    except orjson.JSONDecodeError:
        return False


def describe_misfit(column: str, row: int, value: str, kind: TextType) -> str:
    return f"Row {row}, column {column!r}: {short_repr(value)} is not {kind.noun}; it was treated as missing."
