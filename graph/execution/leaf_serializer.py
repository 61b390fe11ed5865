"""Serializes an event directly from its object: for selections of leaf fields alone, which need no executor.

graphql-core walks the selection anew for each event, which is most of the work where a job has few subscribers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, cast

from graphql import FieldNode, GraphQLNonNull, GraphQLObjectType, GraphQLSchema, Undefined, get_named_type, is_leaf_type
from graphql.execution.collect_fields import FieldDetails, collect_subfields
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.field import StrawberryField

GetValue = Callable[[Any], Any]
CoerceValue = Callable[[Any], Any]
Leaf = tuple[str, GetValue, CoerceValue, bool]  # response name, getter, serializer, and whether it is non-null


class NotSerializable(Exception):
    """The object has to be executed by graphql-core, which makes the error for a value that cannot be serialized."""


class LeafSerializer:
    """Serializes an object to `{name: {leaf: …}}`, as graphql-core would."""

    __slots__ = ("_leaves", "_response_name", "_source_type")

    def __init__(self, response_name: str, source_type: type, leaves: Sequence[Leaf]) -> None:
        self._response_name = response_name
        self._source_type = source_type
        self._leaves = tuple(leaves)

    def serialize(self, source: object) -> dict[str, Any]:
        """Raise `NotSerializable` for a value that graphql-core would make an error of."""
        if type(source) is not self._source_type:
            raise NotSerializable
        data: dict[str, Any] = {}
        for name, getter, coerce, is_non_null in self._leaves:
            try:
                raw_value = getter(source)
                coerced = None if raw_value is None else coerce(raw_value)
            except Exception as error:
                raise NotSerializable from error
            if coerced is Undefined or (coerced is None and (is_non_null or raw_value is not None)):
                raise NotSerializable
            data[name] = coerced
        return {self._response_name: data}


def build_leaf_serializer(schema: GraphQLSchema, executor: Any) -> LeafSerializer | None:
    """Return a serializer for the root field of a subscription whose results can be shared by all; None where more than leaves are selected."""
    root = schema.subscription_type
    (node,) = cast("Sequence[FieldNode]", executor.operation.selection_set.selections)
    type_ = None if root is None else cast("object", get_named_type(root.fields[node.name.value].type))
    if not isinstance(type_, GraphQLObjectType):
        return None
    definition: object = type_.extensions.get("strawberry-definition")
    if not isinstance(definition, StrawberryObjectDefinition):
        return None
    grouped_fields = collect_subfields(
        schema, executor.fragments, executor.variable_values, executor.operation, type_, [FieldDetails(node, None)]
    ).grouped_field_set
    leaves: list[Leaf] = []
    for name, details in grouped_fields.items():
        selected_field = details[0].node
        leaf = _typename_leaf(name, type_) if selected_field.name.value == "__typename" else _field_leaf(name, selected_field, type_)
        if leaf is None:
            return None
        leaves.append(leaf)
    response_name = node.alias.value if node.alias else node.name.value
    return LeafSerializer(response_name, definition.origin, leaves)


def _typename_leaf(response_name: str, type_: GraphQLObjectType) -> Leaf:
    return response_name, lambda _source: type_.name, str, True


def _field_leaf(response_name: str, node: FieldNode, type_: GraphQLObjectType) -> Leaf | None:
    field = type_.fields.get(node.name.value)
    if field is None or field.args:
        return None
    field_type: Any = field.type
    is_non_null = isinstance(field_type, GraphQLNonNull)
    nullable_type = cast("Any", field_type).of_type if is_non_null else field_type
    definition: object = field.extensions.get("strawberry-definition")
    if not is_leaf_type(nullable_type) or not isinstance(definition, StrawberryField):
        return None
    resolver: Any = cast("Any", definition).base_resolver
    if resolver is not None and resolver.self_parameter is None:
        return None
    getter = attrgetter(definition.python_name) if resolver is None else cast("GetValue", resolver)
    return response_name, getter, nullable_type.coerce_output_value, is_non_null
