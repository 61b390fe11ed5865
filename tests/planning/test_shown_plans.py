"""`extensions.plan` shows how an operation was executed: on request, to those who may know it."""

from __future__ import annotations

from typing import Any

import pytest

from db.core.work import Database
from server.graphql import PLAN_HEADER
from server.settings import ServerSettings
from tests.client import Client
from tests.factories import platform
from tests.server.test_operation_logs import app_client

NESTED = """{ datasets(first: 5) { totalCount edges { node { name owner { username } again: owner { username }
  versions(first: 2) { edges { node { number dataset { name } } } } currentVersion { number } first: version(number: 1) { number } } } } }"""


async def ask(client: Client, query: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    answer = await client.http.post("/graphql", json={"query": query}, headers={PLAN_HEADER: "1"} if headers is None else headers)
    return answer.json()


def step(steps: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(entry for entry in steps if entry["name"] == name)


async def test_a_plan_shows_its_steps_with_their_statements_rows_and_times(ada: Client, admin: Client, database: Database) -> None:
    await platform.fill(database, "ada", 3)
    answer = await ask(admin, NESTED)
    plan = answer["extensions"]["plan"]
    (page,) = plan["steps"]
    datasets = [edge["node"] for edge in answer["data"]["datasets"]["edges"]]
    assert (page["name"], page["edge"], page["reads"], page["objects"]) == ("datasets", "Query.datasets", "a page and the count", 1)
    assert (page["statements"], page["rows"]) == (2, len(datasets) + 1)
    assert {entry["name"] for entry in page["steps"]} == {"owner", "again", "versions", "currentVersion", "first"}
    owner, versions = step(page["steps"], "owner"), step(page["steps"], "versions")
    assert (owner["edge"], owner["reads"], owner["objects"], owner["steps"]) == (
        "Dataset.owner",
        "a row by User.id",
        len(datasets),
        [],
    )
    assert step(page["steps"], "again")["edge"] == "Dataset.owner"
    assert step(page["steps"], "first")["reads"] == "resolver"
    assert versions["reads"] == "a page by DatasetVersion.dataset_id"
    assert versions["rows"] == sum(len(node["versions"]["edges"]) for node in datasets)
    assert [(inner["name"], inner["objects"], inner["reads"], inner["statements"]) for inner in versions["steps"]] == [
        ("dataset", versions["rows"], "a row by Dataset.id, in the statement above", 0)
    ]

    def all_of(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [inner for entry in steps for inner in (entry, *all_of(entry["steps"]))]

    steps = all_of(plan["steps"])
    for figure in ("statements", "rows"):
        assert plan[figure] == sum(entry[figure] for entry in steps)
    for entry in steps:
        if entry["reads"].endswith("in the statement above"):
            assert entry["milliseconds"] == entry["ownMilliseconds"] == 0
            continue
        assert entry["milliseconds"] >= entry["ownMilliseconds"] > 0
        assert (entry["databaseMilliseconds"] > 0) == (entry["statements"] > 0)
    assert plan["milliseconds"] >= page["milliseconds"]
    assert plan["milliseconds"] >= sum(entry["ownMilliseconds"] for entry in steps) > 0


async def test_a_mutation_shows_its_own_statements_and_those_of_what_is_selected_under_it(admin: Client) -> None:
    mutation = 'mutation { createDataset(input: {name: "%s"}) { ... on CreateDatasetPayload { dataset { name owner { username } } } } }'
    plan = (await ask(admin, mutation % "wine"))["extensions"]["plan"]
    (created,) = plan["steps"]
    assert (created["edge"], created["reads"]) == ("Mutation.createDataset", "resolver")
    assert created["statements"] >= 1
    (payload,) = created["steps"]
    assert (payload["statements"], payload["rows"]) == (1, 1)
    assert [(inner["edge"], inner["reads"]) for inner in payload["steps"]] == [
        ("Dataset.owner", "a row by User.id, in the statement above")
    ]


async def test_an_operation_without_a_plan_shows_the_reason(admin: Client) -> None:
    answer = await ask(admin, "{ __schema { queryType { name } } viewer { username } }")
    plan = answer["extensions"]["plan"]
    assert (plan["unplanned"], plan["steps"]) == ("introspection", [])
    assert plan["milliseconds"] >= plan["ownMilliseconds"] > 0


@pytest.mark.parametrize("query", [NESTED, "{ __typename }", "{ nothing }"])
async def test_a_plan_is_not_shown_to_those_who_may_not_know_it_nor_without_the_request(
    ada: Client, anonymous: Client, admin: Client, query: str
) -> None:
    for client, headers in ((ada, None), (anonymous, None), (admin, {})):
        assert "plan" not in (await ask(client, query, headers)).get("extensions", {})


async def test_a_setting_shows_plans_to_everybody(ada: Client) -> None:
    assert ada.token is not None
    async with app_client(ada.token, ServerSettings(show_plans=True)) as http:
        for headers, has_plan in (({PLAN_HEADER: "1"}, True), ({}, False)):
            answer = await http.post("/graphql", json={"query": "{ viewer { username } }"}, headers=headers)
            assert ("plan" in answer.json().get("extensions", {})) is has_plan


async def test_an_error_is_the_same_with_its_plan_shown(admin: Client) -> None:
    query = "{ a: datasets(first: -1) { totalCount } viewer { username } }"
    with_plan, without = await ask(admin, query), await ask(admin, query, {})
    plan = with_plan.pop("extensions")["plan"]
    assert [entry["name"] for entry in plan["steps"]] == ["a", "viewer"]
    for answer in (with_plan, without):
        del answer["errors"][0]["extensions"]["requestId"]
    assert with_plan == without
