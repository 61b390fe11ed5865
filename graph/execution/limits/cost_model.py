"""The cost of every field of a schema, and the number of its entries."""

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

from graph.core.costs import DEFAULT_ENTRIES, METADATA_KEY, DeclaredCost


@dataclass(frozen=True, slots=True)
class FieldCost:
    """The cost of one field: `weight` points, and `entries` times the cost of what is selected below it.

    `is_paged` fields are connections, whose entries are those of the page; `is_page_edges` marks the edges of one. `is_introspection` is set
    for `__schema` and `__type`. `type` is that of the selection below, None for plain values. `scaled` names an argument, the amount of it
    for which the selection below counts once more, and its default.
    """

    weight: int
    entries: int | str = 1
    entry_weight: int = 0
    is_paged: bool = False
    is_page_edges: bool = False
    is_introspection: bool = False
    type: GraphQLNamedType | None = None
    scaled: tuple[str, int, int] | None = None


class CostModel:
    """Computes the cost of a field when it is first needed, and keeps it."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self.schema = schema
        self._field_costs: dict[tuple[str, str], FieldCost] = {}
        self._possible_types: dict[str, tuple[GraphQLObjectType, ...]] = {}
        self._introspection_lengths = _introspection_list_lengths(schema)

    def possible_types(self, type_: GraphQLNamedType) -> tuple[GraphQLObjectType, ...]:
        """Return the object types that a value of this type may have."""
        types = self._possible_types.get(type_.name)
        if types is None:
            types = (type_,) if isinstance(type_, GraphQLObjectType) else tuple(self.schema.get_possible_types(type_))  # pyright: ignore[reportArgumentType] - only composite types come here
            self._possible_types[type_.name] = types
        return types

    def fragment_applies(self, condition: str, type_: GraphQLObjectType) -> bool:
        """Whether a fragment on `condition` may apply to a value of this type."""
        if condition == type_.name:
            return True
        condition_type = self.schema.get_type(condition)
        return condition_type is not None and type_ in self.possible_types(condition_type)

    def field_cost(self, parent: GraphQLObjectType, name: str) -> FieldCost | None:
        """Return the cost of a field; None for one that the type lacks."""
        key = (parent.name, name)
        cached = self._field_costs.get(key)
        if cached is None:
            field = self.schema.get_field(parent, name)
            if field is None:
                return None
            cached = self._field_costs[key] = self._compute_field_cost(parent, name, field)
        return cached

    def _compute_field_cost(self, parent: GraphQLObjectType, name: str, field: GraphQLField) -> FieldCost:
        type_ = cast("Any", field).type
        named_type = cast("GraphQLNamedType", get_named_type(type_))
        nested_type = named_type if is_composite_type(named_type) else None
        is_list = str(type_).startswith("[")
        if parent.name.startswith("__"):
            return FieldCost(1, self._introspection_lengths.get(name, 1) if is_list else 1, type=nested_type)
        if name in {"__schema", "__type"}:
            return FieldCost(0, is_introspection=True, type=nested_type)
        declared = _declared_cost(field)
        if nested_type is None:
            return FieldCost(declared.weight or 0)
        if is_connection(named_type):
            return FieldCost(1 if declared.weight is None else declared.weight, is_paged=True, type=nested_type)
        if is_list and name == "edges" and is_connection(parent):
            return FieldCost(0, is_page_edges=True, type=nested_type)
        scaled = None
        if declared.scaled is not None:
            argument, unit = declared.scaled
            scaled = argument, unit, cast("int", field.args[argument].default_value)
        if is_list:
            entries = DEFAULT_ENTRIES if declared.entries is None else declared.entries
            return FieldCost(declared.weight or 0, entries, entry_weight=1, type=nested_type, scaled=scaled)
        weight = 0 if named_type.name == "PageInfo" else 1
        return FieldCost(weight if declared.weight is None else declared.weight, type=nested_type, scaled=scaled)


def is_connection(type_: object) -> bool:
    """Whether the type is a connection."""
    return isinstance(type_, GraphQLObjectType) and type_.name.endswith("Connection") and {"edges", "pageInfo"} <= type_.fields.keys()


def _declared_cost(field: GraphQLField) -> DeclaredCost:
    definition: Any = (field.extensions or {}).get("strawberry-definition")
    metadata: Any = getattr(definition, "metadata", None) or {}
    return cast("DeclaredCost | None", metadata.get(METADATA_KEY)) or DeclaredCost()


def _introspection_list_lengths(schema: GraphQLSchema) -> dict[str, int]:
    """Return the average lengths of the lists of introspection in this schema."""
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
