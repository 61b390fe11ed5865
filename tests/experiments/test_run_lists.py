"""Runs are listed by what they trained with and on, and in the order of a hyperparameter, a time, a duration or a name, and of a second key."""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import product
from typing import Any

import orjson
import pytest
from sqlalchemy import text

from db.core.work import Database
from tests.client import Client, GraphQLErrors
from tests.factories import platform

RUNS = """query($filter: RunFilter, $orderBy: RunOrder, $first: Int, $last: Int, $after: String, $before: String) {
  runs(filter: $filter, orderBy: $orderBy, first: $first, last: $last, after: $after, before: $before) {
    totalCount pageInfo { startCursor endCursor hasNextPage hasPreviousPage } edges { node { number } } } }"""

# By number: hyperparameters, name, seconds until the end, last accuracy.
TABLE: dict[int, tuple[dict[str, Any], str | None, float | None, float | None]] = {
    1: ({"train": {"alpha": 2}}, "beech", 5, 0.7),
    2: ({"train": {"alpha": 10}}, "Alder", 0.5, 0.9),
    3: ({"train": {"alpha": "much"}}, None, None, None),
    4: ({"train": {"alpha": 2.0}}, "cedar", 50, 0.8),
    5: ({"train": {}}, None, 5, float("nan")),
    6: ({"train": {"alpha": 2}}, None, None, None),
}


@pytest.fixture
async def runs(ada: Client, database: Database) -> None:
    await platform.fill(database, "ada", len(TABLE))
    async with database.engine.begin() as connection:
        ids = list(await connection.scalars(text("SELECT id FROM runs ORDER BY id")))
        for (number, (parameters, name, seconds, accuracy)), id_ in zip(TABLE.items(), ids, strict=True):
            values = {"id": id_, "number": number, "parameters": orjson.dumps(parameters).decode(), "name": name, "seconds": seconds}
            await connection.execute(
                text(
                    "UPDATE runs SET number = :number, hyperparameters = cast(:parameters AS jsonb), name = :name,"
                    " completed_at = started_at + cast(:seconds AS float8) * interval '1 second' WHERE id = :id"
                ),
                values,
            )
            change = "DELETE FROM run_metrics" if accuracy is None else "UPDATE run_metrics SET last = :accuracy"
            await connection.execute(
                text(f"{change} WHERE run_id = :id"), {"id": id_, **({} if accuracy is None else {"accuracy": accuracy})}
            )


def numbers(page: dict[str, Any]) -> list[int]:
    return [edge["node"]["number"] for edge in page["edges"]]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ({"by": {"parameter": "train.alpha"}, "direction": "ASC", "thenBy": {"metric": "accuracy"}}, [1, 4, 6, 2, 3, 5]),
        ({"by": {"parameter": "train.alpha"}, "thenBy": {"metric": "accuracy"}}, [2, 4, 1, 6, 5, 3]),
        ({"by": {"parameter": "train.alpha"}, "thenBy": {"field": "NAME"}}, [2, 4, 1, 6, 5, 3]),
        ({"by": {"field": "DURATION"}, "direction": "ASC", "thenBy": {"parameter": "train.alpha"}}, [2, 1, 5, 4, 3, 6]),
        ({"by": {"field": "DURATION"}}, [4, 5, 1, 2, 6, 3]),
        ({"by": {"field": "NAME"}, "direction": "ASC"}, [2, 1, 4, 3, 5, 6]),
        ({"by": {"metric": "accuracy"}}, [2, 4, 1, 6, 5, 3]),
        ({"by": {"metric": "accuracy"}, "direction": "ASC"}, [1, 4, 2, 3, 5, 6]),
        ({"by": {"metric": "accuracy"}, "thenBy": {"field": "STARTED_AT"}}, [2, 4, 1, 6, 5, 3]),
        ({"by": {"field": "NUMBER"}, "direction": "ASC", "thenBy": {"metric": "accuracy"}}, [1, 2, 3, 4, 5, 6]),
    ],
    ids=str,
)
async def test_runs_without_a_value_come_last_and_each_page_continues(
    ada: Client, admin: Client, runs: None, order: dict[str, Any], expected: list[int]
) -> None:
    """Also in an admin's list, whose end is read in another way if there are fewer of them than a page has."""
    for viewer, size in product((ada, admin), (6, 2, 1)):
        page = await viewer.one(RUNS, orderBy=order, first=size)
        forward = numbers(page)
        while page["pageInfo"]["hasNextPage"]:
            page = await viewer.one(RUNS, orderBy=order, first=size, after=page["pageInfo"]["endCursor"])
            forward += numbers(page)
        page = await viewer.one(RUNS, orderBy=order, last=size)
        backward = numbers(page)
        while page["pageInfo"]["hasPreviousPage"]:
            page = await viewer.one(RUNS, orderBy=order, last=size, before=page["pageInfo"]["startCursor"])
            backward = numbers(page) + backward
        assert (forward, backward) == (expected, expected)


async def test_the_end_of_everyones_runs_is_found_by_one_pass_if_few_have_no_value(
    ada: Client, admin: Client, runs: None, capture_statements: Callable[[], AbstractContextManager[list[str]]]
) -> None:
    """Three of the runs have no accuracy: they fill a page of two, and not one of three with the row behind it."""
    order = {"by": {"metric": "accuracy"}}
    for viewer, size, passes in ((admin, 2, 0), (admin, 3, 1), (ada, 3, 0)):
        with capture_statements() as sent:
            page = await viewer.one(RUNS, orderBy=order, last=size)
        assert numbers(page) == [2, 4, 1, 6, 5, 3][-size:]
        assert sum("LEFT OUTER JOIN run_metrics" in statement for statement in sent) == passes


async def test_the_runs_of_an_experiment_are_ordered_alike(ada: Client, bob: Client, runs: None, database: Database) -> None:
    async with database.engine.begin() as connection:
        await connection.execute(text("UPDATE runs SET experiment_id = (SELECT experiment_id FROM runs ORDER BY id LIMIT 1)"))
        await connection.execute(text("UPDATE run_metrics m SET experiment_id = r.experiment_id FROM runs r WHERE r.id = m.run_id"))
    query = """query($o: RunOrder) { experiments(filter: { algorithm: "Ridge" }) { edges { node { runs(orderBy: $o, first: 4) { edges { node { number } } } } } } }"""
    order = {"by": {"parameter": "train.alpha"}, "thenBy": {"metric": "accuracy"}}
    (found,) = (await ada.one(query, o=order))["edges"]
    assert numbers(found["node"]["runs"]) == [2, 4, 1, 6]
    assert (await bob.one(query, o=order))["edges"] == []


async def test_hyperparameters_are_found_by_bounds_and_follow_what_a_run_has(ada: Client, runs: None, database: Database) -> None:
    async def found(**condition: Any) -> list[int]:
        order = {"by": {"field": "NUMBER"}, "direction": "ASC"}
        return numbers(await ada.one(RUNS, filter={"parameters": [{"key": "train.alpha", **condition}]}, orderBy=order))

    assert await found(gte=2) == [1, 2, 4, 6]
    assert await found(gte=2.5, lte=10) == [2]
    assert await found(lte=10, eq="much") == []
    async with database.engine.begin() as connection:
        await connection.execute(
            text('UPDATE runs SET hyperparameters = \'{"train": {"alpha": 7}, "long": {"list": [1, 2], "huge": 1e999}}\' WHERE number = 5')
        )
        rows = await connection.execute(
            text("SELECT p.key, p.number, p.text FROM run_parameters p JOIN runs r ON r.id = run_id WHERE r.number = 5")
        )
        assert sorted(map(tuple, rows)) == [("long.huge", None, None), ("long.list", None, "[1, 2]"), ("train.alpha", 7, None)]
    assert await found(gte=5, lte=9) == [5]


@pytest.mark.parametrize(
    ("criteria", "by", "statements"),
    [
        ({"parameters": [{"key": "train.alpha", "gte": -1e300}]}, {"parameter": "train.alpha"}, 1),
        ({"parameters": [{"key": "train.alpha", "lte": 1e300}]}, {"parameter": "train.alpha"}, 1),
        ({"metrics": [{"key": "accuracy"}]}, {"metric": "accuracy"}, 1),
        ({"parameters": [{"key": "train.alpha"}]}, {"parameter": "train.alpha"}, 2),
        ({"parameters": [{"key": "train.beta", "gte": 0}]}, {"parameter": "train.alpha"}, 2),
        ({"metrics": [{"key": "loss"}]}, {"metric": "accuracy"}, 2),
    ],
    ids=str,
)
async def test_where_a_filter_leaves_no_run_without_a_value_none_is_looked_for(
    ada: Client,
    runs: None,
    capture_statements: Callable[[], AbstractContextManager[list[str]]],
    criteria: dict[str, Any],
    by: dict[str, str],
    statements: int,
) -> None:
    """From the end of a list they come first, and are found only by looking at each run."""
    query = "query($f: RunFilter, $o: RunOrder) { runs(filter: $f, orderBy: $o, last: 3) { edges { node { number } } } }"
    with capture_statements() as sent:
        backward = numbers(await ada.one(query, f=criteria, o={"by": by}))
    assert len(sent) == statements
    assert backward == numbers(await ada.one(RUNS, filter=criteria, orderBy={"by": by}, first=100))[-3:]


@pytest.mark.parametrize("value", [["a", 1], [1e400, 1], [0.5], [0.5, {}], [0.5, "\0"], [True, 1], 0.5, "x"], ids=str)
async def test_a_cursor_that_was_not_made_for_the_order_is_refused(ada: Client, runs: None, value: Any) -> None:
    order = {"by": {"metric": "accuracy"}, "thenBy": {"field": "NAME"}}
    page = await ada.one(RUNS, orderBy=order, first=1)
    cursor = page["pageInfo"]["endCursor"]
    name, _, key, place = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    forged = base64.urlsafe_b64encode(orjson.dumps([name, value, key, place])).decode().rstrip("=")
    with pytest.raises(GraphQLErrors) as refused:
        await ada.one(RUNS, orderBy=order, after=forged)
    assert refused.value.codes == ["BAD_USER_INPUT"]


async def test_one_metric_of_a_run_and_the_metrics_of_many(ada: Client, bob: Client, runs: None) -> None:
    node = 'node { a: metric(key: "accuracy") { last goal } b: metric(key: "loss") { last } }'
    query = f"{{ runs(orderBy: {{ by: {{ field: NUMBER }}, direction: ASC }}, first: 3) {{ edges {{ {node} }} }} }}"
    listed = [edge["node"] for edge in (await ada.one(query))["edges"]]
    assert listed == [
        {"a": {"last": 0.7, "goal": "MAXIMIZE"}, "b": None},
        {"a": {"last": 0.9, "goal": "MAXIMIZE"}, "b": None},
        {"a": None, "b": None},
    ]
    keys = "query($e: ID, $d: ID) { metricKeys(experimentId: $e, datasetId: $d) { key runs goal } }"
    (experiment,) = (
        await ada.one('{ runs(first: 1, filter: { metrics: [{ key: "accuracy", gte: 0.9 }] }) { edges { node { experiment { id } } } } }')
    )["edges"]
    assert await ada.one(keys) == [{"key": "accuracy", "runs": 4, "goal": "MAXIMIZE"}]
    assert await ada.one(keys, e=experiment["node"]["experiment"]["id"]) == [{"key": "accuracy", "runs": 1, "goal": "MAXIMIZE"}]
    assert await ada.one(keys, d="dataset_" + "0" * 32) == await bob.one(keys, e=experiment["node"]["experiment"]["id"]) == []
