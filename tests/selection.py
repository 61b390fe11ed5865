"""Selections made from the schema itself, so that a field added tomorrow is asked for tomorrow."""

from __future__ import annotations

from graphql import (
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    get_named_type,
    is_leaf_type,
)

# What to give fields that cannot be asked without an argument.
ARGUMENTS = {"number": "1", "name": '"production"', "metric": '"accuracy"'}


def all_fields(schema: GraphQLSchema, type_name: str, depth: int = 3) -> str:
    """Every field of a type, and of what it leads to, down to `depth`; lists are asked for two rows."""
    object_type = schema.type_map[type_name]
    assert isinstance(object_type, GraphQLObjectType)
    return _fields(schema, object_type, depth)


def _fields(schema: GraphQLSchema, object_type: GraphQLObjectType, depth: int) -> str:
    selections = (field_selection(schema, name, definition, depth) for name, definition in object_type.fields.items())
    return " ".join(["__typename", *(selection for selection in selections if selection is not None)])


def field_selection(schema: GraphQLSchema, name: str, definition: GraphQLField, depth: int) -> str | None:
    """One field with everything below it, or None where the depth is used up."""
    named_type = get_named_type(definition.type)
    field_text = f"{name}{_arguments(definition)}"
    if is_leaf_type(named_type):
        return field_text
    if isinstance(named_type, GraphQLInterfaceType):
        return f"{field_text} {{ __typename id }}"
    if depth <= 0:
        return None
    if isinstance(named_type, GraphQLUnionType):
        return f"{field_text} {{ __typename ... on Node {{ id }} }}"
    assert isinstance(named_type, GraphQLObjectType)
    return f"{field_text} {{ {_fields(schema, named_type, depth - 1)} }}"


def _arguments(field: GraphQLField) -> str:
    arguments = [
        f"{name}: {ARGUMENTS[name]}"
        for name, argument in field.args.items()
        if isinstance(argument.type, GraphQLNonNull) and name in ARGUMENTS
    ]
    if "first" in field.args:
        arguments.append("first: 2")
    return f"({', '.join(arguments)})" if arguments else ""
