"""Inputs that every list shares: conditions on texts and times, and directions."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import strawberry

from db.core.criteria import Order, Period, TextMatch
from graph.core.enums import describe


class OrderDirection(StrEnum):
    ASC = "asc"
    DESC = "desc"


describe(OrderDirection, "Which end of an order comes first.", ASC="Least, oldest or A first.", DESC="Greatest, newest or Z first.")


@strawberry.input(description="Conditions on a text, all of which must hold. Upper and lower case are not told apart.")
class StringFilter:
    eq: str | None = strawberry.field(description="The text is this one.")
    contains: str | None = strawberry.field(description="The text has this somewhere in it.")
    starts_with: str | None = strawberry.field(description="The text begins with this.")
    in_: list[str] | None = strawberry.field(name="in", description="The text is one of these; an empty list matches nothing.")

    def to_criteria(self) -> TextMatch:
        return TextMatch(self.eq, self.contains, self.starts_with, None if self.in_ is None else tuple(self.in_))


@strawberry.input(description="A period of time; give either bound or both.")
class DateTimeFilter:
    gte: datetime | None = strawberry.field(description="At this moment or later.")
    lt: datetime | None = strawberry.field(description="Before this moment.")

    def to_criteria(self) -> Period:
        return Period(self.gte, self.lt)


def field_order(field: StrEnum, direction: OrderDirection) -> Order:
    """An order as plain values."""
    return Order(field, direction is OrderDirection.DESC)
