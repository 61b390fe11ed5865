"""Proposals: which type the first block of a column of text suggests."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial, reduce
from operator import or_
from typing import Final, NamedTuple

import polars as pl

from workers.ml import limits
from workers.ml.reading import missing_words, typography
from workers.ml.reading.clock import CLOCK
from workers.ml.reading.issues import short_repr
from workers.ml.reading.missing_words import MissingWords
from workers.ml.reading.numbers import MAX_DIGITS
from workers.ml.reading.text_types import BOOLEAN, DURATION, FLOAT, INTEGER, JSON, NUMERIC, TEXT, TIME, TextType, is_json

_DATE_FORMATS: Final = [
    (re.compile(r"\d{4}-\d{1,2}-\d{1,2}"), "%Y-%m-%d"),
    (re.compile(r"\d{4}/\d{1,2}/\d{1,2}"), "%Y/%m/%d"),
    (re.compile(r"\d{1,2}\.\d{1,2}\.\d{4}"), "%d.%m.%Y"),
    (re.compile(r"\d{1,2}/\d{1,2}/\d{4}"), "%d/%m/%Y"),
    (re.compile(r"\d{1,2}/\d{1,2}/\d{4}"), "%m/%d/%Y"),
    (re.compile(r"\d{1,2}-\d{1,2}-\d{4}"), "%d-%m-%Y"),
    (re.compile(r"\d{1,2}-\d{1,2}-\d{4}"), "%m-%d-%Y"),
]
_TIME_PATTERN: Final = re.compile(
    r"(?P<join>[T ])\d{1,2}:\d{2}(?P<seconds>:\d{2}(?P<fraction>[.]\d+)?)?(?P<zone> ?(?:Z|[+-]\d{2}:?\d{2}))?"
)


class Proposal(NamedTuple):
    kind: TextType
    is_open_date: bool = False
    """Text, because day/month/year and month/day/year fit its dates alike, or some of them one and some the other."""
    odd_date: str | None = None
    """The first value because of which a column of dates and times is text: it has a time or an offset and others have not, or the reverse."""


def propose(values: pl.Series, mark: str = ".", words: MissingWords = missing_words.DEFAULT) -> Proposal | None:
    """Return the narrowest type that fits at least 90 % of the first block's values; None if all are missing."""
    filled = values.to_frame("v").select(TEXT.parse(pl.col("v"), words).drop_nulls()).to_series()
    if not filled.len():
        return None
    proposal = _propose(filled, mark, words)
    if proposal.kind == TEXT and typography.is_used(filled):
        plain = _propose(typography.plain_numbers(filled.str.strip_chars()), mark, words)
        return plain if plain.kind.is_number else proposal
    return proposal


def _propose(filled: pl.Series, mark: str, words: MissingWords) -> Proposal:
    values: pl.Series | None = None
    shares: dict[TextType, float] = {}
    candidates = _candidates(filled.head(2_000), mark)
    for candidate in candidates:
        if candidate == JSON:
            if all(map(is_json, filled)):
                return Proposal(JSON)
            continue
        if values is None:
            stripped = pl.col("v").str.strip_chars()
            values = filled.to_frame("v").select(stripped.filter(~stripped.is_in(words.placeholders))).to_series()
        if not values.len():
            return Proposal(TEXT)
        share = shares[candidate] if candidate in shares else _fitting_share(values, candidate)
        wider = candidate.wider
        if wider is not None and share < 1:
            shares[wider] = _fitting_share(values, wider)
            if shares[wider] > share:
                continue
        if share >= limits.MIN_PROPOSAL_SHARE:
            kind = candidate
            if kind.is_date and share < 1:
                # Another of the notations that the column mixes may fit more of its values.
                better = max((other for other in candidates if other.name == kind.name), key=partial(_fitting_share, values))
                kind = kind if _is_ambiguous(better, values) else better
            return Proposal(TEXT, is_open_date=True) if _is_ambiguous(kind, values) else Proposal(kind)
    return Proposal(TEXT) if values is None else _of_mixed_dates(values, [kind for kind in candidates if kind.is_date])


def _of_mixed_dates(values: pl.Series, candidates: list[TextType]) -> Proposal:
    """Text, and why, if most values are dates or times, but of several kinds."""
    if len(candidates) < 2:
        return Proposal(TEXT)
    fits = {kind: values.to_frame("v").select(kind.parse_mixed(pl.col("v")).is_not_null()).to_series() for kind in candidates}
    if reduce(or_, fits.values()).sum() < limits.MIN_PROPOSAL_SHARE * values.len():
        return Proposal(TEXT)
    best = max(candidates, key=lambda kind: fits[kind].sum())
    orders = [fits[kind] for kind in candidates if kind.name == best.name and _other_order(kind) is not None]
    if len(orders) > 1 and (orders[0] | orders[1]).sum() >= limits.MIN_PROPOSAL_SHARE * values.len():
        return Proposal(TEXT, is_open_date=True)
    return Proposal(TEXT, odd_date=values[(~fits[best]).arg_true()[0]])


def propose_of_type(name: str, values: pl.Series, mark: str) -> TextType:
    """Return the form of a type that a user chose which fits most values of the first block."""
    if name in {"STRING", "CATEGORY", "JSON", "BINARY"}:
        return TextType(name)
    filled = values.drop_nulls().str.strip_chars()
    if name in NUMERIC:
        is_marked = mark == "," or filled.str.contains(",", literal=True).any()
        kind = TextType(name, mark if is_marked else None)
        if name == "DECIMAL":
            plain = kind.plain_values(filled).drop_nulls()
            digits = plain.str.extract(r"\.(\d+)$").str.len_bytes().max()
            kind = replace(kind, scale=min(digits if isinstance(digits, int) else 0, MAX_DIGITS - 1))
        return kind
    candidates = [kind for kind in _temporal_candidates(filled.head(200).to_list()) if kind.name == name]
    default = TextType(name, {"DATE": "%Y-%m-%d", "DATETIME": "%Y-%m-%d %H:%M:%S"}.get(name))
    return max(candidates, key=lambda kind: _fitting_share(filled, kind), default=default)


def _candidates(sample: pl.Series, mark: str) -> list[TextType]:
    texts = [text.strip() for text in sample.head(200)]
    threshold = len(texts) * 0.5
    if sum(text[:1] in "0123456789+-.,iInN?*" for text in texts) >= threshold:
        clock = [TIME, DURATION] if any(re.match(CLOCK, text) for text in texts[:20]) else []
        return [*_number_candidates(sample, mark), *clock, *_temporal_candidates(texts)]
    if sum(text.lower() in {"true", "false"} for text in texts) >= threshold:
        return [BOOLEAN]
    if all(text[:1] in {"{", "["} for text in texts):
        return [JSON]
    return []


def _number_candidates(sample: pl.Series, mark: str) -> list[TextType]:
    if mark == ",":
        return [TextType("INTEGER", mark), TextType("FLOAT", mark)]
    if not sample.str.contains(",", literal=True).any():
        return [INTEGER, FLOAT]
    return [INTEGER, TextType("INTEGER", mark), TextType("FLOAT", mark)]


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
    other = _other_order(candidate)
    return other is not None and _fitting_share(values, other) >= _fitting_share(values, candidate)


def _other_order(kind: TextType) -> TextType | None:
    """The same with day and month exchanged, if people write both: between slashes or hyphens and before the year."""
    written = kind.parse_format or ""
    for mark in "/-":
        day_first, month_first = f"%d{mark}%m{mark}%Y", f"%m{mark}%d{mark}%Y"
        for order, other in ((day_first, month_first), (month_first, day_first)):
            if written.startswith(order):
                return replace(kind, parse_format=written.replace(order, other))
    return None


def _fitting_share(values: pl.Series, kind: TextType) -> float:
    """`values` are without spaces around them."""
    parsed = values.to_frame("v").select("v", parsed=kind.parse(pl.col("v")))
    misfits = parsed["parsed"].null_count()
    if misfits and kind.is_date:
        unparsed = parsed.filter(pl.col("parsed").is_null())
        misfits = unparsed.select(kind.parse_mixed(pl.col("v")).null_count()).item()
    return 1 - misfits / max(1, values.len())


def describe_misfit(column: str, row: int, value: str, kind: TextType) -> str:
    if kind.is_number and _fitting_share(pl.Series([value.strip()]), replace(kind, name="FLOAT")):
        return f"Row {row}, column {column!r}: {short_repr(value)} is beyond the range of numbers; it was treated as missing."
    return f"Row {row}, column {column!r}: {short_repr(value)} is not {kind.noun}; it was treated as missing."
