"""What a list can be narrowed and ordered by, as plain values: hashable, so that equal questions share one statement."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func

from db.core.page import Sort
from db.core.sql import Column, lower_equals_any

UNMATCHED_ID = UUID(int=0)  # what an id that names nothing stands for in a filter: it matches no row


@dataclass(frozen=True, slots=True)
class TextMatch:
    """Conditions on a text, all of which hold, whatever the case. None is no condition."""

    eq: str | None = None
    contains: str | None = None
    starts_with: str | None = None
    one_of: tuple[str, ...] | None = None

    def conditions(self, column: Column) -> Iterator[ColumnElement[bool]]:
        if self.eq is not None:
            yield func.lower(column) == func.lower(self.eq)
        if self.contains is not None:
            yield column.icontains(self.contains, autoescape=True)
        if self.starts_with is not None:
            yield column.istartswith(self.starts_with, autoescape=True)
        if self.one_of is not None:
            yield lower_equals_any(column, self.one_of)


@dataclass(frozen=True, slots=True)
class Period:
    """A time from `gte` on and before `lt`; None is no bound."""

    gte: datetime | None = None
    lt: datetime | None = None

    def conditions(self, column: Column) -> Iterator[ColumnElement[bool]]:
        if self.gte is not None:
            yield column >= self.gte
        if self.lt is not None:
            yield column < self.lt


@dataclass(frozen=True, slots=True)
class Order:
    """A field of the list and a direction."""

    field: StrEnum
    descending: bool = True


def named_sort(table: Any, order: Order | None) -> Sort:
    """The order of a list of named things: by `created_at` (newest first, also when nothing was asked), `updated_at` or `name`."""
    field = "created_at" if order is None else order.field.value
    descending = True if order is None else order.descending
    if field == "name":
        return Sort(f"name.{descending:d}", func.lower(table.name), table.id, descending, "text")
    return Sort(f"{field}.{descending:d}", getattr(table, field), table.id, descending)
