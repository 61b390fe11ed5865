"""What holds for the served schema as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLObjectType,
    is_introspection_type,
    is_specified_scalar_type,
)

from graph.core.ids import KINDS
from graph.core.permissions import Scope, scopes
from graph.schema import schema

CORE = schema._schema
LONGEST = 300
PREFIXES = {
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


def descriptions() -> Iterator[tuple[str, str | None]]:
    """Everything that can be described, by name."""
    for type_ in CORE.type_map.values():
        if is_introspection_type(type_) or is_specified_scalar_type(type_):
            continue
        yield type_.name, type_.description
        if isinstance(type_, GraphQLObjectType | GraphQLInterfaceType):
            for name, field in type_.fields.items():
                yield f"{type_.name}.{name}", field.description
                for argument, value in field.args.items():
                    yield f"{type_.name}.{name}({argument}:)", value.description
        elif isinstance(type_, GraphQLInputObjectType):
            for name, field in type_.fields.items():
                yield f"{type_.name}.{name}", field.description
        elif isinstance(type_, GraphQLEnumType):
            for name, value in type_.values.items():
                yield f"{type_.name}.{name}", value.description


def test_schema_graphql_is_current() -> None:
    written = Path(__file__).parents[2] / "graph" / "schema.graphql"
    assert written.read_text() == schema.as_str() + "\n", "run `trellis schema > graph/schema.graphql` and look at what changed"


def test_everything_is_described_in_a_sentence() -> None:
    bad = [
        name for name, text in descriptions() if not text or len(text) < 8 or len(text) > LONGEST or not text.rstrip().endswith((".", "`"))
    ]
    assert bad == []


def test_every_root_field_says_who_may_call_it() -> None:
    found = scopes(schema)
    assert {scope for name, scope in found.items() if name.startswith("Mutation.")} == {Scope.WRITE}
    assert {scope for name, scope in found.items() if not name.startswith("Mutation.")} == {Scope.READ}


def test_every_prefix_names_its_type() -> None:
    assert {prefix: kind.type.__name__ for prefix, kind in KINDS.items()} == PREFIXES
    nodes = {type_.name for type_ in CORE.get_possible_types(CORE.type_map["Node"])}  # pyright: ignore[reportArgumentType] - Node is an interface
    assert nodes == set(PREFIXES.values())
