"""Python's enums as GraphQL's: the same members, each described here, since the state room knows no GraphQL."""

from __future__ import annotations

from enum import Enum
from typing import Any

import strawberry
from strawberry.types.enum import StrawberryEnumDefinition


def describe(enum: type[Enum], description: str, **members: str) -> None:
    """Publish an enum under its own name. Every member is described by a keyword of its name; `TypeError` when one is missing."""
    names = [member.name for member in enum]
    if names != list(members):
        raise TypeError(f"{enum.__name__} has the members {names}, in this order; described are {list(members)}.")
    published: Any = strawberry.enum(enum, description=description)
    definition: StrawberryEnumDefinition = published.__strawberry_definition__
    for value in definition.values:
        value.description = members[value.name]
