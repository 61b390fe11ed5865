"""A new type that lacks something is reported with a sentence that says what to do, here for throw-away declarations."""

from __future__ import annotations

import pytest
import strawberry
from graphql import build_schema
from strawberry.schema.config import StrawberryConfig

from db.queries import accounts
from db.tables import Dataset
from graph.accounts.types import Session
from graph.core.ids import NODE_REGISTRY, Node
from graph.core.permissions import Scope, mutation, query, require_declared_scopes, scopes
from graph.core.scalars import SCALARS
from graph.schema import schema
from tests.factories import Factory, factories
from tests.house.registration import (
    OTHER_SCOPES,
    registered,
    unreachable,
    without_argument,
    without_description,
    without_factory,
    without_scope,
)

CORE = schema._schema


def test_every_node_type_has_a_factory() -> None:
    assert without_factory(registered(NODE_REGISTRY), factories()) == []


def test_everything_has_a_description_that_says_something() -> None:
    assert without_description(CORE) == []


def test_every_root_field_says_who_may_call_it() -> None:
    assert without_scope(schema) == []
    assert len(scopes(schema)) > 30, "root fields are found"


def test_every_node_type_is_reached_from_a_list() -> None:
    assert unreachable(CORE) == []


def test_every_argument_that_must_be_given_has_a_value_to_be_tried_with() -> None:
    assert without_argument(CORE) == []


# The complaint of each check about an incomplete type.


def example_type(description: str | None) -> type:
    """A type as graph/examples/types.py would declare it; it is not registered as a node, so nothing else sees it."""

    @strawberry.type(description=description)
    class Example:
        title: str

    Example.__module__ = "graph.examples.types"
    return Example


def test_a_type_without_a_factory_is_reported() -> None:
    types = {**registered(NODE_REGISTRY), "example": example_type("What was found.")}
    assert without_factory(types, factories()) == [
        "Example has no factory: write tests/factories/examples.py, or add 'example' and its table to the `ids` of the factory there, with rows of it."
    ]
    assert without_factory(types, {**factories(), "examples": Factory(ids={"example": Dataset})}) == []


def test_two_factories_of_one_type_are_reported() -> None:
    both = {"examples": Factory(ids={"example": Dataset}), "studies": Factory(ids={"example": Dataset})}
    assert without_factory({}, both) == ["tests/factories/examples.py and tests/factories/studies.py both make the rows of `example_…`."]


def test_what_has_no_description_is_reported() -> None:
    @strawberry.type(description="What can be asked.")
    class Query:
        @strawberry.field(description="...")
        def title(self, draft: bool) -> str:
            return ""

    described = strawberry.Schema(query=Query, types=[example_type(None)])
    assert sorted(without_description(described._schema)) == [
        f"{name} has no description." for name in ("Example", "Example.title", "Query.title", "Query.title(draft)")
    ]


def test_a_root_field_without_its_scope_is_reported() -> None:
    @strawberry.type
    class Query:
        @strawberry.field
        def reports(self) -> int:
            return 0

        @query(description="Everybody's.")
        def report(self) -> int:
            return 0

    @strawberry.type
    class Mutation:
        @query(description="It writes.")
        def create_report(self) -> int:
            return 0

        @mutation(description="It writes.")
        def delete_report(self) -> int:
            return 0

    assert without_scope(strawberry.Schema(query=Query, mutation=Mutation)) == [
        "Query.reports has no scope: declare it with `query`, `mutation` or `subscription` of graph/core/permissions.py.",
        "Mutation.createReport has the scope READ, and has to have WRITE: change it, or add it to OTHER_SCOPES of tests/house/registration.py.",
    ]


def test_a_type_without_a_scope_and_a_field_with_another_one_than_what_it_leads_to_are_refused() -> None:
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'scope'"):
        type("Report", (Node,), {}, prefix="report", found_by=accounts.by_id)

    @strawberry.type
    class Query:
        @query(description="They are about the account.")
        def sessions(self) -> list[Session]:
            return []

    with pytest.raises(TypeError, match=r"^Query\.sessions leads to Session, so its scope has to be ACCOUNT, and is READ\.$"):
        require_declared_scopes(strawberry.Schema(query=Query, config=StrawberryConfig(scalar_map=SCALARS)))


def test_what_is_about_the_account_is_not_open_to_who_reads() -> None:
    assert [name for name in OTHER_SCOPES if "." in name and name not in scopes(schema)] == []
    assert {scopes(schema)[f"Session.{name}"] for name in ("id", "ipAddress", "isCurrent")} == {Scope.ACCOUNT}
    assert {scopes(schema)[f"Dataset.{name}"] for name in ("id", "versions", "owner")} == {Scope.READ}
    assert "Column.name" not in scopes(schema), "a part of what has an id is selected with it"


SDL = """
type Query { reports(first: Int): ReportConnection! page(id: ID!): Page }
type ReportConnection { edges: [ReportEdge!]! pageInfo: PageInfo! }
type ReportEdge { node: Report! }
type PageInfo { hasNextPage: Boolean! }
interface Node { id: ID! }
type Report implements Node { id: ID! }
type Page implements Node { id: ID! line(number: Int!): String }
"""


def test_a_type_that_no_list_leads_to_is_reported() -> None:
    assert unreachable(build_schema(SDL)) == [
        "No path from a list of Query leads to Page: give another type an edge to it, or Query a list of it."
    ]
    for before, after in (
        ("type Report implements Node { id: ID!", "type Report implements Node { id: ID! pages: [Page!]!"),
        ("type Query {", "type Query { pages: [Page!]!"),
    ):
        assert unreachable(build_schema(SDL.replace(before, after))) == []


def test_an_argument_without_a_value_is_reported() -> None:
    assert without_argument(build_schema(SDL)) == [
        "No value is known for Page.line(number): give one in `arguments` of the factory of Page in tests/factories."
    ]
