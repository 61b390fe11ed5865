"""Publication of Python enums as GraphQL enums, with their descriptions: `db` imports no GraphQL."""

from enum import Enum
from typing import Any

import strawberry
from strawberry.types.enum import StrawberryEnumDefinition


def describe(enum: type[Enum], description: str, **members: str) -> None:
    """Publish an enum under its own name, with one keyword per member for its description. Raises `TypeError` if one is missing."""
    names = [member.name for member in enum]
    if names != list(members):
        raise TypeError(f"{enum.__name__} has the members {names}, in this order, but {list(members)} are described.")
    published: Any = strawberry.enum(enum, description=description)
    definition: StrawberryEnumDefinition = published.__strawberry_definition__
    for value in definition.values:
        value.description = members[value.name]
