"""The schema's price list: of every field, what it costs and how many things lie below it."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any, cast

from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    get_named_type,
    is_composite_type,
)

from graph.core.limits.weights import ENTRIES, KEY, Costs


@dataclass(frozen=True, slots=True)
class Price:
    """Of one field: `weight` points, and for each of `entries` that many times what is selected below it.

    `paged` fields are connections, whose entries are the page that is asked for; `of_page` marks the edges of one. `introspective` are the
    two fields that ask about the schema; `type` is what lies below, None for plain values. `scaled` is an argument, for how many of it what
    lies below counts once more, and what it is when it is not given.
    """

    weight: int
    entries: int | str = 1
    entry: int = 0
    paged: bool = False
    of_page: bool = False
    introspective: bool = False
    type: GraphQLNamedType | None = None
    scaled: tuple[str, int, int] | None = None


class Prices:
    """Worked out once a field, when it is first asked for."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self.schema = schema
        self._known: dict[tuple[str, str], Price] = {}
        self._possible: dict[str, tuple[GraphQLObjectType, ...]] = {}
        self._lengths = _lengths(schema)

    def possible(self, type_: GraphQLNamedType) -> tuple[GraphQLObjectType, ...]:
        """The object types that an answer of this type may have."""
        found = self._possible.get(type_.name)
        if found is None:
            found = (type_,) if isinstance(type_, GraphQLObjectType) else tuple(self.schema.get_possible_types(type_))  # pyright: ignore[reportArgumentType] - only composite types come here
            self._possible[type_.name] = found
        return found

    def applies(self, condition: str, type_: GraphQLObjectType) -> bool:
        """Whether a fragment on `condition` is a part of an answer of this type."""
        if condition == type_.name:
            return True
        named = self.schema.get_type(condition)
        return named is not None and type_ in self.possible(named)

    def of(self, parent: GraphQLObjectType, name: str) -> Price | None:
        """None for a field that the type lacks."""
        key = (parent.name, name)
        found = self._known.get(key)
        if found is None:
            field = self.schema.get_field(parent, name)
            if field is None:
                return None
            found = self._known[key] = self._price(parent, name, field)
        return found

    def _price(self, parent: GraphQLObjectType, name: str, field: GraphQLField) -> Price:
        type_ = cast("Any", field).type
        named = cast("GraphQLNamedType", get_named_type(type_))
        below = named if is_composite_type(named) else None
        listed = str(type_).startswith("[")
        if parent.name.startswith("__"):
            return Price(1, self._lengths.get(name, 1) if listed else 1, type=below)
        if name in {"__schema", "__type"}:
            return Price(0, introspective=True, type=below)
        declared = _declared(field)
        if below is None:
            return Price(declared.weight or 0)
        if is_connection(named):
            return Price(1 if declared.weight is None else declared.weight, paged=True, type=below)
        if listed and name == "edges" and is_connection(parent):
            return Price(0, of_page=True, type=below)
        scaled = None
        if declared.scaled is not None:
            argument, unit = declared.scaled
            scaled = argument, unit, cast("int", field.args[argument].default_value)
        if listed:
            entries = ENTRIES if declared.entries is None else declared.entries
            return Price(declared.weight or 0, entries, entry=1, type=below, scaled=scaled)
        weight = 0 if named.name == "PageInfo" else 1
        return Price(weight if declared.weight is None else declared.weight, type=below, scaled=scaled)


def is_connection(type_: object) -> bool:
    """Whether it is a page of a list."""
    return isinstance(type_, GraphQLObjectType) and type_.name.endswith("Connection") and {"edges", "pageInfo"} <= type_.fields.keys()


def _declared(field: GraphQLField) -> Costs:
    definition: Any = (field.extensions or {}).get("strawberry-definition")
    metadata: Any = getattr(definition, "metadata", None) or {}
    return cast("Costs | None", metadata.get(KEY)) or Costs()


def _lengths(schema: GraphQLSchema) -> dict[str, int]:
    """How long the lists of introspection are in this schema, on average."""
    types = list(schema.type_map.values())
    owners = [type_ for type_ in types if isinstance(type_, GraphQLObjectType | GraphQLInterfaceType)]
    inputs = [type_ for type_ in types if isinstance(type_, GraphQLInputObjectType)]
    enums = [type_ for type_ in types if isinstance(type_, GraphQLEnumType)]
    fields = [field for owner in owners for field in owner.fields.values()]
    return {
        "types": len(types),
        "directives": len(schema.directives),
        "fields": ceil(len(fields) / max(len(types), 1)),
        "args": ceil(sum(len(field.args) for field in fields) / max(len(fields), 1)),
        "inputFields": ceil(sum(len(type_.fields) for type_ in inputs) / max(len(types), 1)),
        "enumValues": ceil(sum(len(type_.values) for type_ in enums) / max(len(types), 1)),
    }
