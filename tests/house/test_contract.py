"""The served schema contains every definition of `core.graphql`, unchanged; it may have more."""

from __future__ import annotations

from pathlib import Path

import pytest
from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLScalarType,
    GraphQLUnionType,
    build_schema,
    is_introspection_type,
    is_required_argument,
    is_required_input_field,
    print_ast,
)

from graph.core.ids import NODE_REGISTRY
from tests.served_schema import SERVED

PROMISED = build_schema((Path(__file__).parent / "core.graphql").read_text())
PROMISED_PREFIXES = {
    "user": "User",
    "dataset": "Dataset",
    "version": "DatasetVersion",
    "profile": "DatasetProfile",
    "artifact": "Artifact",
    "pipeline": "Pipeline",
    "snapshot": "PipelineSnapshot",
    "job": "Job",
    "model": "Model",
    "mversion": "ModelVersion",
    "experiment": "Experiment",
    "run": "Run",
}
TYPES = [type_ for type_ in PROMISED.type_map.values() if not is_introspection_type(type_)]


def default(value: GraphQLArgument | GraphQLInputField) -> str | None:
    """Return a default as it is printed, None without one: `= null` and no default differ."""
    node = value.ast_node
    return None if node is None or node.default_value is None else print_ast(node.default_value)


def differences(promised: GraphQLNamedType, served: GraphQLNamedType | None) -> list[str]:
    if served is None or type(served) is not type(promised):
        return [f"{promised.name} is missing, or is of another kind"]
    match promised, served:
        case GraphQLObjectType() | GraphQLInterfaceType(), GraphQLObjectType() | GraphQLInterfaceType():
            return output_differences(promised, served)
        case GraphQLInputObjectType(), GraphQLInputObjectType():
            return input_differences(promised, served)
        case GraphQLEnumType(), GraphQLEnumType():
            return [f"{promised.name} lacks {value}" for value in promised.values if value not in served.values]
        case GraphQLUnionType(), GraphQLUnionType():
            promised_names, served_names = ({type_.name for type_ in union.types} for union in (promised, served))
            # Results are fixed: a mutation ends in no way that its clients do not know. What jobs make may become more.
            is_kept = promised_names == served_names if promised.name.endswith("Result") else promised_names <= served_names
            return [] if is_kept else [f"{promised.name} is {sorted(served_names)}"]
        case _:
            assert isinstance(promised, GraphQLScalarType)
            return []


Output = GraphQLObjectType | GraphQLInterfaceType


def output_differences(promised: Output, served: Output) -> list[str]:
    differences: list[str] = []
    if not {i.name for i in promised.interfaces} <= {i.name for i in served.interfaces}:
        differences.append(f"{promised.name} implements {[i.name for i in served.interfaces]}")
    for key, field in promised.fields.items():
        name, other = f"{promised.name}.{key}", served.fields.get(key)
        if other is None or str(other.type) != str(field.type):
            differences.append(f"{name} is {other and other.type}, promised is {field.type}")
            continue
        for argument, value in field.args.items():
            served_argument = other.args.get(argument)
            if served_argument is None or str(served_argument.type) != str(value.type) or default(served_argument) != default(value):
                differences.append(
                    f"{name}({argument}:) is {served_argument and served_argument.type}, promised is {value.type} = {default(value)}"
                )
        extra = other.args.keys() - field.args.keys()
        differences += [
            f"{name}({argument}:) is required and was not promised" for argument in extra if is_required_argument(other.args[argument])
        ]
    return differences


def input_differences(promised: GraphQLInputObjectType, served: GraphQLInputObjectType) -> list[str]:
    differences: list[str] = []
    if promised.is_one_of != served.is_one_of:
        differences.append(f"{promised.name} differs in @oneOf")
    for key, field in promised.fields.items():
        other = served.fields.get(key)
        if other is None or str(other.type) != str(field.type) or default(other) != default(field):
            differences.append(f"{promised.name}.{key} is {other and other.type}, promised is {field.type} = {default(field)}")
    extra = served.fields.keys() - promised.fields.keys()
    return differences + [
        f"{promised.name}.{key} is required and was not promised" for key in extra if is_required_input_field(served.fields[key])
    ]


@pytest.mark.parametrize("promised", TYPES, ids=lambda type_: type_.name)
def test_the_served_type_is_as_promised(promised: GraphQLNamedType) -> None:
    assert differences(promised, SERVED.type_map.get(promised.name)) == []


def test_the_comparison_notices_what_differs() -> None:
    one = build_schema("type Query { a(b: Int! = 1): [Int!]! c: E } enum E { X Y }").type_map
    other = build_schema("type Query { a(b: Int!, d: Int!): [Int]! } enum E { X }").type_map
    assert differences(one["Query"], other["Query"]) == ["Query.a is [Int]!, promised is [Int!]!", "Query.c is None, promised is E"]
    assert differences(one["E"], other["E"]) == ["E lacks Y"]
    types = "type Query { a: MakeResult b: Made } type A { x: Int } type B { x: Int }"
    one = build_schema(f"{types} union MakeResult = A union Made = A").type_map
    other = build_schema(f"{types} union MakeResult = A | B union Made = A | B").type_map
    assert [differences(one[name], other[name]) for name in ("MakeResult", "Made")] == [["MakeResult is ['A', 'B']"], []]
    assert differences(other["Made"], one["Made"]) == ["Made is ['A']"]


def test_only_nodes_and_uploads_have_an_id() -> None:
    """Normalised caches key on the field `id`."""
    with_id = {t.name for t in SERVED.type_map.values() if isinstance(t, GraphQLObjectType) and "id" in t.fields}
    nodes = {t.name for t in SERVED.get_possible_types(SERVED.type_map["Node"])}  # pyright: ignore[reportArgumentType] - Node is an interface
    assert with_id - nodes == {"Upload", "NotFound"}


def test_every_prefix_names_its_type() -> None:
    """A prefix never changes its type, because clients store ids; a new type has a unique prefix."""
    nodes = {t.name for t in SERVED.get_possible_types(SERVED.type_map["Node"])}  # pyright: ignore[reportArgumentType] - Node is an interface
    served = {prefix: kind.type.__name__ for prefix, kind in NODE_REGISTRY.items()}
    assert served.items() >= PROMISED_PREFIXES.items()
    assert sorted(served.values()) == sorted(nodes)
