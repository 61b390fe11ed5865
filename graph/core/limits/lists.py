"""How long the lists of an input may be, known before any entry is looked at: reading them, and asking for each, takes its time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from graphql import (
    ArgumentNode,
    GraphQLError,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLSchema,
    ListValueNode,
    ObjectFieldNode,
    OperationDefinitionNode,
    ValidationRule,
    VariableDefinitionNode,
    get_named_type,
    get_nullable_type,  # pyright: ignore[reportUnknownVariableType] - generics that graphql-core leaves open
    type_from_ast,  # pyright: ignore[reportUnknownVariableType] - the same
)

MOST = 100
LONGER = {"PipelineNodeInput": 1_000, "PipelineLinkInput": 1_000}  # a definition says itself what is wrong with it, its size too


class ShortLists(ValidationRule):
    """Lists that are written out in the document."""

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self._place: list[str] = []

    def enter_argument(self, node: ArgumentNode, *_: Any) -> None:
        self._place = [node.name.value]

    def enter_variable_definition(self, node: VariableDefinitionNode, *_: Any) -> None:
        self._place = [f"${node.variable.name.value}"]

    def enter_object_field(self, node: ObjectFieldNode, *_: Any) -> None:
        self._place.append(node.name.value)

    def leave_object_field(self, *_: Any) -> None:
        self._place.pop()

    def enter_list_value(self, node: ListValueNode, *_: Any) -> None:
        context = cast("Any", self.context)
        kind: Any = cast("Any", get_nullable_type)(context.get_parent_input_type())
        if isinstance(kind, GraphQLList) and len(node.values) > _most(kind):
            self.report_error(_error(".".join(self._place), len(node.values), _most(kind), node))


def too_long(schema: GraphQLSchema, operation: OperationDefinitionNode, given: Mapping[str, Any] | None) -> GraphQLError | None:
    """What is wrong with the variables of a valid operation, if a list in them is too long."""
    for definition in operation.variable_definitions or ():
        name = definition.variable.name.value
        if given and name in given:
            kind: Any = cast("Any", type_from_ast)(schema, definition.type)
            for place, entries, most in _past(kind, given[name], f"${name}"):
                return _error(place, entries, most, definition)
    return None


def _past(kind: Any, value: Any, place: str) -> Iterator[tuple[str, int, int]]:
    """Each list that is too long; the entries of those that are not may hold others. No type is as deep as the values that JSON may have."""
    kind = cast("Any", get_nullable_type)(kind)
    if isinstance(kind, GraphQLList) and isinstance(value, list):
        entries, inner = cast("list[Any]", value), cast("Any", kind).of_type
        if len(entries) > _most(kind):
            yield place, len(entries), _most(kind)
            return
        for entry in entries:
            yield from _past(inner, entry, place)
    elif isinstance(kind, GraphQLInputObjectType) and isinstance(value, dict):
        for name, inner in cast("dict[str, Any]", value).items():
            if name in kind.fields:
                yield from _past(kind.fields[name].type, inner, f"{place}.{name}")


def _most(kind: Any) -> int:
    return LONGER.get(cast("Any", get_named_type)(kind).name, MOST)


def _error(place: str, entries: int, most: int, node: Any) -> GraphQLError:
    message = (
        f"`{place}` has {entries:,} entries; at most {most:,} are taken. Ask in several operations, or narrow the list down in another way."
    )
    return GraphQLError(message, node, extensions={"code": "BAD_USER_INPUT"})
