"""Runs are sorted, filtered, compared and plotted by their metrics."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import orjson
import pytest
from sqlalchemy import text

from db.core.work import Database
from db.queries.goals import goal_of
from tests.client import Client, GraphQLErrors
from tests.factories import platform
from workers.ml.scoring import METRICS

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


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("alpha", [6, 5, 4, 3, 2, 1]),
        ("train", [4, 3, 2, 1]),
        ("train.depth", [3, 2, 1]),
        ("train.depth.1", [2]),
        ("train.depth.1.unit", [2]),
        ("train.depth.1.none", []),
        ("train.none", []),
        ("none", []),
        ("none.0", []),
        ("0", [4]),
        ("0.unit", [4]),
    ],
)
async def test_runs_are_found_by_whether_they_have_a_parameter(
    ada: Client, runs: dict[int, str], database: Database, key: str, expected: list[int]
) -> None:
    documents = {
        1: {"train": {"depth": None}},
        2: {"train": {"depth": [1, {"unit": "m"}]}},
        3: {"train.depth": 1, "train": "text"},
        4: {"train": {}, "0": {"unit": "m"}},
    }
    async with database.engine.begin() as connection:
        for alpha, document in documents.items():
            has_alpha = "hyperparameters @> jsonb_build_object('alpha', cast(:alpha AS int))"
            added = text(f"UPDATE runs SET hyperparameters = hyperparameters || cast(:document AS jsonb) WHERE {has_alpha}")
            await connection.execute(added, {"alpha": alpha, "document": orjson.dumps(document).decode()})
    page = await ada.one(RUNS, filter={"parameters": [{"key": key}]})
    assert (sorted(alphas(page), reverse=True), page["totalCount"]) == (expected, len(expected))


@pytest.mark.parametrize("member", ["metrics", "parameters"])
async def test_an_empty_list_of_conditions_restricts_nothing(ada: Client, runs: dict[int, str], member: str) -> None:
    assert (await ada.one(RUNS, filter={member: []}))["totalCount"] == len(runs)


@pytest.fixture
async def measured(database: Database, runs: dict[int, str]) -> dict[int, str]:
    """The six runs in one experiment, with metrics of several names whose last value is alpha; the last run has only accuracy."""
    keys = ["accuracy", "test_f1_macro", "rmse", "validation/loss", "cv_mae_mean", "cv_accuracy_std", "charm"]
    async with database.engine.begin() as connection:
        await connection.execute(
            text(
                "UPDATE runs SET experiment_id = (SELECT min(experiment_id::text)::uuid FROM runs), number = (hyperparameters ->> 'alpha')::int"
            )
        )
        await connection.execute(
            text(
                "INSERT INTO run_metrics (run_id, experiment_id, key, last, last_step, min, min_step, max, max_step, count)"
                " SELECT r.id, r.experiment_id, key, alpha, 1, alpha, 1, alpha, 1, 1"
                " FROM runs r, unnest(cast(:keys AS text[])) key, LATERAL (SELECT (r.hyperparameters ->> 'alpha')::float AS alpha) a"
                " WHERE alpha < 6 OR key = 'accuracy' ON CONFLICT (run_id, key) DO UPDATE"
                " SET last = excluded.last, experiment_id = excluded.experiment_id"
            ),
            {"keys": keys},
        )
    return runs


BEST = """query($id: ID!, $metric: String!, $goal: Goal) { run(id: $id) { experiment { bestRun(metric: $metric, goal: $goal) { hyperparameters } } } }"""


@pytest.mark.parametrize(
    ("metric", "own", "greatest"),
    [("accuracy", 6, 6), ("test_f1_macro", 5, 5), ("rmse", 1, 5), ("validation/loss", 1, 5), ("cv_mae_mean", 1, 5)],
)
async def test_the_best_run_follows_the_metrics_own_goal_and_a_given_one_before_it(
    ada: Client, measured: dict[int, str], metric: str, own: int, greatest: int
) -> None:
    async def best(**goal: str | None) -> int:
        experiment = (await ada.one(BEST, id=measured[3], metric=metric, **goal))["experiment"]
        return experiment["bestRun"]["hyperparameters"]["alpha"]

    assert [await best(), await best(goal=None), await best(goal="MAXIMIZE"), await best(goal="MINIMIZE")] == [own, own, greatest, 1]


@pytest.mark.parametrize("metric", ["charm", "cv_accuracy_std", "nothing"])
async def test_an_unknown_metric_has_no_best_run_without_a_goal(ada: Client, measured: dict[int, str], metric: str) -> None:
    with pytest.raises(GraphQLErrors, match=f"the metric '{metric}' are better is not known. Say so with `goal: MAXIMIZE`") as refused:
        await ada.one(BEST, id=measured[3], metric=metric)
    assert refused.value.codes == ["BAD_USER_INPUT"]
    best = (await ada.one(BEST, id=measured[3], metric=metric, goal="MINIMIZE"))["experiment"]["bestRun"]
    assert best == (None if metric == "nothing" else {"hyperparameters": {"alpha": 1}})


async def test_a_comparison_names_the_best_run_of_each_metric(ada: Client, measured: dict[int, str]) -> None:
    query = "query($ids: [ID!]!) { compareRuns(ids: $ids) { metrics { key goal bestIndex minIndex maxIndex } } }"
    compared = await ada.one(query, ids=[measured[alpha] for alpha in (3, 1, 5)])
    assert {metric["key"]: (metric["goal"], metric["bestIndex"]) for metric in compared["metrics"]} == {
        "accuracy": ("MAXIMIZE", 2), "test_f1_macro": ("MAXIMIZE", 2), "rmse": ("MINIMIZE", 1), "validation/loss": ("MINIMIZE", 1),
        "cv_mae_mean": ("MINIMIZE", 1), "cv_accuracy_std": (None, None), "charm": (None, None),
    }  # fmt: skip
    run = await ada.one("query($id: ID!) { run(id: $id) { metrics { key goal } } }", id=measured[3])
    goals = {metric["key"]: metric["goal"] for metric in run["metrics"]}
    assert goals == {metric["key"]: metric["goal"] for metric in compared["metrics"]}


def test_every_metric_of_the_workers_has_a_goal() -> None:
    for name in METRICS.keys() - {"noise_share", "outlier_share"}:  # what data are like, not how good a model is
        variants = (name, f"train_{name}", f"validation_{name}", f"oob_{name}", f"cv_{name}", f"cv_{name}_mean")
        assert len({goal_of(variant) for variant in variants} - {None}) == 1, name
        assert all(goal_of(variant) for variant in variants), name
        assert goal_of(f"cv_{name}_std") is None


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


@pytest.mark.exhaustive
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
    assert len(sent) == 1
    assert "WITH RECURSIVE" in sent[-1]
