"""Base classes of filter and order inputs, conditions on texts and times, and order directions.

A filter is declared once, as an input. A field is a condition on the column of the same name, and its type decides which; a field with
ids is declared with `reference`:

    @strawberry.input(description="Conditions on datasets, all of which must hold.")
    class DatasetFilter(Filter):
        name: StringFilter | None = strawberry.field(description="The dataset's name.")
        modality: list[Modality] | None = strawberry.field(description="What kind of data it holds.")
        owner_id: ID | None = reference("user", description="The user who owns it.")
"""

import dataclasses
import re
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, cast

import strawberry

from db.core.criteria import AllOf, Condition, Criteria, Equals, OneOf, Order, Period, Range, TextMatch
from graph.core.enums import describe
from graph.core.errors import BadUserInput
from graph.core.ids import filter_id
from graph.core.scalars import Duration

_ID_TYPE = re.compile(r"\bID\b", re.ASCII)


class OrderDirection(StrEnum):
    ASC = "asc"
    DESC = "desc"


describe(
    OrderDirection,
    "The direction of an order.",
    ASC="Ascending: least, oldest or A first.",
    DESC="Descending: greatest, newest or Z first.",
)


@strawberry.input(description="Conditions on a text, all of which must hold. Comparisons ignore case.")
class StringFilter:
    eq: str | None = strawberry.field(description="The text equals this.")
    contains: str | None = strawberry.field(description="The text contains this.")
    starts_with: str | None = strawberry.field(description="The text begins with this.")
    in_: list[str] | None = strawberry.field(name="in", description="The text is one of these; an empty list matches nothing.")

    def to_criteria(self) -> TextMatch:
        return TextMatch(self.eq, self.contains, self.starts_with, None if self.in_ is None else tuple(self.in_))


@strawberry.input(description="A period of time; give either bound or both.")
class DateTimeFilter:
    gte: datetime | None = strawberry.field(description="At or after this time.")
    lt: datetime | None = strawberry.field(description="Before this time.")

    def to_criteria(self) -> Period:
        return Period(self.gte, self.lt)


@strawberry.input(description="A range of durations; give either bound or both. Without bounds: it has ended, and so has a duration.")
class DurationFilter:
    gte: Duration | None = strawberry.field(description="At least this long.")
    lte: Duration | None = strawberry.field(description="At most this long.")

    def to_criteria(self) -> Range:
        return Range(self.gte, self.lte)


def reference(prefix: str, *, description: str, most: int | None = None) -> Any:
    """A filter field for an id, or a list of at most `most` ids, with this prefix. Ids with another prefix match no row."""
    return strawberry.field(description=description, metadata={"prefix": prefix, "most": most})


def reference_to_any(*, description: str) -> Any:
    """A filter field for an id of any type, which the column has as a text. What is no id matches no row."""
    return strawberry.field(description=description, metadata={"of_any_type": True})


class Filter:
    """Base of filter inputs. A condition that is null or omitted does not restrict; an empty list of values matches nothing."""

    def to_criteria(self) -> Criteria:
        """Return the conditions as plain values.

        A list of values matches any of them; a list of inputs with a `to_criteria` of their own requires all of them.
        """
        self._check_lengths()
        return Criteria.of(**{name: _condition(prefix, getattr(self, name)) for name, prefix in _fields(type(self))})

    def _check_lengths(self) -> None:
        """Raise `BadUserInput` for a list of ids that is longer than its field allows."""
        for field in dataclasses.fields(cast("Any", self)):
            most, values = field.metadata.get("most"), getattr(self, field.name)
            if most is not None and isinstance(values, list) and len(cast("list[Any]", values)) > most:
                raise BadUserInput(f"`{field.name}` has {len(cast('list[Any]', values))} entries; at most {most} are accepted at once.")

    @classmethod
    def field_names(cls) -> list[str]:
        """Return the names for which `Filters` needs a column or a function. Raises `TypeError` for an id without a prefix."""
        for name, annotation in cls.__annotations__.items():
            if _ID_TYPE.search(str(annotation)) and dict(_fields(cls))[name] is None and not cls._is_of_any_type(name):
                raise TypeError(f"{cls.__name__}.{name} is an id: declare it with `reference`, which names the prefix.")
        return [name for name, _ in _fields(cls)]

    @classmethod
    def _is_of_any_type(cls, name: str) -> bool:
        return any(field.name == name and "of_any_type" in field.metadata for field in dataclasses.fields(cast("Any", cls)))


def _fields(cls: type[Any]) -> Iterator[tuple[str, str | None]]:
    """Yield the name of each field and, for ids, the prefix."""
    return ((field.name, field.metadata.get("prefix")) for field in dataclasses.fields(cls))


def _condition(prefix: str | None, value: Any) -> Condition | None:
    if value is None:
        return None
    if hasattr(value, "to_criteria"):
        return value.to_criteria()
    if not isinstance(value, list):
        return Equals(value if prefix is None else filter_id(prefix, value))
    items = cast("list[Any]", value)
    if items and hasattr(items[0], "to_criteria"):
        return AllOf(tuple(item.to_criteria() for item in items))
    return OneOf(tuple(items if prefix is None else (filter_id(prefix, item) for item in items)))


class OrderInput:
    """Base of order inputs; `columns` are the columns that a list can be ordered by."""

    columns: ClassVar[tuple[str, ...]]

    def to_order(self) -> Any:
        """Return the order as a plain value."""
        order = cast("Any", self)
        return Order(order.field.value, order.direction is OrderDirection.DESC)


def order_input(subject: str, plural: str, **columns: str) -> type[OrderInput]:
    """Make the input `<subject>Order` and its enum `<subject>OrderField`, which has a member per column."""
    members = {column.upper(): column for column in columns}
    enum: Any = StrEnum(f"{subject}OrderField", members)  # pyright: ignore[reportArgumentType] - the members are known only at run time
    descriptions = {column.upper(): description for column, description in columns.items()}
    describe(enum, f"The fields that a list of {plural} can be ordered by.", **descriptions)
    namespace = {
        "__annotations__": {"field": enum, "direction": OrderDirection},
        "field": strawberry.field(description="The field to order by."),
        "direction": strawberry.field(default=OrderDirection.DESC, description="The direction; descending by default."),
        "columns": tuple(columns),
    }
    return strawberry.input(type(f"{subject}Order", (OrderInput,), namespace), description=f"The order of a list of {plural}.")
