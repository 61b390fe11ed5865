"""Texts by key are kept with runs, experiments, models and versions, and runs are found by them."""

from __future__ import annotations

from typing import Any

import pytest

from db.core.work import Database
from tests.client import Client
from tests.factories import platform

KINDS = {"run": "runs", "experiment": "experiments", "model": "models", "modelVersion": "models"}


def update(kind: str) -> str:
    name = kind[0].upper() + kind[1:]
    return f"""mutation($input: Update{name}Input!) {{ update{name}(input: $input) {{
      ... on Update{name}Payload {{ {kind} {{ annotations }} }} ... on Problem {{ code }} ... on InvalidInput {{ issues {{ path message }} }} }} }}"""


async def thing_of(client: Client, kind: str) -> str:
    node = "id" if kind != "modelVersion" else "versions { edges { node { id } } }"
    found = (await client.one(f"{{ {KINDS[kind]}(first: 1) {{ edges {{ node {{ {node} }} }} }} }}"))["edges"][0]["node"]
    return found["id"] if kind != "modelVersion" else found["versions"]["edges"][0]["node"]["id"]


@pytest.mark.parametrize("kind", KINDS)
async def test_annotations_are_set_changed_and_removed_one_by_one(kind: str, ada: Client, bob: Client, database: Database) -> None:
    await platform.fill(database, "ada", 1)
    thing = await thing_of(ada, kind)

    async def changed(annotations: Any, client: Client = ada) -> Any:
        answer = await client.one(update(kind), input={"id": thing, "annotations": annotations})
        return answer[kind]["annotations"] if kind in answer else answer

    await changed(None)
    assert await changed({"stage": "draft", "a.b/ü": "x" * 8_000, "empty": ""}) == {"stage": "draft", "a.b/ü": "x" * 8_000, "empty": ""}
    assert await changed({"stage": "final", "a.b/ü": None, "unknown": None}) == {"stage": "final", "empty": ""}
    assert await changed({}) == {"stage": "final", "empty": ""}
    long = "k" * 251
    refused = await changed({"n": 1, long: "x", "stage": "x" * 8_001, "": "x"})
    assert (refused["code"], sorted(issue["path"] for issue in refused["issues"])) == (
        "INVALID_INPUT",
        sorted([["annotations", "n"], ["annotations", "k" * 250], ["annotations", "stage"], ["annotations", ""]]),
    )
    assert (await changed(["stage"]))["issues"][0]["path"] == ["annotations"]
    refused = await changed({f"key {number}": "x" for number in range(499)})
    assert refused["issues"][0]["message"] == "These would be 501 annotations; a thing has at most 500."
    assert await changed({"stage": "stolen"}, bob) == {"code": "NOT_FOUND"}
    assert await changed({}) == {"stage": "final", "empty": ""}
    assert await changed(None) == {}


async def test_runs_are_found_by_their_annotations(ada: Client, bob: Client, database: Database) -> None:
    await platform.fill(database, "ada", 3)
    query = "query($filter: RunFilter) { runs(filter: $filter) { totalCount edges { node { id } } } }"
    runs = [edge["node"]["id"] for edge in (await ada.one(query))["edges"]]
    for run, texts in zip(runs, ({"team's": "é"}, {"team's": "e"}, {"other": "é"}), strict=True):
        await ada.one(update("run"), input={"id": run, "annotations": None})
        await ada.one(update("run"), input={"id": run, "annotations": texts})

    async def found(*conditions: dict[str, str], client: Client = ada) -> list[str]:
        page = await client.one(query, filter={"annotations": list(conditions)})
        assert page["totalCount"] == len(page["edges"])
        return [edge["node"]["id"] for edge in page["edges"]]

    assert await found({"key": "team's"}) == runs[:2]
    assert await found({"key": "team's", "eq": "é"}) == runs[:1]
    assert await found({"key": "team's"}, {"key": "other"}) == []
    assert await found({"key": "other"}, client=bob) == []
