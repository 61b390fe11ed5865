"""The JSON text of rows, written by PostgreSQL: a page whose entries have columns alone needs no record of each, and no dictionary.

The text is the one that the encoder of results writes, to the byte. Where it would not be, because a value is null that must not be, or because
the encoder has its own way with it, the text of the row is NULL, and the rows have to be read as records.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import reduce
from typing import Any, Final, TypeAlias

from sqlalchemy import BigInteger, ColumnElement, Text, and_, case, cast, func, literal_column, or_, type_coerce

_LARGEST: Final = 10**15  # numbers from here on, and those below `_SMALLEST`, PostgreSQL and the encoder write with different exponents
_SMALLEST: Final = 10**-4


class Encoding(Enum):
    """How the values of a column are written. `HEX` is the digits of a UUID, without quotation marks."""

    HEX = "hex"
    TEXT = "text"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    FLOAT = "float"
    TIME = "time"


@dataclass(frozen=True, slots=True)
class TextColumn:
    """A column in the text of a row. `members` has the JSON of each stored value of an enum; others have none."""

    name: str
    encoding: Encoding | None = None
    members: tuple[tuple[str, str], ...] = ()
    is_nullable: bool = False


RowText: TypeAlias = tuple[str | TextColumn, ...]  # constant texts, and columns between them


def text_of(row_text: RowText, columns: Any) -> ColumnElement[str]:
    """The text of a row as SQL; NULL if it cannot be written. `columns` are those of the statement by their names."""
    parts = [_constant(part) if isinstance(part, str) else _value(part, columns[part.name]) for part in row_text]
    return reduce(lambda text, part: text.concat(part), parts)


def _constant(text: str) -> ColumnElement[str]:
    """A text of names of the schema and of a document, which is no parameter: it is a part of what is prepared."""
    return literal_column("'" + text.replace("'", "''") + "'", Text)


def _value(part: TextColumn, column: ColumnElement[Any]) -> ColumnElement[str]:
    value = _encoded(part, column)
    return case((column.is_(None), _constant("null")), else_=value) if part.is_nullable else value


def _encoded(part: TextColumn, column: ColumnElement[Any]) -> ColumnElement[str]:
    match part.encoding:
        case None:
            names: Any = [(_constant(stored), _constant(name)) for stored, name in part.members]
            return case(*names, value=type_coerce(column, Text))
        case Encoding.HEX:
            return func.encode(func.uuid_send(column), _constant("hex"), type_=Text)
        case Encoding.TEXT:
            return cast(func.to_json(type_coerce(column, Text)), Text)
        case Encoding.INTEGER | Encoding.BOOLEAN:
            return cast(column, Text)
        case Encoding.TIME:
            in_utc = func.timezone(_constant("UTC"), column)
            return func.to_char(in_utc, _constant('\\"YYYY-MM-DD"T"HH24:MI:SS.US"Z"\\"'), type_=Text)
        case Encoding.FLOAT:
            return _float(column)


def _float(column: ColumnElement[Any]) -> ColumnElement[str]:
    """Whole numbers have one digit behind the point. A negative zero, NaN and the infinities have no text here."""
    size = func.abs(column)
    is_whole = and_(column == func.trunc(column), size < _LARGEST, or_(column != 0, cast(column, Text) == "0"))
    is_fraction = and_(column != func.trunc(column), size >= _SMALLEST, size < _LARGEST)
    return case((is_whole, cast(cast(column, BigInteger), Text).concat(_constant(".0"))), (is_fraction, cast(column, Text)))
