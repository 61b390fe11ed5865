"""The JSON text of rows, written by PostgreSQL: a page whose entries have columns alone needs no record of each, and no dictionary.

The text is the one that the encoder of results writes, to the byte. Where it would not be, because a value is null that must not be, or because
the encoder has its own way with it, the text of the row is NULL, and the rows have to be read as records.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import reduce
from typing import Any, Final, Protocol, TypeAlias

from sqlalchemy import BigInteger, ColumnElement, Double, FromClause, Text, and_, case, cast, func, literal_column, or_, type_coerce

from db.core.viewer import Viewer


def _number(text: str) -> ColumnElement[float]:
    """A constant, which is no parameter."""
    return literal_column(f"'{text}'::float8", Double)


_ZERO: Final = _number("0")
_LARGEST: Final = _number("1e15")  # numbers from here on PostgreSQL and the encoder write with different exponents
# Below this PostgreSQL writes an exponent, of two digits at least; the encoder only below the next, and the shortest one.
_SMALLEST: Final = _number("1e-4")
_SMALLEST_FRACTION: Final = _number("1e-5")


class Encoding(Enum):
    """How the values of a column are written. `HEX` is the digits of a UUID, without quotation marks; `FINITE` has null for NaN and infinities."""

    HEX = "hex"
    TEXT = "text"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    FLOAT = "float"
    FINITE = "finite"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class TextColumn:
    """A column in the text of a row. `members` has the JSON of each stored value of an enum; others have none."""

    name: str
    encoding: Encoding | None = None
    members: tuple[tuple[str, str], ...] = ()
    is_nullable: bool = False


class NestedText(Protocol):
    """What another statement writes for each row, such as a list under it. Equal ones write the same."""

    @property
    def key(self) -> str:
        """The column of the row that leads to it."""
        ...

    @property
    def for_values(self) -> bool:
        """Whether its best plan depends on how frequent its values are, as that of a filtered list."""
        ...

    def sql(self, rows: FromClause, viewer: Viewer) -> ColumnElement[str]:
        """Its text for a row of `rows`; NULL if it cannot be written."""
        ...


TextPart: TypeAlias = str | TextColumn | NestedText


class RowText:
    """Constant texts, and what stands between them. It is a part of the key of a prepared select, so its hash is kept."""

    __slots__ = ("_hash", "for_values", "names", "parts")

    def __init__(self, parts: Iterable[TextPart]) -> None:
        joined: list[TextPart] = []
        for part in parts:
            if joined and isinstance(part, str) and isinstance(joined[-1], str):
                joined[-1] += part
            else:
                joined.append(part)
        self.parts = tuple(joined)
        self.names = tuple(
            sorted({part.name if isinstance(part, TextColumn) else part.key for part in joined if not isinstance(part, str)})
        )
        self.for_values = any(part.for_values for part in joined if not isinstance(part, str | TextColumn))
        self._hash = hash(self.parts)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, RowText) and self.parts == other.parts)

    def sql(self, rows: FromClause, viewer: Viewer) -> ColumnElement[str]:
        """The text of a row of `rows`; NULL if it cannot be written."""
        return reduce(lambda text, part: text.concat(part), [_part(part, rows, viewer) for part in self.parts])


def _part(part: TextPart, rows: FromClause, viewer: Viewer) -> ColumnElement[str]:
    if isinstance(part, str):
        return constant(part)
    return _value(part, rows.c[part.name]) if isinstance(part, TextColumn) else part.sql(rows, viewer)


def constant(text: str) -> ColumnElement[str]:
    """A text of names of the schema and of a document, which is no parameter: it is a part of what is prepared."""
    return literal_column("'" + text.replace("'", "''") + "'", Text)


def _value(part: TextColumn, column: ColumnElement[Any]) -> ColumnElement[str]:
    value = _encoded(part, column)
    if not part.is_nullable or part.encoding in {Encoding.FLOAT, Encoding.FINITE}:
        return value
    return case((column.is_(None), constant("null")), else_=value)


def _encoded(part: TextColumn, column: ColumnElement[Any]) -> ColumnElement[str]:
    match part.encoding:
        case None:
            names: Any = [(constant(stored), constant(name)) for stored, name in part.members]
            return case(*names, value=type_coerce(column, Text))
        case Encoding.HEX:
            return func.encode(func.uuid_send(column), constant("hex"), type_=Text)
        case Encoding.TEXT:
            return cast(func.to_json(type_coerce(column, Text)), Text)
        case Encoding.INTEGER | Encoding.BOOLEAN:
            return cast(column, Text)
        case Encoding.TIME:
            in_utc = func.timezone(constant("UTC"), column)
            return func.to_char(in_utc, constant('\\"YYYY-MM-DD"T"HH24:MI:SS.US"Z"\\"'), type_=Text)
        case Encoding.FLOAT | Encoding.FINITE:
            return _float(column, is_nullable=part.is_nullable, writes_all=part.encoding is Encoding.FINITE)


def _float(column: ColumnElement[Any], *, is_nullable: bool, writes_all: bool) -> ColumnElement[str]:
    """Whole numbers have one digit behind the point. A negative zero has no text here, nor have NaN and the infinities, unless all are to be written.

    The first cases are the most frequent ones: PostgreSQL evaluates no more than it needs, for each row.
    """
    size = func.abs(column)
    written = cast(column, Text)
    is_fraction = and_(column != func.trunc(column), size >= _SMALLEST, size < _LARGEST)
    is_whole = and_(column == func.trunc(column), size < _LARGEST, or_(column != _ZERO, written == constant("0")))
    is_small_fraction = and_(size >= _SMALLEST_FRACTION, size < _SMALLEST)
    is_smaller = and_(column != _ZERO, size < _SMALLEST_FRACTION)
    sign = case((column < _ZERO, constant("-")), else_=constant(""))
    digits = func.replace(func.split_part(cast(size, Text), constant("e"), literal_column("1")), constant("."), constant(""), type_=Text)
    cases: list[Any] = [
        (is_fraction, written),
        (is_whole, cast(cast(column, BigInteger), Text).concat(constant(".0"))),
        (is_small_fraction, sign.concat(constant("0.0000")).concat(digits)),
        (is_smaller, func.replace(written, constant("e-0"), constant("e-"), type_=Text)),
    ]
    if is_nullable:
        cases.append((column.is_(None), constant("null")))
    if writes_all:
        cases.append((or_(size == _number("infinity"), column == _number("nan")), constant("null")))
    return case(*cases)
