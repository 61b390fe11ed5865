"""Filters and orders of listings, as hashable values, and their translation to SQL.

The field `x` of a filter is a condition on the column `x` of the listing's table, and an order by `x` sorts by that column. A domain declares
only the exceptions: `Filters(Model, alias=_has_alias)`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import ColumnElement, DateTime, Double, Integer, Text, func, inspect

from db.core.base import Table
from db.core.checks import composed
from db.core.page import Sort
from db.core.sql import Column, equals_any, lower_equals_any

UNMATCHED_ID = UUID(int=0)  # stands for an invalid id: no row has it


@dataclass(frozen=True, slots=True)
class TextMatch:
    """Conditions on a text, combined with AND, ignoring case; texts are compared in the form NFC. None is no condition."""

    eq: str | None = None
    contains: str | None = None
    starts_with: str | None = None
    one_of: tuple[str, ...] | None = None

    def conditions(self, column: Column) -> Iterator[ColumnElement[bool]]:
        if self.eq is not None:
            yield func.lower(column) == func.lower(composed(self.eq))
        if self.contains is not None:
            yield func.lower(column).contains(_lower_pattern(self.contains), escape=_ESCAPE)
        if self.starts_with is not None:
            yield func.lower(column).startswith(_lower_pattern(self.starts_with), escape=_ESCAPE)
        if self.one_of is not None:
            yield lower_equals_any(column, map(composed, self.one_of))


@dataclass(frozen=True, slots=True)
class Period:
    """The half-open period from `gte` to before `lt`; None is no bound."""

    gte: datetime | None = None
    lt: datetime | None = None

    def conditions(self, column: Column) -> Iterator[ColumnElement[bool]]:
        if self.gte is not None:
            yield column >= self.gte
        if self.lt is not None:
            yield column < self.lt


@dataclass(frozen=True, slots=True)
class Range:
    """From `gte` to `lte`, both included; None is no bound. Without bounds: there is a value."""

    gte: float | None = None
    lte: float | None = None

    def conditions(self, column: Column) -> Iterator[ColumnElement[bool]]:
        if self.gte is not None:
            yield column >= self.gte
        if self.lte is not None:
            yield column <= self.lte
        if self.gte is None and self.lte is None:
            yield column.is_not(None)


@dataclass(frozen=True, slots=True)
class Equals:
    """The column has this value."""

    value: Any

    def conditions(self, column: Column) -> Iterator[ColumnElement[bool]]:
        yield column == self.value


@dataclass(frozen=True, slots=True)
class OneOf:
    """The column has one of these values; without values nothing matches."""

    values: tuple[Any, ...]

    def conditions(self, column: Column) -> Iterator[ColumnElement[bool]]:
        # Only of one value are the rows of an index in the order of the columns behind it.
        yield column == self.values[0] if len(self.values) == 1 else equals_any(column, self.values)


@dataclass(frozen=True, slots=True)
class AllOf:
    """Domain-specific conditions, combined with AND, which only a function of `Filters` can translate."""

    items: tuple[Hashable, ...]

    def conditions(self, column: Column) -> Iterator[ColumnElement[bool]]:
        raise TypeError(f"{column} has no condition of this form; pass a function for it to `Filters`.")


Condition = TextMatch | Period | Range | Equals | OneOf | AllOf


@dataclass(frozen=True, slots=True)
class Criteria:
    """Conditions by field name, combined with AND."""

    fields: tuple[tuple[str, Condition], ...] = ()

    @classmethod
    def of(cls, **conditions: Condition | None) -> Criteria:
        """Build from keyword arguments; None is no condition."""
        return cls(tuple((field, condition) for field, condition in conditions.items() if condition is not None))

    def get(self, field: str) -> Condition | None:
        return dict(self.fields).get(field)

    def without(self, field: str) -> Criteria:
        return Criteria(tuple(entry for entry in self.fields if entry[0] != field))


SpecialCondition = Callable[[Any], Iterable[ColumnElement[bool]]]


class Filters:
    """Translate `Criteria` to conditions on a table. `special` has a function for each field that is not a column: condition in, SQL out."""

    def __init__(self, table: type[Table], **special: SpecialCondition) -> None:
        self._table = table
        self._special = special

    def conditions(self, criteria: Criteria | None) -> list[ColumnElement[bool]]:
        return [sql for field, condition in (criteria.fields if criteria is not None else ()) for sql in self._sql(field, condition)]

    def _sql(self, field: str, condition: Condition) -> Iterable[ColumnElement[bool]]:
        special = self._special.get(field)
        return condition.conditions(_column(self._table, field)) if special is None else special(condition)

    def require(self, fields: Iterable[str]) -> None:
        """Raise `TypeError` for a field that is neither a column nor in `special`."""
        for field in fields:
            if field not in self._special:
                _column(self._table, field)


@dataclass(frozen=True, slots=True)
class Order:
    """A field of the listing and a direction."""

    field: str
    descending: bool = True


Kind = Literal["time", "text", "int", "float"]


class Orders:
    """Translate an `Order` by a column to a `Sort`; the default is `created_at`, newest first. Texts are sorted ignoring case.

    Cursors contain the name of the sort and outlive a release, so the name is the column and the direction and must not change.
    """

    def __init__(self, table: Any) -> None:
        self._table = table

    def __call__(self, order: Order | None) -> Sort:
        field, descending = ("created_at", True) if order is None else (order.field, order.descending)
        column, kind = self._sorted_column(field)
        nullable = bool(_column(self._table, field).property.columns[0].nullable)
        return Sort(f"{field}.{descending:d}", column, self._table.id, descending, kind, nullable)

    def require(self, fields: Iterable[str]) -> None:
        """Raise `TypeError` for a field that is not a column of a sortable type."""
        for field in fields:
            self._sorted_column(field)

    def _sorted_column(self, field: str) -> tuple[Column, Kind]:
        column = _column(self._table, field)
        if isinstance(column.type, Text):
            return func.lower(column), "text"
        kinds: tuple[tuple[Any, Kind], ...] = ((DateTime, "time"), (Integer, "int"), (Double, "float"))
        for type_, kind in kinds:
            if isinstance(column.type, type_):
                return column, kind
        raise TypeError(f"Lists of {self._table.__tablename__} cannot be ordered by {field}: {column.type!r} has no order.")


_ESCAPE = "/"
_ESCAPED = str.maketrans({character: _ESCAPE + character for character in f"{_ESCAPE}%_"})


def _lower_pattern(value: str) -> ColumnElement[str]:
    """A text in a pattern for the column in lower case, of which the trigrams are indexed; ILIKE on the column would use no index of them."""
    return func.lower(composed(value).translate(_ESCAPED))


def _column(table: type[Table], field: str) -> Any:
    if field not in inspect(table).column_attrs:
        raise TypeError(f"{table.__tablename__} has no column {field!r}: add it, or pass a function for it to `Filters`.")
    return getattr(table, field)
