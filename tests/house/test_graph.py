"""The graph keeps its own rules: what is checked in is what is served, everything is described, everything is guarded."""

from __future__ import annotations

from pathlib import Path

from graphql import GraphQLEnumType, GraphQLInputObjectType, GraphQLInterfaceType, GraphQLObjectType

from graph.core.permissions import Scope, scopes
from graph.schema import schema

SDL = Path(__file__).parents[2] / "graph" / "schema.graphql"


def test_the_schema_that_is_checked_in_is_the_one_that_is_served() -> None:
    assert SDL.read_text(encoding="utf-8").strip() == schema.as_str().strip(), "run `trellis schema > graph/schema.graphql`"


def test_everything_has_a_description_that_says_something() -> None:
    undescribed: list[str] = []

    def check(name: str, description: str | None) -> None:
        if not description or len(description.strip()) < 4:
            undescribed.append(name)

    for name, kind in schema._schema.type_map.items():
        if name.startswith("__") or name in {"String", "Int", "Float", "Boolean", "ID"}:
            continue
        check(name, kind.description)
        if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
            for field, field_definition in kind.fields.items():
                check(f"{name}.{field}", field_definition.description)
                for argument, input_value in field_definition.args.items():
                    check(f"{name}.{field}({argument})", input_value.description)
        elif isinstance(kind, GraphQLInputObjectType):
            for field, input_value in kind.fields.items():
                check(f"{name}.{field}", input_value.description)
        elif isinstance(kind, GraphQLEnumType):
            for value, member in kind.values.items():
                check(f"{name}.{value}", member.description)
    assert undescribed == []


def test_every_root_field_says_who_may_call_it() -> None:
    scope_by_field = scopes(schema)
    assert {name for name, scope in scope_by_field.items() if name.startswith("Mutation.") and scope is not Scope.WRITE} == set()
    assert {name for name, scope in scope_by_field.items() if not name.startswith("Mutation.") and scope is not Scope.READ} == set()
    assert len(scope_by_field) > 30
