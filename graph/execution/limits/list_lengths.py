"""Limits the lengths of input lists before an entry is coerced: coercing them, and reading a row for each, takes time."""

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

MAX_ENTRIES = 100
MAX_ENTRIES_BY_TYPE = {
    "PipelineNodeInput": 1_000,
    "PipelineLinkInput": 1_000,
    "UploadedPartInput": 10_000,  # as many as an object has
    "JSON": 10_000,  # rows
}  # a definition says itself what is wrong with it, its size too


class ListLengthRule(ValidationRule):
    """A validation rule for lists that are literals of the document."""

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self._path: list[str] = []

    def enter_argument(self, node: ArgumentNode, *_: Any) -> None:
        self._path = [node.name.value]

    def enter_variable_definition(self, node: VariableDefinitionNode, *_: Any) -> None:
        self._path = [f"${node.variable.name.value}"]

    def enter_object_field(self, node: ObjectFieldNode, *_: Any) -> None:
        self._path.append(node.name.value)

    def leave_object_field(self, *_: Any) -> None:
        self._path.pop()

    def enter_list_value(self, node: ListValueNode, *_: Any) -> None:
        context = cast("Any", self.context)
        list_type: Any = cast("Any", get_nullable_type)(context.get_parent_input_type())
        if isinstance(list_type, GraphQLList) and len(node.values) > _max_entries(list_type):
            self.report_error(_error(".".join(self._path), len(node.values), _max_entries(list_type), node))


def list_length_error(
    schema: GraphQLSchema, operation: OperationDefinitionNode, variables: Mapping[str, Any] | None
) -> GraphQLError | None:
    """Return the error of a valid operation whose variables hold a list that is too long."""
    for definition in operation.variable_definitions or ():
        name = definition.variable.name.value
        if variables and name in variables:
            type_: Any = cast("Any", type_from_ast)(schema, definition.type)
            for path, length, limit in overlong_lists(type_, variables[name], f"${name}"):
                return _error(path, length, limit, definition)
    return None


def overlong_lists(type_: Any, value: Any, path: str) -> Iterator[tuple[str, int, int]]:
    """Yield each list that is too long, nested ones included. Recursion is bounded by the depth of the type, not by that of the JSON value."""
    type_ = cast("Any", get_nullable_type)(type_)
    if isinstance(type_, GraphQLList) and isinstance(value, list):
        entries, inner = cast("list[Any]", value), cast("Any", type_).of_type
        if len(entries) > _max_entries(type_):
            yield path, len(entries), _max_entries(type_)
            return
        for entry in entries:
            yield from overlong_lists(inner, entry, path)
    elif isinstance(type_, GraphQLInputObjectType) and isinstance(value, dict):
        for name, inner in cast("dict[str, Any]", value).items():
            if name in type_.fields:
                yield from overlong_lists(type_.fields[name].type, inner, f"{path}.{name}")


def _max_entries(type_: Any) -> int:
    return MAX_ENTRIES_BY_TYPE.get(cast("Any", get_named_type)(type_).name, MAX_ENTRIES)


def _error(path: str, length: int, limit: int, node: Any) -> GraphQLError:
    message = f"`{path}` has {length:,} entries; at most {limit:,} are allowed. Split it into several operations, or use another filter."
    return GraphQLError(message, node, extensions={"code": "BAD_USER_INPUT"})
