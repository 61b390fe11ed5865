"""Limits the lengths of input lists before an entry is coerced: coercing them, and reading a row for each, takes time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from graphql import (
    ArgumentNode,
    GraphQLError,
    GraphQLList,
    GraphQLSchema,
    ListValueNode,
    ObjectFieldNode,
    OperationDefinitionNode,
    ValidationRule,
    VariableDefinitionNode,
    get_nullable_type,  # pyright: ignore[reportUnknownVariableType] - generics that graphql-core leaves open
    type_from_ast,  # pyright: ignore[reportUnknownVariableType] - the same
)

from graph.core.list_lengths import max_entries, overlong_lists


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
        if isinstance(list_type, GraphQLList) and len(node.values) > max_entries(list_type):
            self.report_error(_error(".".join(self._path), len(node.values), max_entries(list_type), node))


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


def _error(path: str, length: int, limit: int, node: Any) -> GraphQLError:
    message = f"`{path}` has {length:,} entries; at most {limit:,} are allowed. Split it into several operations, or use another filter."
    return GraphQLError(message, node, extensions={"code": "BAD_USER_INPUT"})
