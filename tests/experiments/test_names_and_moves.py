"""Experiments, runs and models have names and notes that can be changed, and runs move between experiments."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from db.core.work import Database
from tests.client import Client
from tests.factories import platform

PROBLEM = "... on Problem { code message } ... on InvalidInput { issues { path } }"
MOVE = f"""mutation($input: MoveRunsInput!) {{ moveRuns(input: $input) {{
  ... on MoveRunsPayload {{ runs {{ id number experiment {{ id }} }} experiment {{ id runs {{ totalCount }} }} }} {PROBLEM} }} }}"""
EXPERIMENTS = """{ experiments(orderBy: {field: NAME, direction: ASC}) { edges { node { id
  runs(orderBy: {by: {metric: "accuracy"}}) { edges { node { id number } } } bestRun(metric: "accuracy") { id } } } } }"""
CREATE = "mutation($name: String!) { createExperiment(input: {name: $name}) { ... on CreateExperimentPayload { experiment { id } } } }"
METRICS = "SELECT count(*) FROM run_metrics m JOIN runs r ON r.id = m.run_id WHERE r.experiment_id <> m.experiment_id"


async def experiments(client: Client) -> list[dict[str, Any]]:
    """Ids, runs by accuracy with their numbers, and the best run of each experiment."""
    page = await client.one(EXPERIMENTS)
    return [
        {
            "id": node["id"],
            "runs": {e["node"]["id"]: e["node"]["number"] for e in node["runs"]["edges"]},
            "best": node["bestRun"] and node["bestRun"]["id"],
        }
        for node in (edge["node"] for edge in page["edges"])
    ]


async def test_runs_move_with_their_metrics_and_get_the_next_numbers(ada: Client, database: Database) -> None:
    await platform.fill(database, "ada", 3)
    first, second, third = await experiments(ada)
    (one,), (two,), (three,) = (list(each["runs"]) for each in (first, second, third))
    moved = await ada.one(MOVE, input={"ids": [three, one, two, three], "experimentId": second["id"]})
    assert moved["runs"] == [
        {"id": id_, "number": number, "experiment": {"id": second["id"]}} for id_, number in ((three, 2), (one, 3), (two, 1))
    ]
    assert moved["experiment"] == {"id": second["id"], "runs": {"totalCount": 3}}
    now = await experiments(ada)
    assert [each["runs"] for each in now] == [{}, {one: 3, two: 1, three: 2}, {}]
    assert [each["best"] is None for each in now] == [True, False, True]
    assert (await database.rows(text(METRICS)))[0][0] == 0
    back = await ada.one(MOVE, input={"ids": [one], "experimentId": first["id"]})
    assert back["runs"] == [{"id": one, "number": 2, "experiment": {"id": first["id"]}}], "numbers are never given twice"
    traced = await ada.one("query($id: ID!) { lineage(id: $id, direction: UPSTREAM, depth: 1) { nodes { node { id } } } }", id=one)
    ids = {node["node"]["id"] for node in traced["nodes"]}
    assert second["id"] not in ids


async def test_all_of_the_runs_move_or_none_does(ada: Client, bob: Client, database: Database) -> None:
    for name in ("ada", "bob"):
        await platform.fill(database, name, 2)
    before = await experiments(ada)
    (one,), (two,) = (list(each["runs"]) for each in before)
    other = (await experiments(bob))[0]
    (strange,) = other["runs"]
    for input_, code in (
        ({"ids": [one, strange], "experimentId": before[1]["id"]}, "NOT_FOUND"),
        ({"ids": [one, two], "experimentId": other["id"]}, "NOT_FOUND"),
        ({"ids": [], "experimentId": before[1]["id"]}, "INVALID_INPUT"),
        ({"ids": [one], "experimentId": one}, "NOT_FOUND"),
    ):
        assert (await ada.one(MOVE, input=input_))["code"] == code, input_
    assert await experiments(ada) == before
    assert await experiments(bob) == await experiments(bob)
    async with database.engine.begin() as connection:
        await connection.execute(
            text("UPDATE experiments SET deleted_at = now() WHERE id = CAST(:id AS uuid)"), {"id": before[1]["id"][11:]}
        )
    for input_ in ({"ids": [one], "experimentId": before[1]["id"]}, {"ids": [two], "experimentId": before[0]["id"]}):
        assert (await ada.one(MOVE, input=input_))["code"] == "NOT_FOUND"


async def test_an_admin_moves_no_run_to_another_account(admin: Client, ada: Client, bob: Client, database: Database) -> None:
    for name in ("ada", "bob"):
        await platform.fill(database, name, 1)
    (of_ada,), (of_bob,) = await experiments(ada), await experiments(bob)
    (run,) = of_ada["runs"]
    assert (await admin.one(MOVE, input={"ids": [run], "experimentId": of_bob["id"]}))["issues"] == [{"path": ["ids", "0"]}]


@pytest.mark.parametrize(
    ("kind", "selected", "changes"),
    [
        ("Experiment", "name description notes", {"name": "new name", "description": "why", "notes": "# so"}),
        ("Run", "name notes", {"name": "warm start", "notes": "# so"}),
        ("Model", "name description", {"name": "new name", "description": "why"}),
        ("ModelVersion", "label description", {"label": "candidate", "description": "why"}),
    ],
)
async def test_names_and_notes_change_and_nothing_else(
    ada: Client, bob: Client, database: Database, kind: str, selected: str, changes: dict[str, str]
) -> None:
    await platform.fill(database, "ada", 1)
    field = kind[0].lower() + kind[1:]
    lists = {"Experiment": "experiments", "Run": "runs", "Model": "models"}
    inner = "latestVersion { id }" if kind == "ModelVersion" else "id"
    (edge,) = (await ada.one(f"{{ {lists.get(kind, 'models')} {{ edges {{ node {{ {inner} }} }} }} }}"))["edges"]
    id_ = edge["node"]["id"] if kind != "ModelVersion" else edge["node"]["latestVersion"]["id"]
    update = f"mutation($input: Update{kind}Input!) {{ update{kind}(input: $input) {{ ... on Update{kind}Payload {{ {field} {{ {selected} }} }} {PROBLEM} }} }}"
    assert (await bob.one(update, input={"id": id_, **changes}))["code"] == "NOT_FOUND"
    assert await ada.one(update, input={"id": id_, **changes}) == {field: changes}
    name, note = selected.split(maxsplit=1)[0], selected.rsplit(maxsplit=1)[-1]
    assert await ada.one(update, input={"id": id_, note: None}) == {field: {**changes, note: None}}
    assert (await ada.one(update, input={"id": id_, name: "a\nb"}))["issues"] == [{"path": [name]}]
    cleared = await ada.one(update, input={"id": id_, name: None})
    if kind in {"Run", "ModelVersion"}:
        assert cleared == {field: {**changes, note: None, name: None}}
    else:
        assert cleared["issues"] == [{"path": [name]}]
    events = await ada.one("{ auditEvents(first: 3) { edges { node { action before } } } }")
    assert events["edges"][-1]["node"]["action"].startswith("update_")
