"""The cost of an operation is computed before it runs, from its document and its variables."""

from __future__ import annotations

import random
from collections.abc import Iterator
from math import ceil
from typing import Any

import pytest
from graphql import GraphQLField, GraphQLObjectType, get_named_type, is_composite_type, parse, specified_rules

from graph.execution.limits.cost_model import CostModel, FieldCost
from graph.schema import schema
from graph.settings import GraphSettings
from tests.client import Client

CORE = schema._schema
NESTED = """{ datasets(first: 50) { edges { node { id name createdAt owner { id username }
  versions(first: 3) { edges { node { id number } } } jobs(first: 5) { edges { node { id } } } } } } }"""


async def cost_of(viewer: Client, document: str, **variables: Any) -> int:
    """Return the cost that the server reports in a dry run."""
    answer = await viewer.execute(document.replace("{", "{ rateLimit(dryRun: true) { cost } ", 1), **variables)
    assert list(answer) == ["rateLimit"]
    return answer["rateLimit"]["cost"]


@pytest.mark.parametrize(
    ("document", "cost"),
    [
        ("{ viewer { id username } }", 1),
        # The list itself and the nodes of its page, 20 by default.
        ("{ datasets { edges { node { id } } } }", 1 + 20),
        ("{ datasets(first: 3) { edges { cursor node { id } } pageInfo { endCursor } } }", 1 + 3),
        ("{ datasets(last: 3) { edges { node { id } } } }", 1 + 3),
        ("{ datasets(first: null) { edges { node { id } } } }", 1 + 20),
        ("{ datasets(first: 0) { edges { node { id } } } }", 1),
        ("{ datasets(first: 3) { totalCount } }", 1 + 5),
        # Page sizes multiply along the path: 50 times a dataset, its owner, a page of 3 and a page of 5.
        (NESTED, 1 + 50 * (1 + 1 + (1 + 3) + (1 + 5))),
        # Aliases and fragments.
        ("{ a: datasets(first: 3) { edges { node { id } } } b: datasets(first: 4) { edges { node { id } } } }", 4 + 5),
        (
            "{ ...F } fragment F on Query { datasets(first: 3) { ...P } } fragment P on DatasetConnection { edges { node { owner { id } } } }",
            7,
        ),
        # Of the possible types of a field, the most expensive counts.
        ('{ node(id: "x") { ... on Dataset { owner { id } } ... on Job { owner { id } attempts { number } } } }', 1 + 1 + 3),
        ('{ nodes(ids: ["a", "b", "c"]) { id ... on Dataset { owner { id } } } }', 3 * (1 + 1)),
        # Skipped fields cost nothing.
        ("{ datasets(first: 3) @skip(if: true) { edges { node { id } } } viewer { id } }", 1),
        ("{ viewer { id ... @include(if: false) { datasets { edges { node { id } } } } } }", 1),
        # Expensive fields.
        ('{ node(id: "x") { ... on DatasetVersion { profile { rowCount } } } }', 1 + 50),
        ('{ node(id: "x") { ... on Artifact { downloadUrl } } }', 1 + 10),
        ('{ node(id: "x") { ... on DatasetVersion { profile { columns { name } } } } }', 1 + 50 + 100),
        # Fields with a size argument: a node of lineage costs one point, a hundred points of a metric cost one.
        ('{ lineage(id: "x") { nodes { label } edges { source } } }', 50 + 200 * (1 + 1)),
        ('{ lineage(id: "x", maxNodes: 1000) { nodes { label } } }', 50 + 1000),
        ('{ node(id: "x") { ... on Run { metricHistory { key points { step } } } } }', 1 + 10 + 10 * 10 * (1 + 1)),
        ('{ node(id: "x") { ... on Run { metricHistory(maxPoints: 10000) { key points { step } } } } }', 1 + 10 + 10 * 100 * (1 + 1)),
        ("{ __typename }", 1),
    ],
)
async def test_things_cost_a_point_each_and_some_fields_more(ada: Client, document: str, cost: int) -> None:
    assert await cost_of(ada, document) == cost


async def test_page_sizes_are_taken_from_variables_and_their_defaults(ada: Client) -> None:
    document = "query($n: Int = 7, $on: Boolean = true) { datasets(first: $n) @include(if: $on) { edges { node { id } } } }"
    assert await cost_of(ada, document) == 8
    assert await cost_of(ada, document, n=50) == 51
    assert await cost_of(ada, document, n=3.0) == 4
    assert await cost_of(ada, document, n=None) == 21
    assert await cost_of(ada, document, n=50, on=False) == 1
    by_ids = "query($ids: [ID!]!) { nodes(ids: $ids) { id } }"
    assert await cost_of(ada, by_ids, ids=["a"] * 40) == 40
    assert await cost_of(ada, by_ids, ids="a") == 1


@pytest.mark.exhaustive
async def test_costs_that_are_known_are_those_of_equal_variables_alone(ada: Client) -> None:
    """Which variables matter depends on a condition, and `true` is not the number 1."""
    document = """query($with: Boolean!, $first: Int, $ids: [ID!] = []) {
      viewer { id } datasets(first: $first) @include(if: $with) { edges { node { id } } } nodes(ids: $ids) { id } }"""
    cases: list[dict[str, Any]] = [
        {"with": False, "first": 3},
        {"with": True, "first": 3},
        {"with": True, "first": 7},
        {"with": True},
        {"with": True, "first": None},
        {"with": True, "first": 1},
        {"with": False, "first": 7, "ids": ["a", "b"]},
        {"with": True, "first": 7, "ids": ["c", "d"]},
        *({"with": True, "first": first} for first in range(20, 90)),
    ]
    unknown = [await cost_of(ada, f"{document} # {number}", **variables) for number, variables in enumerate(cases)]
    assert len(set(unknown)) > 70
    for _ in range(2):
        assert [await cost_of(ada, document, **variables) for variables in cases] == unknown


async def test_starting_a_job_costs_a_hundred_points(ada: Client) -> None:
    document = (
        "mutation($input: RetryJobInput!) { retryJob(input: $input) { ... on RetryJobPayload { job { id } } ... on Problem { code } } }"
    )
    body = {"query": document, "variables": {"input": {"id": "job_x"}}}
    answer = (await ada.http.post("/graphql", json=body, headers={"X-Trellis-Cost": "1"})).json()
    assert answer["data"] == {"retryJob": {"code": "NOT_FOUND"}}
    assert answer["extensions"]["cost"]["requested"] == 100 + 1


async def test_a_response_has_the_cost_on_request(ada: Client) -> None:
    answer = (await ada.http.post("/graphql", json={"query": NESTED}, headers={"X-Trellis-Cost": "1"})).json()
    cost = answer["extensions"]["cost"]
    assert (cost["requested"], cost["maximum"]) == (601, 10_000)
    assert cost.keys() == {"requested", "maximum", "limit", "remaining", "resetAt"}
    assert "extensions" not in (await ada.http.post("/graphql", json={"query": NESTED})).json()


async def test_an_operation_that_costs_too_much_is_refused_before_it_runs_and_the_error_says_where(
    ada: Client, capture_statements: Any
) -> None:
    document = """query($n: Int) { viewer { id } d: datasets(first: $n) { edges { node { owner { id }
      jobs(first: 100) { totalCount edges { node { events(last: 50) { edges { node { type } } } } } } } } } }"""
    await ada.post(document, n=1)
    with capture_statements() as sent:
        answer = await ada.post(document, n=100)
    (error,) = answer["errors"]
    del error["extensions"]["requestId"]
    cost = 1 + 1 + 100 * (1 + 1 + (1 + 5 + 100 * (1 + 1 + 50)))
    assert error["extensions"] == {
        "code": "COST_LIMIT_EXCEEDED",
        "cost": cost,
        "limit": 10_000,
        "dearestPath": "d: datasets × 100 > jobs × 100 > events × 50",
    }
    assert error["message"].startswith(f"This operation costs {cost:,} points, and one may cost at most 10,000.")
    assert "first" in error["message"]
    assert [statement for statement in sent if "datasets" in statement] == []


async def test_a_dry_run_returns_the_cost_of_an_operation_that_would_be_refused(ada: Client) -> None:
    document = "{ rateLimit(dryRun: true) { cost } datasets(first: 100) { edges { node { jobs(first: 100) { edges { node { id } } } } } } }"
    assert await ada.execute(document) == {"rateLimit": {"cost": 1 + 100 * (1 + 1 + 100)}}


async def test_a_dry_run_changes_nothing_and_answers_nothing_else(ada: Client, capture_statements: Any) -> None:
    await ada.create_dataset("wine")
    document = "query($dry: Boolean = true) { ...F } fragment F on Query { limit: rateLimit(dryRun: $dry) { cost } datasets { edges { node { name } } } }"
    with capture_statements() as sent:
        assert await ada.execute(document) == {"limit": {"cost": 21}}
    assert [statement for statement in sent if "FROM datasets" in statement] == []
    answer = await ada.execute(document, dry=False)
    assert answer == {"limit": {"cost": 21}, "datasets": {"edges": [{"node": {"name": "wine"}}]}}


class NaiveCost:
    """The cost model computed naively: every fragment expanded where it is spread, every entry counted separately."""

    def __init__(self, prices: CostModel, fragments: dict[str, tuple[str, list[Any]]]) -> None:
        self.prices = prices
        self.fragments = fragments

    def expand_fragments(self, selections: list[Any], type_: GraphQLObjectType) -> Iterator[tuple[str, dict[str, int], list[Any]]]:
        for kind, name, arguments, below in selections:
            if kind == "field":
                yield name, arguments, below
            else:
                condition, inside = (name, below) if kind == "inline" else self.fragments[name]
                if condition == type_.name or type_.name in {one.name for one in self.prices.possible_types(CORE.type_map[condition])}:
                    yield from self.expand_fragments(inside, type_)

    def cost(self, selections: list[Any], type_: GraphQLObjectType, size: int) -> int:
        total = 0
        for name, arguments, below in self.expand_fragments(selections, type_):
            price: FieldCost | None = self.prices.field_cost(type_, name)
            if price is None:
                continue
            total += price.weight
            if price.type is None:
                continue
            page = arguments.get("first", 20) if price.is_paged else 0
            most_expensive = max(self.cost(below, possible, page) for possible in self.prices.possible_types(price.type))
            if price.is_page_edges:
                for _ in range(size):
                    total += most_expensive
            elif price.is_paged:
                total += most_expensive
            else:
                assert isinstance(price.entries, int)
                times = 1 if price.scaled is None else ceil(arguments.get(price.scaled[0], price.scaled[2]) / price.scaled[1])
                for _ in range(price.entries * max(times, 1)):
                    total += price.entry_weight + most_expensive
        return total


class DocumentGenerator:
    """Generates random documents that are valid except for missing arguments."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.fragments: dict[str, tuple[str, list[Any]]] = {}

    def selections(self, type_: Any, levels: int) -> list[Any]:
        selections: list[Any] = []
        for _ in range(self.random.randint(1, 3)):
            roll = self.random.random()
            if roll < 0.15:
                selections.append(
                    (
                        "inline",
                        self.condition(type_),
                        {},
                        self.selections(type_, levels - 1) if levels else [("field", "__typename", {}, [])],
                    )
                )
            elif roll < 0.35 and levels:
                fitting = [name for name, (condition, _) in self.fragments.items() if condition == type_.name]
                if fitting and self.random.random() < 0.7:
                    selections.append(("spread", self.random.choice(fitting), {}, []))
                else:
                    inside = self.selections(type_, levels - 1)
                    self.fragments[f"F{len(self.fragments)}"] = (type_.name, inside)
                    selections.append(("spread", f"F{len(self.fragments) - 1}", {}, []))
            else:
                selections.append(self.field(type_, levels))
        return selections

    def condition(self, type_: Any) -> str:
        return type_.name

    def field(self, type_: Any, levels: int) -> Any:
        fields: dict[str, GraphQLField] = getattr(type_, "fields", {})
        fitting = [
            (name, field)
            for name, field in fields.items()
            if (levels or not is_composite_type(get_named_type(field.type))) and name not in {"nodes", "rateLimit", "downloadUrl"}
        ]
        if not fitting:
            return ("field", "__typename", {}, [])
        name, field = self.random.choice(fitting)
        below = get_named_type(field.type)
        arguments = {"first": self.random.randint(0, 4)} if "first" in field.args and self.random.random() < 0.8 else {}
        return ("field", name, arguments, self.selections(below, levels - 1) if is_composite_type(below) else [])

    def text(self, selections: list[Any]) -> str:
        parts: list[str] = []
        for kind, name, arguments, below in selections:
            inside = f" {{ {self.text(below)} }}" if below else ""
            argument_text = f"({', '.join(f'{key}: {value}' for key, value in arguments.items())})" if arguments else ""
            parts.append(
                f"... on {name}{inside}" if kind == "inline" else f"...{name}" if kind == "spread" else f"{name}{argument_text}{inside}"
            )
        return " ".join(parts)


def test_the_cost_is_what_counting_each_thing_gives_for_any_document(seed: int) -> None:
    prices = CostModel(CORE)
    expensive_count = 0
    for round_ in range(300):
        generator = DocumentGenerator(seed + round_)
        assert CORE.query_type is not None
        selections = generator.selections(CORE.query_type, 6)
        document = f"{{ {generator.text(selections)} }} " + " ".join(
            f"fragment {name} on {condition} {{ {generator.text(inside)} }}" for name, (condition, inside) in generator.fragments.items()
        )
        parsed = parse(document)
        settings = GraphSettings(query_max_depth=100)
        validation = schema.document_validator.validate_document(document, parsed, (), settings, hide_suggestions=False)
        estimated = schema.document_validator.cost(validation, parsed, parsed.definitions[0], {}, settings, is_dry_run=True)  # pyright: ignore[reportArgumentType] - the operation is the first definition
        expected = max(1, NaiveCost(prices, generator.fragments).cost(selections, CORE.query_type, 0))
        assert estimated == expected, document
        expensive_count += estimated > 10
    assert expensive_count > 50


def test_every_list_of_things_knows_how_long_it_is() -> None:
    prices = CostModel(CORE)
    undeclared: list[str] = []
    for type_ in CORE.type_map.values():
        if isinstance(type_, GraphQLObjectType) and not type_.name.startswith("__"):
            for name, field in type_.fields.items():
                price = prices.field_cost(type_, name)
                definition: Any = field.extensions.get("strawberry-definition")
                if price is not None and price.entry_weight and "cost" not in (definition.metadata or {}):
                    undeclared.append(f"{type_.name}.{name}")
    # Counts as ten entries each.
    assert sorted(undeclared) == []


def test_the_rules_of_graphql_are_all_still_checked() -> None:
    parsed = parse("{ viewer { id(x: 1) } ...F } fragment F on User { id } fragment G on User { id }")
    validation = schema.document_validator.validate_document(None, parsed, tuple(specified_rules), GraphSettings(), hide_suggestions=True)
    assert [error.message for error in validation.errors] == [
        "Unknown argument 'x' on field 'User.id'.",
        "Fragment 'F' cannot be spread here as objects of type 'Query' can never be of type 'User'.",
        "Fragment 'G' is never used.",
    ]
