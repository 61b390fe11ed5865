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


def whole(schema: GraphQLSchema, type_name: str, depth: int = 3) -> str:
    """Every field of a type, and of what it leads to, down to `depth`; lists are asked for two rows."""
    kind = schema.type_map[type_name]
    assert isinstance(kind, GraphQLObjectType)
    return _fields(schema, kind, depth)


def _fields(schema: GraphQLSchema, kind: GraphQLObjectType, depth: int) -> str:
    chosen = (field(schema, name, declared, depth) for name, declared in kind.fields.items())
    return " ".join(["__typename", *(one for one in chosen if one is not None)])


def field(schema: GraphQLSchema, name: str, declared: GraphQLField, depth: int) -> str | None:
    """One field with everything below it, or None where the depth is used up."""
    inner = get_named_type(declared.type)
    asked = f"{name}{_arguments(declared)}"
    if is_leaf_type(inner):
        return asked
    if isinstance(inner, GraphQLInterfaceType):
        return f"{asked} {{ __typename id }}"
    if depth <= 0:
        return None
    if isinstance(inner, GraphQLUnionType):
        return f"{asked} {{ __typename ... on Node {{ id }} }}"
    assert isinstance(inner, GraphQLObjectType)
    return f"{asked} {{ {_fields(schema, inner, depth - 1)} }}"


def _arguments(field: GraphQLField) -> str:
    given = [
        f"{name}: {ARGUMENTS[name]}"
        for name, argument in field.args.items()
        if isinstance(argument.type, GraphQLNonNull) and name in ARGUMENTS
    ]
    if "first" in field.args:
        given.append("first: 2")
    return f"({', '.join(given)})" if given else ""
