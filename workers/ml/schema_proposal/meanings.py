"""The semantic type of a column, from its name, its profile and samples of its values."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from workers.ml.schema_proposal.codes import COUNTRY_CODES_2, COUNTRY_CODES_3, COUNTRY_NAMES, CURRENCY_CODES, CURRENCY_SYMBOLS

_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_CODES = "|".join(sorted(CURRENCY_CODES))
_NUMBER = r"[-+]?\d[\d.,' \u00a0\u202f]*"
_AMOUNT = re.compile(
    rf"[-+]?(?:[{CURRENCY_SYMBOLS}]|{_CODES})\s?{_NUMBER}|{_NUMBER}\s?(?:[{CURRENCY_SYMBOLS}]|{_CODES})",
)
_UNIT = re.compile(rf"[{CURRENCY_SYMBOLS}]|{_CODES}")
_PATTERNS: Final[Sequence[tuple[str, str, re.Pattern[str]]]] = (
    ("email", "an e-mail address", re.compile(r"[^@\s<>,;]+@[^@\s.<>,;]+(?:\.[^@\s.<>,;]+)+")),
    ("url", "a URL", re.compile(r"(?:https?|ftp|s3)://\S+|www\.\S+\.\S+", re.IGNORECASE)),
    ("uuid", "a UUID", re.compile(r"\{?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\}?", re.IGNORECASE)),
    ("currency", "an amount with its currency", _AMOUNT),
    ("phone", "a telephone number", re.compile(r"\+\d[\d ()./-]{6,18}\d|\(\d{3}\) ?\d{3}-\d{4}|\d{3}-\d{3}-\d{4}")),
    ("percentage", "a percentage", re.compile(r"[-+]?\d+(?:[.,]\d+)?\s?%")),
    ("geometry", "a geometry in WKT", re.compile(r"(?:MULTI)?(?:POINT|LINESTRING|POLYGON)\s*Z?\s*\(.*\)", re.IGNORECASE | re.DOTALL)),
    ("coordinates", "a latitude and a longitude", re.compile(r"\(?-?\d{1,2}\.\d+\s*[,;]\s*-?\d{1,3}\.\d+\)?")),
)
_DATES: Final = (
    ("YYYY-MM-DD", re.compile(r"\d{4}-\d{2}-\d{2}")),
    ("YYYY/MM/DD", re.compile(r"\d{4}/\d{1,2}/\d{1,2}")),
    ("DD.MM.YYYY", re.compile(r"\d{1,2}\.\d{1,2}\.\d{4}")),
    ("DD/MM/YYYY or MM/DD/YYYY", re.compile(r"\d{1,2}/\d{1,2}/\d{4}")),
)
_OF_TYPE: Final = {
    "DATE": ("date", "YYYY-MM-DD", "Its values are dates."),
    "DATETIME": ("datetime", "ISO 8601", "Its values are dates with times."),
    "TIME": ("time", "HH:MM:SS", "Its values are times of day."),
    "DURATION": ("duration", None, "Its values are durations."),
    "BOOLEAN": ("boolean", None, "Its values are true and false."),
    "JSON": ("json", None, "Its values are JSON."),
    "BINARY": ("binary", None, "Its values are bytes."),
}
NUMBERS: Final = frozenset({"INTEGER", "FLOAT", "DECIMAL"})
_MONEY_WORDS: Final = frozenset(
    {"price", "amount", "cost", "costs", "revenue", "salary", "income", "fee", "fees", "fare", "payment", "balance", "wage"}
)
ID_WORDS: Final = frozenset({"id", "ids", "uuid", "guid", "key", "identifier", "index", "rowid", "rownum"})
MAX_CLASSES: Final = 20
MIN_SHARE: Final = 0.9  # the share of sampled values that a pattern has to match
_MIN_SEQUENCE: Final = 10


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """What is known of a column. `samples` are distinct values that are not missing, those of the first rows first."""

    name: str
    type: str
    rows: int
    missing: int
    distinct: int
    minimum: Any
    maximum: Any
    samples: Sequence[Any]
    is_exact: bool

    @property
    def words(self) -> frozenset[str]:
        return frozenset(word.lower() for word in _WORDS.findall(self.name))

    @property
    def is_empty(self) -> bool:
        return self.missing == self.rows

    @property
    def is_unique(self) -> bool:
        """Whether no value occurs twice and none is missing; above 5 million rows, distinct values are an estimate within 2 %."""
        return self.rows > 1 and self.missing == 0 and self.distinct >= (self.rows if self.is_exact else 0.98 * self.rows)

    @property
    def texts(self) -> list[str]:
        return [value.strip() for value in self.samples if isinstance(value, str) and value.strip()]


@dataclass(frozen=True, slots=True)
class Meaning:
    """A semantic type, None if nothing is known of a column, with a confidence from 0 to 1 and the reason, a sentence."""

    semantic_type: str | None
    confidence: float
    reason: str
    format: str | None = None


def meaning_of(column: ColumnFacts) -> Meaning:
    """Return the most specific meaning that the values support."""
    if column.is_empty:
        return Meaning(None, 1.0, "It has no values.")
    if column.type in _OF_TYPE:
        semantic_type, form, reason = _OF_TYPE[column.type]
        return Meaning(semantic_type, 1.0, reason, form)
    return _meaning_of_number(column) if column.type in NUMBERS else _meaning_of_text(column)


def _meaning_of_number(column: ColumnFacts) -> Meaning:
    words = column.words
    for name, short, bound in (("latitude", {"lat", "latitude"}, 90), ("longitude", {"lon", "lng", "long", "longitude"}, 180)):
        if words & short and _is_within(column, bound):
            return Meaning(name, 0.95, f"Its name says {name}, and its values are between {-bound} and {bound}.")
    identifier = _identifier(column) if column.type == "INTEGER" else None
    if identifier is not None:
        return identifier
    if words & _MONEY_WORDS:
        return Meaning("currency", 0.75, "Its name is that of an amount of money, and its values are numbers.")
    if column.type == "INTEGER" and column.distinct <= min(MAX_CLASSES, max(2, column.rows // 10)):
        return Meaning("category", 0.7, f"It has only {column.distinct:,} different integers in {column.rows:,} rows.")
    return Meaning("number", 0.9, "Its values are numbers.")


def _is_within(column: ColumnFacts, bound: float) -> bool:
    numbers = [value for value in (column.minimum, column.maximum) if isinstance(value, int | float)]
    return len(numbers) == 2 and all(abs(value) <= bound for value in numbers)


def _identifier(column: ColumnFacts) -> Meaning | None:
    """An identifier is named so, or unique as a UUID or a sequence of integers is."""
    words = column.words
    if words & ID_WORDS:
        if column.is_unique:
            return Meaning("identifier", 0.98, "Its name says so, and no two rows have the same value.")
        if not words & {"index", "key"}:
            return Meaning("identifier", 0.8, f"Its name says so; its {column.distinct:,} values repeat.")
    low, high = column.minimum, column.maximum
    is_sequence = isinstance(low, int) and isinstance(high, int) and high - low + 1 == column.rows
    if is_sequence and column.is_unique and column.rows >= _MIN_SEQUENCE:
        return Meaning("identifier", 0.8, f"Its values number the rows from {low:,} to {high:,}.")
    return None


def _meaning_of_text(column: ColumnFacts) -> Meaning:
    texts = column.texts
    if not texts:
        return Meaning("category", 0.5, "Its values are empty texts.")
    known = _by_pattern(texts) or _by_date(texts) or _by_code(column, texts) or _identifier(column)
    if known is not None:
        return known
    words = sum(len(text.split()) for text in texts) / len(texts)
    characters = sum(map(len, texts)) / len(texts)
    if words >= 4 or characters >= 60:
        return Meaning("text", 0.9, f"Its values are texts of {words:.0f} words on average.")
    if column.is_unique and column.rows >= _MIN_SEQUENCE and all(len(text.split()) == 1 and any(map(str.isdigit, text)) for text in texts):
        return Meaning("identifier", 0.75, "No two rows have the same value, and the values look like codes.")
    if column.type == "CATEGORY":
        return Meaning("category", 0.95, f"It has {column.distinct:,} different values in {column.rows:,} rows.")
    return Meaning("category" if column.distinct <= column.rows / 2 else "text", 0.6, f"Its {column.distinct:,} values are short texts.")


def _by_pattern(texts: list[str]) -> Meaning | None:
    for semantic_type, noun, pattern in _PATTERNS:
        share = _share(texts, lambda text, pattern=pattern: pattern.fullmatch(text) is not None)
        if share >= MIN_SHARE:
            return Meaning(semantic_type, share, f"{_percent(share)} of its values look like {noun}.", _unit(semantic_type, texts))
    share = _share(texts, _is_address)
    return Meaning("ip_address", share, f"{_percent(share)} of its values are IP addresses.") if share >= MIN_SHARE else None


def _unit(semantic_type: str, texts: list[str]) -> str | None:
    """The one currency of all amounts; None if there are several."""
    if semantic_type != "currency":
        return None
    units = {match[0] for text in texts if (match := _UNIT.search(text))}
    return units.pop() if len(units) == 1 else None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _by_date(texts: list[str]) -> Meaning | None:
    for form, pattern in _DATES:
        share = _share(texts, lambda text, pattern=pattern: pattern.fullmatch(text) is not None)
        if share >= MIN_SHARE:
            return Meaning("date", 0.9 * share, f"{_percent(share)} of its values look like dates, but they were read as texts.", form)
    return None


def _by_code(column: ColumnFacts, texts: list[str]) -> Meaning | None:
    """Countries and currencies. Of one or two values, which may be anything, the name has to say so too."""
    named_country = bool(column.words & {"country", "countries", "nation", "nationality"})
    named_currency = bool(column.words & {"currency", "ccy"})
    candidates: tuple[tuple[str, str, bool, Callable[[str], bool], str], ...] = (
        ("currency_code", "ISO 4217", named_currency, CURRENCY_CODES.__contains__, "codes of currencies"),
        ("country", "ISO 3166-1 alpha-2", named_country, COUNTRY_CODES_2.__contains__, "codes of countries"),
        ("country", "ISO 3166-1 alpha-3", named_country, COUNTRY_CODES_3.__contains__, "codes of countries"),
        ("country", "name", named_country, lambda text: text.casefold() in COUNTRY_NAMES, "names of countries"),
    )
    for semantic_type, form, is_named, holds, noun in candidates:
        share = _share(texts, holds)
        if share >= MIN_SHARE and (is_named or len(set(texts)) > 2):
            confidence = share if is_named else 0.85 * share
            return Meaning(semantic_type, confidence, f"{_percent(share)} of its values are {noun}.", form)
    return None


def _share(texts: Sequence[str], holds: Callable[[str], bool]) -> float:
    return sum(map(holds, texts)) / len(texts)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
