"""What is selected under a mutation and under an event of a subscription is planned too, and has the same values."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import REGISTRY

from db.core.work import Database
from tests.client import Client
from tests.factories import platform
from tests.planning.conftest import planning_off

CREATE = """mutation($first: CreateDatasetInput!, $second: CreateDatasetInput!, $taken: Boolean!) {
  a: createDataset(input: $first) { __typename
    ... on CreateDatasetPayload { dataset { name owner { username datasets { totalCount } } versions(first: 2) { totalCount } } } }
  b: createDataset(input: $second) {
    ... on CreateDatasetPayload { dataset { name owner { datasets { totalCount edges { node { name } } } } } } ... on Problem { code message } }
  c: createDataset(input: $first) @include(if: $taken) { __typename ... on NameTaken { name } ... on Problem { code } }
  d: createDataset(input: {name: ""}) { ... on InvalidInput { issues { path message } } }
}"""
EVENTS = """subscription($id: ID!) { jobEvents(id: $id) { ...E job { id status owner { username } events(first: 2) { edges { node { sequence cursor } } } } } }
fragment E on JobEvent { cursor sequence type createdAt data }"""


def unplanned() -> float:
    """How many operations were executed without a plan, for whatever reason."""
    return sum(
        sample.value for metric in REGISTRY.collect() for sample in metric.samples if sample.name == "trellis_operations_unplanned_total"
    )


async def both_ways(ada: Client, query: str, variables: dict[str, Any]) -> list[str]:
    """The two responses, each to the same mutation of rows that do not exist yet; names of the second are those of the first."""
    planned = (await ada.http.post("/graphql", json={"query": query, "variables": variables})).text
    with planning_off():
        renamed = {key: {"name": f"{value['name']}'"} if isinstance(value, dict) else value for key, value in variables.items()}
        expected = (await ada.http.post("/graphql", json={"query": query, "variables": renamed})).text
    return [planned, expected.replace("'", "")]


async def test_selections_under_mutations_are_planned_and_each_reads_what_those_before_it_wrote(ada: Client) -> None:
    before = unplanned()
    names = {"first": {"name": "one"}, "second": {"name": "two"}, "taken": True}
    answer = await ada.post(CREATE, **names)
    assert unplanned() == before
    data = answer["data"]
    assert [data["a"]["dataset"]["owner"]["datasets"]["totalCount"], data["b"]["dataset"]["owner"]["datasets"]["totalCount"]] == [1, 2]
    assert [edge["node"]["name"] for edge in data["b"]["dataset"]["owner"]["datasets"]["edges"]] == ["two", "one"]
    assert data["c"] == {"__typename": "NameTaken", "name": "one", "code": "NAME_TAKEN"}
    assert data["d"]["issues"][0]["path"] == ["name"]
    planned, expected = await both_ways(
        ada,
        "mutation($d: CreateDatasetInput!) { createDataset(input: $d) { ... on CreateDatasetPayload {"
        " dataset { name owner { email } currentVersion { id } metadata source } } } }",
        {"d": {"name": "three"}},
    )
    assert planned == expected


async def test_a_mutation_without_the_right_to_write_fails_alike(reader: Client) -> None:
    query = 'mutation { a: createDataset(input: {name: "x"}) { __typename } b: createDataset(input: {name: "y"}) { __typename } }'
    planned = await reader.post(query)
    with planning_off():
        expected = await reader.post(query)
    for answer in (planned, expected):
        for error in answer["errors"]:
            del error["extensions"]["requestId"]
    assert planned == expected
    assert [error["extensions"]["code"] for error in planned["errors"]] == ["FORBIDDEN"], "the second was not tried"


async def test_the_events_of_a_subscription_are_planned(ada: Client, database: Database) -> None:
    await platform.fill(database, "ada", 1)
    job = (await ada.one("{ jobs(first: 1) { edges { node { id } } } }"))["edges"][0]["node"]["id"]
    before = unplanned()
    planned = [event async for event in ada.subscribe(EVENTS, id=job)]
    assert unplanned() == before
    with planning_off():
        expected = [event async for event in ada.subscribe(EVENTS, id=job)]
    assert planned == expected
    assert len(planned) == 3
    assert planned[0]["jobEvents"]["job"]["owner"] == {"username": "ada"}


async def test_events_of_leaves_alone_are_written_as_they_would_be_executed(ada: Client, database: Database) -> None:
    await platform.fill(database, "ada", 1)
    job = (await ada.one("{ jobs(first: 1) { edges { node { id } } } }"))["edges"][0]["node"]["id"]
    leaves = "subscription($id: ID!) { e: jobEvents(id: $id) { __typename again: cursor cursor sequence type createdAt data message step progress } }"
    written = [event async for event in ada.subscribe(leaves, id=job)]
    with planning_off():
        executed = [event async for event in ada.subscribe(f"{leaves} # another document", id=job)]
    assert written == executed
    assert [list(event["e"])[:3] for event in written] == [["__typename", "again", "cursor"]] * 3


async def test_introspection_is_executed_field_by_field_and_counted(ada: Client) -> None:
    reason = {"reason": "introspection"}
    before = REGISTRY.get_sample_value("trellis_operations_unplanned_total", reason) or 0
    assert (await ada.execute("{ __schema { queryType { name } } viewer { username } }"))["viewer"] == {"username": "ada"}
    assert REGISTRY.get_sample_value("trellis_operations_unplanned_total", reason) == before + 1


@pytest.mark.unplanned("condition")
async def test_a_condition_that_is_null_has_the_error_of_graphql_core_and_is_counted(ada: Client) -> None:
    reason = {"reason": "condition"}
    before = REGISTRY.get_sample_value("trellis_operations_unplanned_total", reason) or 0
    answer = await ada.post("query($is: Boolean = true) { viewer { username @skip(if: $is) } }", **{"is": None})
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["BAD_USER_INPUT"]
    assert REGISTRY.get_sample_value("trellis_operations_unplanned_total", reason) == before + 1
