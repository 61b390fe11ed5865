"""Variables of an operation that is executed again and again: what their definitions say is found out once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from graphql import (
    GraphQLBoolean,
    GraphQLError,
    GraphQLID,
    GraphQLInputObjectType,
    GraphQLInt,
    GraphQLList,
    GraphQLNonNull,
    GraphQLSchema,
    GraphQLString,
    OperationDefinitionNode,
)
from graphql.execution.get_variable_signature import GraphQLVariableSignature, get_variable_signature
from graphql.execution.values import VariableValues, VariableValueSource, get_variable_values

MAX_COERCION_ERRORS = 5  # about the variables of one operation
_LARGEST_INT = 2**31

# What graphql-core returns as it is, by the type; everything else is left to it.
_IS_COERCED: Mapping[Any, Callable[[Any], bool]] = {
    GraphQLID: lambda value: type(value) is str,
    GraphQLString: lambda value: type(value) is str,
    GraphQLBoolean: lambda value: type(value) is bool,
    GraphQLInt: lambda value: type(value) is int and -_LARGEST_INT <= value < _LARGEST_INT,
}


class Variables:
    """The variables that an operation defines."""

    def __init__(self, schema: GraphQLSchema, operation: OperationDefinitionNode) -> None:
        self._schema = schema
        self._definitions = operation.variable_definitions or ()
        self._plain = _plain_variables(schema, operation)
        self.may_hold_lists = any(_may_hold_lists(schema, definition) for definition in self._definitions)

    def coerce(self, inputs: Mapping[str, Any], *, hide_suggestions: bool) -> VariableValues | list[GraphQLError]:
        """Return the values as graphql-core's executor has them, or the errors."""
        if self._plain is not None:
            sources: dict[str, VariableValueSource] = {}
            coerced: dict[str, Any] = {}
            for name, signature, is_coerced in self._plain:
                value = inputs.get(name)
                if not is_coerced(value):
                    break
                sources[name] = VariableValueSource(signature, value)
                coerced[name] = value
            else:
                return VariableValues(sources, coerced)
        return get_variable_values(
            self._schema, self._definitions, dict(inputs), max_errors=MAX_COERCION_ERRORS, hide_suggestions=hide_suggestions
        )


def _plain_variables(
    schema: GraphQLSchema, operation: OperationDefinitionNode
) -> list[tuple[str, GraphQLVariableSignature, Callable[[Any], bool]]] | None:
    """The variables with the check of their values; None if one has another type than those that need no coercion."""
    plain: list[tuple[str, GraphQLVariableSignature, Callable[[Any], bool]]] = []
    for definition in operation.variable_definitions or ():
        signature = get_variable_signature(schema, definition)
        if isinstance(signature, GraphQLError):
            return None
        type_ = cast("Any", signature).type
        is_coerced = _IS_COERCED.get(cast("Any", type_).of_type if isinstance(type_, GraphQLNonNull) else type_)
        if is_coerced is None:
            return None
        plain.append((signature.name, signature, is_coerced))
    return plain


def _may_hold_lists(schema: GraphQLSchema, definition: Any) -> bool:
    """Whether the values of a variable may be lists, or input objects with lists in them."""
    signature = get_variable_signature(schema, definition)
    if isinstance(signature, GraphQLError):
        return True
    types: list[Any] = [cast("Any", signature).type]
    known: set[Any] = set()
    for type_ in types:
        inner: Any = cast("Any", type_).of_type if isinstance(type_, GraphQLNonNull) else type_
        if isinstance(inner, GraphQLList):
            return True
        if isinstance(inner, GraphQLInputObjectType) and inner not in known:
            known.add(inner)
            types += [field.type for field in cast("Any", inner).fields.values()]
    return False
