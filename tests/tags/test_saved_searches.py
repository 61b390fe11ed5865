"""A filter and an order of a list are saved under a name, if the list takes them."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from db.core.work import Database
from tests.client import Client

PROBLEM = "... on Problem { code message } ... on InvalidInput { issues { path message } }"
SEARCH = "name target filter orderBy isPinned usageCount lastUsedAt issues { path message }"
SAVE = f"mutation($input: SaveSearchInput!) {{ saveSearch(input: $input) {{ ... on SaveSearchPayload {{ savedSearch {{ id {SEARCH} }} }} {PROBLEM} }} }}"
UPDATE = f"""mutation($input: UpdateSavedSearchInput!) {{ updateSavedSearch(input: $input) {{
  ... on UpdateSavedSearchPayload {{ savedSearch {{ {SEARCH} }} }} {PROBLEM} }} }}"""
USE = "mutation($id: ID!) { useSavedSearch(input: {id: $id}) { ... on UseSavedSearchPayload { savedSearch { usageCount lastUsedAt } } ... on Problem { code } } }"
DELETE = (
    "mutation($id: ID!) { deleteSavedSearch(input: {id: $id}) { ... on DeleteSavedSearchPayload { deletedId } ... on Problem { code } } }"
)
NAMES = "{ savedSearches { name } }"
FAILED: dict[str, Any] = {"name": "failed", "target": "RUN", "filter": {"status": ["FAILED"], "metrics": [{"key": "loss", "lte": 0.5}]}}


async def test_a_search_is_saved_used_and_run_as_it_stands(ada: Client, bob: Client) -> None:
    saved = (await ada.one(SAVE, input={**FAILED, "orderBy": {"by": {"metric": "loss"}, "direction": "ASC"}}))["savedSearch"]
    unused = {"isPinned": False, "usageCount": 0, "lastUsedAt": None, "issues": []}
    assert saved == {"id": saved["id"], **FAILED, "orderBy": {"by": {"metric": "loss"}, "direction": "ASC"}, **unused}
    query = "query($f: RunFilter, $o: RunOrder) { runs(filter: $f, orderBy: $o) { totalCount } }"
    assert await ada.one(query, f=saved["filter"], o=saved["orderBy"]) == {"totalCount": 0}
    await ada.one(SAVE, input={"name": "all", "target": "MODEL"})
    await ada.one(SAVE, input={"name": "pinned", "target": "DATASET", "isPinned": True})
    used = (await ada.one(USE, id=saved["id"]))["savedSearch"]
    assert (used["usageCount"], used["lastUsedAt"] is not None) == (1, True)
    assert [search["name"] for search in await ada.one(NAMES)] == ["pinned", "failed", "all"]
    assert (await ada.one(SAVE, input={**FAILED, "name": "Failed"}))["code"] == "NAME_TAKEN"
    assert await bob.one(NAMES) == []
    for mutation in (USE, DELETE):
        assert await bob.one(mutation, id=saved["id"]) == {"code": "NOT_FOUND"}
    assert (await bob.one(UPDATE, input={"id": saved["id"], "name": "mine"}))["code"] == "NOT_FOUND"
    changed = (await ada.one(UPDATE, input={"id": saved["id"], "filter": None, "orderBy": None, "isPinned": True}))["savedSearch"]
    assert (changed["filter"], changed["orderBy"], changed["isPinned"], changed["usageCount"]) == ({}, None, True, 1)
    assert await ada.one(DELETE, id=saved["id"]) == {"deletedId": saved["id"]}
    assert [search["name"] for search in await ada.one(NAMES)] == ["pinned", "all"]


@pytest.mark.parametrize(
    ("target", "documents", "paths"),
    [
        ("RUN", {"filter": {"state": "FAILED"}}, [["filter"]]),
        ("RUN", {"filter": {"status": ["LOST"]}}, [["filter", "status", "0"]]),
        (
            "DATASET",
            {"filter": {"createdAt": {"gte": "yesterday"}}, "orderBy": {"field": "SIZE"}},
            [["filter", "createdAt", "gte"], ["orderBy", "field"]],
        ),
        ("RUN", {"orderBy": {"by": {"metric": "a", "field": "NUMBER"}}}, [["orderBy"]]),
        ("RUN", {"filter": {"metrics": [{"key": "m"}] * 21}}, [["filter"]]),
        ("MODEL", {"filter": {"name": {"in": ["a"] * 101}}}, [["filter", "name", "in"]]),
        ("MODEL", {"filter": [1]}, [["filter"]]),
        ("MODEL", {"orderBy": "name"}, [["orderBy"]]),
    ],
)
async def test_what_the_list_does_not_take_is_not_saved(
    ada: Client, target: str, documents: dict[str, Any], paths: list[list[str]]
) -> None:
    answer = await ada.one(SAVE, input={"name": "s", "target": target, **documents})
    assert [issue["path"] for issue in answer["issues"]] == paths, answer
    assert await ada.one(NAMES) == []


async def test_a_filter_of_an_earlier_release_is_told_and_harms_nothing(ada: Client, database: Database) -> None:
    saved = (await ada.one(SAVE, input=FAILED))["savedSearch"]
    async with database.engine.begin() as connection:
        await connection.execute(text("UPDATE saved_searches SET filter = filter || '{\"gone\": 1}'"))
    (listed,) = await ada.one(f"{{ savedSearches {{ {SEARCH} }} }}")
    assert listed["filter"] == {**FAILED["filter"], "gone": 1}
    assert [(issue["path"], "unknown field 'gone'" in issue["message"]) for issue in listed["issues"]] == [(["filter"], True)]
    repaired = (await ada.one(UPDATE, input={"id": saved["id"], "filter": FAILED["filter"]}))["savedSearch"]
    assert repaired["issues"] == []
