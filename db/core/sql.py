"""Types of SQL expressions, and conditions with a list of values as one parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

from asyncpg.pgproto import pgproto
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    DateTime,
    Double,
    FromClause,
    Select,
    Text,
    any_,
    bindparam,
    func,
    literal_column,
    select,
    tuple_,
)
from sqlalchemy.orm import InstrumentedAttribute

_SEPARATOR = "\x1f"
_driver: Any = pgproto
DriverUUID: Callable[[str | bytes], UUID] = (
    _driver.UUID
)  # from hexadecimal digits or 16 bytes; the driver sends and returns instances of it

Rows: TypeAlias = Select[*tuple[Any, ...]]  # a select, whatever its columns
Column: TypeAlias = ColumnElement[Any] | InstrumentedAttribute[Any]  # a column of a table, or an expression


@dataclass(frozen=True, slots=True)
class OuterColumn:
    """A column of each row of an outer statement, for which another statement is run."""

    rows: FromClause
    name: str

    def select(self, statement: Rows, column: Column | None) -> Rows:
        """The rows of a statement whose column has the value of the outer one."""
        assert column is not None
        return statement.where(column == self.rows.c[self.name]).correlate(self.rows)


def equals_any(column: Column, values: Iterable[Any]) -> ColumnElement[bool]:
    """`column = ANY(array)`. The values are one parameter, so the statement's text, and thus the prepared statement, is the same for any
    number of values; `IN` has one parameter per value."""
    return column == any_(bindparam(None, list(values), type_=ARRAY(column.type), unique=True))


def lower_equals_any(column: Column, texts: Iterable[str]) -> ColumnElement[bool]:
    """`lower(column) = ANY(array)`, with the texts lower-cased by PostgreSQL too: its case rules differ from Python's.

    Joined into one text, their array is a constant to the planner, which then knows how frequent they are; a subquery is not.
    """
    texts = list(texts)
    if all(text and _SEPARATOR not in text for text in texts):
        joined = func.lower(bindparam(None, _SEPARATOR.join(texts), type_=Text, unique=True))
        return func.lower(column) == any_(func.string_to_array(joined, _SEPARATOR, type_=ARRAY(Text)))
    texts_parameter = bindparam(None, texts, type_=ARRAY(Text), unique=True)
    rows = func.unnest(texts_parameter).table_valued(literal_column("value", Text), name="texts").render_derived()
    return func.lower(column) == any_(func.array(select(func.lower(rows.c.value)).scalar_subquery()))


def seconds_of(time: Any) -> ColumnElement[float]:
    """A time as seconds since 1970. Two microseconds have different ones, until the year 2242."""
    return func.date_part("epoch", time, type_=Double)


def time_of(seconds: Any) -> ColumnElement[datetime]:
    """The time of `seconds_of`, to the microsecond."""
    return func.to_timestamp(seconds, type_=DateTime(timezone=True))


def equals_any_tuple(columns: Sequence[Column], arrays: Sequence[ColumnElement[Any]]) -> ColumnElement[bool]:
    """`equals_any` for composite keys, with an array for each column: `(a, b) IN (SELECT ... FROM unnest(array_a, array_b))`."""
    names = [literal_column(f"key_{position}", column.type) for position, column in enumerate(columns)]
    rows = func.unnest(*arrays).table_valued(*names, name="keys").render_derived()
    return tuple_(*columns).in_(select(*rows.c))
