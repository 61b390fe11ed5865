"""Two versions are compared by their columns and by the distributions in their profiles; two snapshots by their nodes."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from sqlalchemy import text

from db.core.drift import column_drift, distance
from db.core.work import Database
from tests.client import Client
from tests.factories import platform

VERSIONS = """query($from: ID!, $to: ID!) { compareVersions(from: $from, to: $to) { from { id } to { id } addedRows isSchemaEqual
  columns { name change fromType toType drift fromMissingRatio toMissingRatio } } }"""
SNAPSHOTS = """query($from: ID!, $to: ID!) { compareSnapshots(from: $from, to: $to) { from { id } to { id } isIdentical
  nodes { key change fromStepKey toStepKey parameters { name from to } } addedLinks { source target } removedLinks { source target } } }"""


def report(values: dict[Any, int], missing: int = 0, histogram: list[tuple[float, float, int]] | None = None) -> dict[str, Any]:
    return {
        "missing_count": missing,
        "top_values": [{"value": value, "count": count} for value, count in values.items()],
        "histogram": [{"lower": lower, "upper": upper, "count": count} for lower, upper, count in histogram or ()],
    }


@pytest.mark.parametrize(
    ("before", "after", "rows", "expected"),
    [
        (report({"a": 5, "b": 5}), report({"a": 50, "b": 50}), (10, 100), 0.0),
        (report({"a": 5}), report({"b": 5}), (5, 5), 1.0),
        (report({"a": 1, "b": 1}), report({"a": 2}), (2, 2), 0.5579230452841438),
        (report({"a": 2}, missing=3), report({"a": 1}, missing=0), (5, 1), 0.0),
        (report({}, missing=3), report({"a": 1}), (3, 1), None),
        (report({}, histogram=[(0, 1, 5), (1, 2, 5)]), report({}, histogram=[(0, 2, 100)]), (10, 100), 0.0),
        (report({}, histogram=[(0, 1, 10)]), report({}, histogram=[(5, 9, 10)]), (10, 10), 1.0),
        (report({}, histogram=[(0, 2, 10)]), report({}, histogram=[(1, 3, 10)]), (10, 10), 0.7071067811865476),
        (report({}, histogram=[(-1.7e308, 1.7e308, 10)]), report({}, histogram=[(1, 1, 10)]), (10, 10), 1.0),
        (report({"a": 5}), report({"a": 5, "b": 1}), (10, 10), 0.0),
        (report({}), report({}), (10, 10), None),
    ],
)
def test_drift_is_the_distance_of_the_distributions(
    before: dict[str, Any], after: dict[str, Any], rows: tuple[int, int], expected: float | None
) -> None:
    for one, other, counts in ((before, after, rows), (after, before, (rows[1], rows[0]))):
        drift = column_drift(one, other, counts)
        assert drift == (None if expected is None else pytest.approx(expected, abs=1e-9))


def test_the_distance_of_half_of_the_mass_is_known() -> None:
    assert distance({"a": 1.0}, {"a": 0.5, "b": 0.5}) == pytest.approx(0.5579230452841438)


async def test_versions_are_compared_by_columns_and_distributions(ada: Client, bob: Client, database: Database) -> None:
    await platform.fill(database, "ada", 2)
    page = await ada.one("{ datasets { edges { node { currentVersion { id } } } } }")
    second, first = (edge["node"]["currentVersion"]["id"] for edge in page["edges"])
    columns = [{"name": "x", "type": "float", "nullable": False}, {"name": "new", "type": "string", "nullable": True}]
    profiled = {"columns": [{"name": "x", "type": "integer", **report({1: 3}, missing=1)}], "correlations": {}}
    same = {**profiled, "columns": [{**profiled["columns"][0], "name": "x"}]}
    async with database.engine.begin() as connection:
        key = {"id": second.removeprefix("version_")}
        await connection.execute(
            text("UPDATE dataset_profiles SET row_count = 4, report = CAST(:report AS jsonb) WHERE version_id = CAST(:id AS uuid)"),
            {**key, "report": orjson.dumps(same).decode()},
        )
        await connection.execute(text("UPDATE dataset_versions SET row_count = 4 WHERE id = CAST(:id AS uuid)"), key)
    x = {"name": "x", "fromType": "INTEGER", "toType": "INTEGER"}
    # The first profile tells {1: 1} of two values, so 2 is among the others.
    drift = distance({1: 0.5, "others": 0.5}, {1: 1.0})
    expected = {
        "from": {"id": first}, "to": {"id": second}, "addedRows": 2, "isSchemaEqual": True,
        "columns": [{**x, "change": "KEPT", "drift": pytest.approx(drift), "fromMissingRatio": 0.0, "toMissingRatio": 0.25}],
    }  # fmt: skip
    assert await ada.one(VERSIONS, **{"from": first, "to": second}) == expected
    async with database.engine.begin() as connection:
        await connection.execute(
            text("UPDATE dataset_versions SET columns = CAST(:columns AS jsonb) WHERE id = CAST(:id AS uuid)"),
            {**key, "columns": orjson.dumps(columns).decode()},
        )
    changed = await ada.one(VERSIONS, **{"from": first, "to": second})
    assert [(column["name"], column["change"], column["toType"], column["drift"]) for column in changed["columns"]] == [
        ("x", "TYPE_CHANGED", "FLOAT", None),
        ("new", "ADDED", "STRING", None),
    ]
    assert changed["isSchemaEqual"] is False
    back = await ada.one(VERSIONS, **{"from": second, "to": first})
    assert [(column["name"], column["change"]) for column in back["columns"]] == [("x", "TYPE_CHANGED"), ("new", "REMOVED")]
    for client, other in ((bob, second), (ada, f"version_{'0' * 32}"), (ada, "job_1")):
        assert await client.one(VERSIONS, **{"from": first, "to": other}) is None


async def test_snapshots_are_compared_by_nodes_parameters_and_links(ada: Client, bob: Client, database: Database) -> None:
    await platform.fill(database, "ada", 2)
    definitions: list[dict[str, Any]] = [
        {
            "nodes": [
                {"key": "data", "step": "dataset", "parameters": {}},
                {"key": "split", "step": "random_split", "parameters": {}},
                {"key": "train", "step": "train_ridge", "parameters": {"target": "y", "alpha": 1.0}},
            ],
            "links": [{"source": "data", "target": "split"}, {"source": "split", "target": "train"}],
        },
        {
            "nodes": [
                {"key": "train", "step": "train_ridge", "parameters": {"target": "y", "alpha": 2.0, "other": None}},
                {"key": "data", "step": "dataset", "parameters": {}},
                {"key": "scale", "step": "standard_scaler", "parameters": {"with_mean": True}},
            ],
            "links": [{"source": "data", "target": "scale"}, {"source": "scale", "target": "train"}],
        },
    ]
    rows = await database.rows(text("SELECT id FROM pipeline_snapshots ORDER BY id LIMIT 2"))
    ids = [f"snapshot_{row.id.hex}" for row in rows]
    async with database.engine.begin() as connection:
        for row, definition in zip(rows, definitions, strict=True):
            await connection.execute(
                text("UPDATE pipeline_snapshots SET definition = CAST(:definition AS jsonb) WHERE id = :id"),
                {"id": row.id, "definition": orjson.dumps(definition).decode()},
            )
    compared = await ada.one(SNAPSHOTS, **{"from": ids[0], "to": ids[1]})
    assert compared == {
        "from": {"id": ids[0]}, "to": {"id": ids[1]}, "isIdentical": False,
        "nodes": [
            {"key": "scale", "change": "ADDED", "fromStepKey": None, "toStepKey": "standard_scaler",
             "parameters": [{"name": "with_mean", "from": None, "to": True}]},
            {"key": "split", "change": "REMOVED", "fromStepKey": "random_split", "toStepKey": None, "parameters": []},
            {"key": "train", "change": "CHANGED", "fromStepKey": "train_ridge", "toStepKey": "train_ridge",
             "parameters": [{"name": "alpha", "from": 1.0, "to": 2.0}, {"name": "other", "from": None, "to": None}]},
        ],
        "addedLinks": [{"source": "data", "target": "scale"}, {"source": "scale", "target": "train"}],
        "removedLinks": [{"source": "data", "target": "split"}, {"source": "split", "target": "train"}],
    }  # fmt: skip
    itself = await ada.one(SNAPSHOTS, **{"from": ids[0], "to": ids[0]})
    assert (itself["isIdentical"], itself["nodes"]) == (True, [])
    assert await bob.one(SNAPSHOTS, **{"from": ids[0], "to": ids[1]}) is None
