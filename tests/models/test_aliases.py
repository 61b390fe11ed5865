"""An alias points to one version and keeps the history of earlier ones."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from db.core.work import Database
from tests.client import Client
from tests.factories import platform

SET = """mutation($input: SetModelAliasInput!) { setModelAlias(input: $input) { __typename
  ... on SetModelAliasPayload { modelVersion { id isProduction aliases { name setBy { username } reason } } } ... on Problem { code } } }"""
MODEL = """query($id: ID!, $at: DateTime) { model(id: $id) { aliases { name version { number } reason } alias(name: "production", at: $at) { number }
  latestVersion { number } versions { edges { node { number isProduction } } } } }"""


@pytest.fixture
async def versions(ada: Client, database: Database) -> list[dict[str, Any]]:
    """The two versions of a model of Ada's, newest first; number 1 has the alias `production`."""
    await platform.fill(database, "ada", 1)
    async with database.engine.begin() as connection:
        await connection.execute(
            text("INSERT INTO model_versions (model_id, number, algorithm, framework) SELECT id, 2, 'Ridge', 'scikit-learn' FROM models")
        )
    page = await ada.one("{ models { edges { node { id versions { edges { node { id number } } } } } } }")
    model = page["edges"][0]["node"]
    return [{"model": model["id"], **edge["node"]} for edge in model["versions"]["edges"]]


async def test_an_alias_moves_and_its_history_stays(ada: Client, versions: list[dict[str, Any]]) -> None:
    second, first = versions
    assert (second["number"], first["number"]) == (2, 1)
    before = datetime.now(UTC).isoformat()
    moved = await ada.one(SET, input={"modelVersionId": second["id"], "name": "production", "reason": "better"})
    assert moved["modelVersion"] == {
        "id": second["id"],
        "isProduction": True,
        "aliases": [{"name": "production", "setBy": {"username": "ada"}, "reason": "better"}],
    }
    now = await ada.one(MODEL, id=second["model"], at=None)
    assert now["alias"] == {"number": 2}
    assert now["aliases"] == [{"name": "production", "version": {"number": 2}, "reason": "better"}]
    assert now["latestVersion"] == {"number": 2}
    assert [edge["node"]["isProduction"] for edge in now["versions"]["edges"]] == [True, False]
    assert (await ada.one(MODEL, id=second["model"], at=before))["alias"] == {"number": 1}
    assert (await ada.one(MODEL, id=second["model"], at="2000-01-01T00:00:00Z"))["alias"] is None


async def test_setting_an_alias_where_it_is_changes_nothing(ada: Client, database: Database, versions: list[dict[str, Any]]) -> None:
    before = await database.rows(text("SELECT * FROM model_alias_events ORDER BY id"))
    for _ in range(2):
        await ada.one(SET, input={"modelVersionId": versions[1]["id"], "name": "Production"})
    assert await database.rows(text("SELECT * FROM model_alias_events ORDER BY id")) == before


@pytest.mark.parametrize("name", ["", "v1", "7", "latest", "with space", "ä", "x" * 65])
async def test_a_name_that_is_no_alias_is_refused(ada: Client, versions: list[dict[str, Any]], name: str) -> None:
    assert await ada.one(SET, input={"modelVersionId": versions[0]["id"], "name": name}) == {
        "__typename": "InvalidInput",
        "code": "INVALID_INPUT",
    }


async def test_a_stranger_sets_no_alias(bob: Client, versions: list[dict[str, Any]]) -> None:
    assert (await bob.one(SET, input={"modelVersionId": versions[0]["id"], "name": "mine"}))["code"] == "NOT_FOUND"
    assert await bob.one("query($id: ID!) { model(id: $id) { id } }", id=versions[0]["model"]) is None


async def test_models_are_found_by_alias(ada: Client, versions: list[dict[str, Any]]) -> None:
    query = "query($alias: String) { models(filter: {alias: $alias}) { totalCount edges { node { id } } } }"
    assert await ada.one(query, alias="production") == {"totalCount": 1, "edges": [{"node": {"id": versions[0]["model"]}}]}
    assert await ada.one(query, alias="staging") == {"totalCount": 0, "edges": []}


REMOVE = """mutation($input: RemoveModelAliasInput!) { removeModelAlias(input: $input) { ... on RemoveModelAliasPayload { model { aliases { name } } }
  ... on Problem { code message } } }"""
HISTORY = """query($id: ID!, $at: DateTime!) { model(id: $id) { aliases { name } aliasesAt(at: $at) { name version { number } } alias(name: "production") { number }
  aliasHistory(first: 3) { totalCount edges { node { name version { number } previous { number } setBy { username } reason } } } } }"""


async def test_a_removed_alias_points_to_nothing_and_keeps_its_history(ada: Client, bob: Client, versions: list[dict[str, Any]]) -> None:
    model, second = versions[0]["model"], versions[0]["id"]
    await ada.one(SET, input={"modelVersionId": second, "name": "production", "reason": "better"})
    at = datetime.now(UTC).isoformat()
    assert (await bob.one(REMOVE, input={"modelId": model, "name": "production"}))["code"] == "NOT_FOUND"
    assert await ada.one(REMOVE, input={"modelId": model, "name": "PRODUCTION", "reason": "worse"}) == {"model": {"aliases": []}}
    again = await ada.one(REMOVE, input={"modelId": model, "name": "production"})
    assert (again["code"], again["message"].startswith("name: This model has no alias of this name.")) == ("INVALID_INPUT", True)
    history = await ada.one(HISTORY, id=model, at=at)
    by_ada = {"name": "production", "setBy": {"username": "ada"}}
    assert history["aliasHistory"] == {
        "totalCount": 4,
        "edges": [
            {"node": {**by_ada, "version": None, "previous": {"number": 2}, "reason": "worse"}},
            {"node": {**by_ada, "version": {"number": 2}, "previous": {"number": 1}, "reason": "better"}},
            {"node": {**by_ada, "version": {"number": 1}, "previous": {"number": 1}, "reason": "for people"}},
        ],
    }
    assert (history["aliases"], history["alias"]) == ([], None)
    assert history["aliasesAt"] == [{"name": "production", "version": {"number": 2}}]
    assert (await ada.one('{ models(filter: {alias: "production"}) { totalCount } }'))["totalCount"] == 0
    traced = await ada.one("query($id: ID!) { node(id: $id) { ... on ModelVersion { isProduction aliases { name } } } }", id=second)
    assert traced == {"isProduction": False, "aliases": []}
    await ada.one(SET, input={"modelVersionId": second, "name": "production"})
    back = await ada.one(HISTORY, id=model, at=datetime.now(UTC).isoformat())
    assert back["aliasHistory"]["edges"][0]["node"] == {**by_ada, "version": {"number": 2}, "previous": None, "reason": None}
    assert back["aliases"] == [{"name": "production"}]
