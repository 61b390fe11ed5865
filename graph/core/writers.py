"""What an event says, written straight from its object: for selections of leaf fields alone, which need no executor.

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

Value = Callable[[Any], Any]
Coerce = Callable[[Any], Any]
Leaf = tuple[str, Value, Coerce, bool]  # its name in the answer, where it comes from, how it is told, and whether it is never null


class Unwritten(Exception):
    """The object is for graphql-core, which knows what to say of a value that cannot be told."""


class Writer:
    """Makes `{name: {leaf: …}}` of an object, as graphql-core would."""

    __slots__ = ("_leaves", "_name", "_of")

    def __init__(self, name: str, of: type, leaves: Sequence[Leaf]) -> None:
        self._name = name
        self._of = of
        self._leaves = tuple(leaves)

    def write(self, source: object) -> dict[str, Any]:
        """Raises `Unwritten`."""
        if type(source) is not self._of:
            raise Unwritten
        said: dict[str, Any] = {}
        for name, value, coerce, needed in self._leaves:
            try:
                found = value(source)
                told = None if found is None else coerce(found)
            except Exception as error:
                raise Unwritten from error
            if told is Undefined or (told is None and (needed or found is not None)):
                raise Unwritten
            said[name] = told
        return {self._name: said}


def writer(schema: GraphQLSchema, executor: Any) -> Writer | None:
    """For the one root field of a subscription that `sharing` found to be plain; None where there is more below it than leaves."""
    root = schema.subscription_type
    (node,) = cast("Sequence[FieldNode]", executor.operation.selection_set.selections)
    type_ = None if root is None else cast("object", get_named_type(root.fields[node.name.value].type))
    if not isinstance(type_, GraphQLObjectType):
        return None
    definition: object = type_.extensions.get("strawberry-definition")
    if not isinstance(definition, StrawberryObjectDefinition):
        return None
    grouped = collect_subfields(
        schema, executor.fragments, executor.variable_values, executor.operation, type_, [FieldDetails(node, None)]
    ).grouped_field_set
    leaves: list[Leaf] = []
    for name, details in grouped.items():
        selected = details[0].node
        found = _type_name(name, type_) if selected.name.value == "__typename" else _leaf(name, selected, type_)
        if found is None:
            return None
        leaves.append(found)
    answered = node.alias.value if node.alias else node.name.value
    return Writer(answered, definition.origin, leaves)


def _type_name(name: str, type_: GraphQLObjectType) -> Leaf:
    return name, lambda _source: type_.name, str, True


def _leaf(name: str, node: FieldNode, type_: GraphQLObjectType) -> Leaf | None:
    field = type_.fields.get(node.name.value)
    if field is None or field.args:
        return None
    of: Any = field.type
    needed = isinstance(of, GraphQLNonNull)
    named = cast("Any", of).of_type if needed else of
    definition: object = field.extensions.get("strawberry-definition")
    if not is_leaf_type(named) or not isinstance(definition, StrawberryField):
        return None
    resolver: Any = cast("Any", definition).base_resolver
    if resolver is not None and resolver.self_parameter is None:
        return None
    value = attrgetter(definition.python_name) if resolver is None else cast("Value", resolver)
    return name, value, named.coerce_output_value, needed
