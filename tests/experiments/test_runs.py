"""Runs are sorted, filtered, compared and plotted by their metrics."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from sqlalchemy import text

from db.core.work import Database
from tests.client import Client, GraphQLErrors
from tests.factories import platform

RUNS = """query($filter: RunFilter, $orderBy: RunOrder, $first: Int, $after: String) {
  runs(filter: $filter, orderBy: $orderBy, first: $first, after: $after) { totalCount pageInfo { endCursor hasNextPage } edges { node { id hyperparameters } } } }"""
BY_ACCURACY = {"by": {"metric": "accuracy"}, "direction": "DESC"}


@pytest.fixture
async def runs(ada: Client, database: Database) -> dict[int, str]:
    """Ids of six runs by alpha, which is 1 to 6; the accuracy of all but the last is alpha / 10."""
    await platform.fill(database, "ada", 6)
    async with database.engine.begin() as connection:
        await connection.execute(
            text("UPDATE run_metrics m SET last = (r.hyperparameters ->> 'alpha')::float / 10 FROM runs r WHERE r.id = m.run_id")
        )
        await connection.execute(
            text("DELETE FROM run_metrics m USING runs r WHERE r.id = m.run_id AND r.hyperparameters @> '{\"alpha\": 6}'")
        )
    page = await ada.one(RUNS)
    return {edge["node"]["hyperparameters"]["alpha"]: edge["node"]["id"] for edge in page["edges"]}


def alphas(page: dict[str, Any]) -> list[int]:
    return [edge["node"]["hyperparameters"]["alpha"] for edge in page["edges"]]


async def test_runs_sort_by_a_metric_and_those_without_it_come_last(ada: Client, runs: dict[int, str]) -> None:
    assert alphas(await ada.one(RUNS, orderBy=BY_ACCURACY)) == [5, 4, 3, 2, 1, 6]
    assert alphas(await ada.one(RUNS, orderBy={**BY_ACCURACY, "direction": "ASC"})) == [1, 2, 3, 4, 5, 6]
    sorted_alphas: list[int] = []
    page: dict[str, Any] = {}
    after = None
    for _ in range(3):
        page = await ada.one(RUNS, orderBy=BY_ACCURACY, first=2, after=after)
        sorted_alphas += alphas(page)
        after = page["pageInfo"]["endCursor"]
    assert (sorted_alphas, page["pageInfo"]["hasNextPage"]) == ([5, 4, 3, 2, 1, 6], False)


async def test_runs_are_filtered_by_metric_and_parameter(ada: Client, runs: dict[int, str]) -> None:
    for criteria, expected in [
        ({"metrics": [{"key": "accuracy", "gte": 0.3}]}, [5, 4, 3]),
        ({"metrics": [{"key": "accuracy", "gte": 0.2, "lte": 0.3}]}, [3, 2]),
        ({"parameters": [{"key": "alpha", "eq": 6}]}, [6]),
        ({"parameters": [{"key": "alpha", "in": [1, 6]}]}, [1, 6]),
        ({"parameters": [{"key": "beta", "eq": 1}]}, []),
        ({"status": ["FAILED"]}, []),
    ]:
        page = await ada.one(RUNS, filter=criteria, orderBy=BY_ACCURACY)
        assert (alphas(page), page["totalCount"]) == (expected, len(expected)), criteria


async def test_the_best_run_of_an_experiment_is_by_goal(ada: Client, runs: dict[int, str]) -> None:
    query = """query($id: ID!) { run(id: $id) { experiment { best: bestRun(metric: "accuracy") { id } least: bestRun(metric: "accuracy", goal: MINIMIZE) { id }
        none: bestRun(metric: "nothing") { id } } } }"""
    assert (await ada.one(query, id=runs[3]))["experiment"] == {"best": {"id": runs[3]}, "least": {"id": runs[3]}, "none": None}


async def test_runs_are_compared_side_by_side(ada: Client, runs: dict[int, str]) -> None:
    query = """query($ids: [ID!]!, $only: Boolean!) { compareRuns(ids: $ids, onlyDifferences: $only) { runs { id } parameters { key values differs }
        metrics { key values differs minIndex maxIndex } } }"""
    run_ids = [runs[2], runs[5], runs[6]]
    compared = await ada.one(query, ids=run_ids, only=False)
    assert [run["id"] for run in compared["runs"]] == run_ids
    assert compared["parameters"] == [{"key": "alpha", "values": [2, 5, 6], "differs": True}]
    assert compared["metrics"] == [{"key": "accuracy", "values": [0.2, 0.5, None], "differs": True, "minIndex": 0, "maxIndex": 1}]
    same = await ada.one(query, ids=[runs[2], runs[2]], only=True)
    assert (same["parameters"], same["metrics"]) == ([], [])
    assert await ada.one(query, ids=[runs[2], "run_" + "0" * 32], only=False) is None
    with pytest.raises(GraphQLErrors) as refused:
        await ada.one(query, ids=[runs[1]] * 21, only=False)
    assert refused.value.codes == ["BAD_USER_INPUT"]


async def test_a_long_history_is_thinned_and_keeps_its_extremes(ada: Client, database: Database, runs: dict[int, str]) -> None:
    async with database.engine.begin() as connection:
        await connection.execute(text("DELETE FROM metric_points"))
        await connection.execute(
            text(
                "INSERT INTO metric_points (run_id, key, step, value, batch)"
                " SELECT r.id, 'loss', s, CASE s WHEN 1234 THEN 99 WHEN 4321 THEN -99 WHEN 777 THEN 'NaN'::float ELSE sin(s / 50.0) END, 2"
                " FROM runs r, generate_series(0, 9999) s WHERE r.hyperparameters @> '{\"alpha\": 1}'"
            )
        )
    query = "query($id: ID!, $n: Int!) { run(id: $id) { metricHistory(maxPoints: $n) { key totalPoints points { step value } } } }"
    (series,) = (await ada.one(query, id=runs[1], n=200))["metricHistory"]
    steps = [point["step"] for point in series["points"]]
    values = {point["step"]: point["value"] for point in series["points"]}
    assert series["totalPoints"] == 10_000
    assert 100 <= len(steps) <= 200
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1], values[1234], values[4321]) == (0, 9999, 99, -99)
    assert all(math.isclose(values[step], math.sin(step / 50), abs_tol=1e-9) for step in steps if step not in {1234, 4321, 777})
    assert (await ada.one(query, id=runs[1], n=200))["metricHistory"] == [series]
    (full_series,) = (await ada.one(query, id=runs[1], n=10_000))["metricHistory"]
    assert [point["step"] for point in full_series["points"]] == list(range(10_000))
    assert full_series["points"][777]["value"] is None


async def test_lineage_is_walked_both_ways_and_cut_where_asked(ada: Client, bob: Client, runs: dict[int, str]) -> None:
    query = """query($id: ID!, $direction: LineageDirection!, $depth: Int!, $max: Int!) {
        lineage(id: $id, direction: $direction, depth: $depth, maxNodes: $max) { isPartial
          nodes { nodeId kind label status aliases depth node { id } } edges { source target relation } } }"""
    version = (await ada.one("query($id: ID!) { run(id: $id) { modelVersion { id } } }", id=runs[1]))["modelVersion"]["id"]
    up = await ada.one(query, id=version, direction="UPSTREAM", depth=5, max=200)
    assert {node["kind"] for node in up["nodes"]} == {"DATASET_VERSION", "PIPELINE_SNAPSHOT", "JOB", "RUN", "MODEL_VERSION"}
    assert len(up["nodes"]) == 5
    assert up["isPartial"] is False
    assert all(node["node"]["id"] == node["nodeId"] for node in up["nodes"])
    assert next(node for node in up["nodes"] if node["nodeId"] == version)["aliases"] == ["production"]
    ids = {node["nodeId"] for node in up["nodes"]}
    assert all({edge["source"], edge["target"]} <= ids for edge in up["edges"])
    data = next(node["nodeId"] for node in up["nodes"] if node["kind"] == "DATASET_VERSION")
    down = await ada.one(query, id=data, direction="DOWNSTREAM", depth=5, max=200)
    assert version in {node["nodeId"] for node in down["nodes"]}
    assert (await ada.one(query, id=data, direction="UPSTREAM", depth=5, max=200))["nodes"][0]["nodeId"] == data
    cut = await ada.one(query, id=version, direction="UPSTREAM", depth=5, max=2)
    assert (len(cut["nodes"]), cut["isPartial"]) == (2, True)
    shallow = await ada.one(query, id=version, direction="UPSTREAM", depth=1, max=200)
    assert {node["depth"] for node in shallow["nodes"]} == {0, 1}
    assert await bob.one(query, id=version, direction="BOTH", depth=5, max=200) is None


async def test_lineage_is_one_statement_however_far_it_goes(
    ada: Client, runs: dict[int, str], capture_statements: Callable[[], AbstractContextManager[list[str]]]
) -> None:
    version = (await ada.one("query($id: ID!) { run(id: $id) { modelVersion { id } } }", id=runs[1]))["modelVersion"]["id"]
    query = (
        "query($id: ID!) { lineage(id: $id) { isPartial nodes { nodeId label status aliases depth } edges { source target relation } } }"
    )
    with capture_statements() as sent:
        lineage = await ada.one(query, id=version)
    assert len(lineage["nodes"]) > 4
    with capture_statements() as signing_in:
        await ada.one("{ __typename }")
    assert len(sent) - len(signing_in) == 1
    assert "WITH RECURSIVE" in sent[-1]
