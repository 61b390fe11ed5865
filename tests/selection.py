"""Selections generated from the schema, so that new fields are covered automatically."""

from __future__ import annotations

from graphql import (
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    get_named_type,
    get_nullable_type,
    is_leaf_type,
    is_required_argument,
)

from tests.factories import arguments


def node_types(schema: GraphQLSchema) -> list[GraphQLObjectType]:
    """Return the types that implement `Node`."""
    node = schema.type_map["Node"]
    assert isinstance(node, GraphQLInterfaceType)
    return sorted(schema.get_possible_types(node), key=lambda node_type: node_type.name)


def connected_type(field: GraphQLField) -> GraphQLObjectType | None:
    """Return the node type of a connection field; None if the field is not a connection, or one of several types."""
    connection = get_named_type(field.type)
    if not isinstance(connection, GraphQLObjectType) or not {"edges", "pageInfo"} <= connection.fields.keys():
        return None
    edge = get_named_type(connection.fields["edges"].type)
    assert isinstance(edge, GraphQLObjectType)
    node = get_named_type(edge.fields["node"].type)
    return node if isinstance(node, GraphQLObjectType) else None


def root_lists(schema: GraphQLSchema) -> dict[str, GraphQLObjectType]:
    """Return the connections of `Query` without required arguments, and the node type of each."""
    assert schema.query_type is not None
    listed = {
        name: connected_type(field) for name, field in schema.query_type.fields.items() if not missing_arguments(schema.query_type, name)
    }
    return {name: node for name, node in listed.items() if node is not None}


def whole_lists(schema: GraphQLSchema) -> set[str]:
    """Return the names of the types that `Query` lists without pages and without required arguments, such as what ships."""
    assert schema.query_type is not None
    fields = ((name, get_nullable_type(field.type)) for name, field in schema.query_type.fields.items())
    return {
        get_named_type(type_).name
        for name, type_ in fields
        if isinstance(type_, GraphQLList) and not missing_arguments(schema.query_type, name)
    }


def all_fields(schema: GraphQLSchema, type_name: str, depth: int = 3) -> str:
    """Return every field of a type and of the types it leads to, down to `depth`; lists are limited to two rows."""
    object_type = schema.type_map[type_name]
    assert isinstance(object_type, GraphQLObjectType)
    return _fields(schema, object_type, depth)


def _fields(schema: GraphQLSchema, object_type: GraphQLObjectType, depth: int) -> str:
    selections = (field_selection(schema, object_type, name, depth) for name in object_type.fields)
    # No type's own name beside its fields: a run, which leads to most types, would select more than a document may.
    return " ".join(selection for selection in selections if selection is not None) or "__typename"


def field_selection(schema: GraphQLSchema, object_type: GraphQLObjectType, name: str, depth: int) -> str | None:
    """Return one field with its subselections, or None below the maximum depth."""
    named_type = get_named_type(object_type.fields[name].type)
    field_text = f"{name}{arguments_text(object_type, name)}"
    if is_leaf_type(named_type):
        return field_text
    if isinstance(named_type, GraphQLInterfaceType):
        leaves = [leaf for leaf, field in named_type.fields.items() if is_leaf_type(get_named_type(field.type))]
        return f"{field_text} {{ __typename {'id' if 'id' in leaves else ' '.join(leaves)} }}"
    if depth <= 0:
        return None
    if isinstance(named_type, GraphQLUnionType):
        return f"{field_text} {{ __typename ... on Node {{ id }} }}"
    assert isinstance(named_type, GraphQLObjectType)
    return f"{field_text} {{ {_fields(schema, named_type, depth - 1)} }}"


def missing_arguments(object_type: GraphQLObjectType, name: str) -> list[str]:
    """Return the required arguments that no factory gives a value for, as `Type.field(argument)`."""
    given = arguments()
    places = [f"{object_type.name}.{name}({key})" for key, value in object_type.fields[name].args.items() if is_required_argument(value)]
    return [place for place in places if place not in given]


def arguments_text(object_type: GraphQLObjectType, name: str, first: int = 2) -> str:
    """Return the arguments that factories give values for, and the page size, in parentheses."""
    given = arguments()
    field = object_type.fields[name]
    texts = [
        f"{key}: {given[place]}"
        for key, argument in field.args.items()
        if isinstance(argument.type, GraphQLNonNull) and (place := f"{object_type.name}.{name}({key})") in given
    ]
    if "first" in field.args:
        texts.append(f"first: {first}")
    return f"({', '.join(texts)})" if texts else ""
