"""The filters and orders of MLflow's searches: comparisons combined with AND, such as ``metrics.`val loss` <= 0.2 AND tags.team = 'a'``.

The grammar is that of MLflow's documentation ("Search Runs"): an identifier is `entity.key`, or a bare attribute; keys with other characters stand in
backticks or double quotes; texts stand in single or double quotes; a quote within them is not escaped, so that they use the other kind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from server.mlflow.errors import invalid

MAX_LENGTH = 10_000
MAX_CLAUSES = 60


class Entity(StrEnum):
    """What a clause is about."""

    METRIC = "metric"
    PARAMETER = "parameter"
    TAG = "tag"
    ATTRIBUTE = "attribute"
    DATASET = "dataset"


_ENTITIES: Mapping[str, Entity] = {
    **dict.fromkeys(("metric", "metrics"), Entity.METRIC),
    **dict.fromkeys(("parameter", "parameters", "param", "params"), Entity.PARAMETER),
    **dict.fromkeys(("tag", "tags"), Entity.TAG),
    **dict.fromkeys(("attribute", "attributes", "attr", "run"), Entity.ATTRIBUTE),
    **dict.fromkeys(("dataset", "datasets"), Entity.DATASET),
}


class Comparator(StrEnum):
    """How a value is compared; LIKE and ILIKE take `%` and `_`."""

    EQ = "="
    NE = "!="
    GT = ">"
    GE = ">="
    LT = "<"
    LE = "<="
    LIKE = "LIKE"
    ILIKE = "ILIKE"
    IN = "IN"
    NOT_IN = "NOT IN"
    IS_NULL = "IS NULL"
    IS_NOT_NULL = "IS NOT NULL"


NUMERIC = frozenset({Comparator.EQ, Comparator.NE, Comparator.GT, Comparator.GE, Comparator.LT, Comparator.LE})
TEXTUAL = frozenset({Comparator.EQ, Comparator.NE, Comparator.LIKE, Comparator.ILIKE})
LISTED = TEXTUAL | {Comparator.IN, Comparator.NOT_IN}
PRESENT = frozenset({Comparator.IS_NULL, Comparator.IS_NOT_NULL})

Value = float | str | tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Clause:
    """One comparison. The value is a number, a text, the texts of a list, or None for IS NULL and IS NOT NULL."""

    entity: Entity
    key: str
    comparator: Comparator
    value: Value


@dataclass(frozen=True, slots=True)
class OrderKey:
    """One key of an order."""

    entity: Entity
    key: str
    descending: bool


_IDENTIFIER = r"""(?:`[^`]*`|[A-Za-z_]\w*)\.(?:`[^`]*`|"[^"]*"|'[^']*'|[\w./:-]+) | `[^`]*` | [A-Za-z_]\w*"""
_TOKEN = re.compile(
    rf"""\s*(?:
      (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    | (?P<text>'[^']*'|"[^"]*")
    | (?P<operator>!=|>=|<=|=|>|<)
    | (?P<punctuation>[(),])
    | (?P<word>{_IDENTIFIER})
    )""",
    re.VERBOSE,
)
_OPERATORS = {str(each): each for each in (Comparator.EQ, Comparator.NE, Comparator.GT, Comparator.GE, Comparator.LT, Comparator.LE)}
_WORDS = frozenset({"AND", "OR", "NOT", "IN", "IS", "NULL", "LIKE", "ILIKE"})


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int

    def is_word(self, word: str) -> bool:
        return self.kind == "word" and self.text.upper() == word


def _tokens(text: str) -> list[_Token]:
    if len(text) > MAX_LENGTH:
        raise invalid(f"A filter has at most {MAX_LENGTH} characters; this one has {len(text)}.")
    tokens: list[_Token] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position, end)
        if match is None:
            raise invalid(f"Invalid filter: {text[position : position + 40].strip()!r} at position {position} is not understood.")
        kind = str(match.lastgroup)
        tokens.append(_Token(kind, match.group(kind), match.start(kind)))
        position = match.end()
    return tokens


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "`\"'" else text


def _identifier(text: str) -> tuple[Entity, str]:
    """The entity and the key of `entity.key`; what has no entity is an attribute."""
    head, dot, key = ("", "", text) if re.fullmatch(r"`[^`]*`", text) else text.partition(".")
    if not dot:
        return Entity.ATTRIBUTE, _unquoted(key or head)
    entity = _ENTITIES.get(_unquoted(head))
    if entity is None:
        raise invalid(f"Invalid entity type '{_unquoted(head)}'. Valid values are {[str(each) for each in Entity]}")
    return entity, _unquoted(key)


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._index = 0

    def clauses(self) -> list[Clause]:
        clauses: list[Clause] = []
        while self._index < len(self._tokens):
            if clauses:
                joint = self._next("AND")
                if not joint.is_word("AND"):
                    raise invalid(
                        f"Invalid clause(s) in filter string: {joint.text!r} at position {joint.position}; clauses are joined by AND."
                    )
            clauses.append(self._clause())
            if len(clauses) > MAX_CLAUSES:
                raise invalid(f"A filter has at most {MAX_CLAUSES} clauses.")
        return clauses

    def _next(self, expected: str) -> _Token:
        if self._index >= len(self._tokens):
            raise invalid(f"Invalid filter '{self._text}': {expected} is missing at its end.")
        token = self._tokens[self._index]
        self._index += 1
        return token

    def _clause(self) -> Clause:
        token = self._next("a comparison")
        if token.kind != "word" or token.text.upper() in _WORDS:
            raise invalid(
                f"Invalid comparison clause. Expected an identifier such as metrics.loss, found {token.text!r} at position {token.position}."
            )
        entity, key = _identifier(token.text)
        comparator = self._comparator()
        if comparator in PRESENT:
            return Clause(entity, key, comparator, None)
        if comparator in {Comparator.IN, Comparator.NOT_IN}:
            return Clause(entity, key, comparator, self._list())
        value = self._next("a value")
        if value.kind == "number":
            return Clause(entity, key, comparator, float(value.text))
        if value.kind == "text":
            return Clause(entity, key, comparator, _unquoted(value.text))
        raise invalid(f"Expected a number or a quoted text, found {value.text!r} at position {value.position}; texts stand in quotes.")

    def _comparator(self) -> Comparator:
        token = self._next("a comparator")
        if token.kind == "operator":
            return _OPERATORS[token.text]
        word = token.text.upper()
        if word in {"LIKE", "ILIKE", "IN"}:
            return Comparator(word)
        if word == "NOT" and self._next("IN").is_word("IN"):
            return Comparator.NOT_IN
        if word == "IS":
            following = self._next("NULL")
            if following.is_word("NULL"):
                return Comparator.IS_NULL
            if following.is_word("NOT") and self._next("NULL").is_word("NULL"):
                return Comparator.IS_NOT_NULL
        raise invalid(
            f"Invalid comparator {token.text!r} at position {token.position}; it is not one of {[str(each) for each in Comparator]}."
        )

    def _list(self) -> tuple[str, ...]:
        opening = self._next("a list such as ('a', 'b')")
        values: list[str] = []
        if opening.text == "(":
            while True:
                token = self._next("a closing parenthesis")
                if token.kind != "text":
                    break
                values.append(_unquoted(token.text))
                separator = self._next("a closing parenthesis")
                if separator.text == ")":
                    return tuple(values)
                if separator.text != ",":
                    break
        raise invalid("While parsing a list in the query, expected a non-empty list of quoted texts such as ('a', 'b').")


def parse_filter(text: str | None) -> list[Clause]:
    """The clauses of a filter, all of which must hold. Raises `MlflowError` with the position of what is not understood."""
    return _Parser(text).clauses() if text and text.strip() else []


_ORDER = re.compile(rf"\s*(?P<identifier>{_IDENTIFIER})(?:\s+(?P<direction>asc|desc))?\s*", re.IGNORECASE | re.VERBOSE)


def parse_order(text: str) -> OrderKey:
    """One key of an order, such as `metrics.loss DESC`; ascending by default. Raises `MlflowError`."""
    match = _ORDER.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if match is None:
        raise invalid(
            f"Invalid order_by clause '{text[:200]}'. It is an identifier such as metrics.loss, then ASC or DESC; a key with spaces stands in backticks."
        )
    entity, key = _identifier(match.group("identifier"))
    return OrderKey(entity, key, (match.group("direction") or "asc").lower() == "desc")
