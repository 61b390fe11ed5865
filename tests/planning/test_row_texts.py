"""PostgreSQL writes the rows of a page as the encoder of results would."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import ARRAY, BigInteger, Boolean, DateTime, Double, Text, bindparam, column, func, select, text

from db.core.row_text import Encoding, RowText, TextColumn
from db.core.viewer import SYSTEM
from db.core.work import Database
from graph.core.scalars import encode_json
from tests.client import Client
from tests.factories import platform
from tests.planning.conftest import planning_off

TEXTS = ["", "plain", 'a "quoted" \\ path', "\x01\x1f\x7f\b\f\n\r\t", "é \U0001f4d0 \u2028 </script>", "50 % %s {}", "'; --"]


def floats(chance: random.Random) -> list[float]:
    whole = [0.0, -0.0, 1.0, -1.0, 50.0, 2.0**53, 1e15, 1e15 - 1, 1e16, 1e22, -1e300, math.inf, -math.inf, math.nan]
    fractions = [
        0.1,
        1 / 3,
        1e-4,
        9.9e-5,
        -2.5e-5,
        1e-5,
        9.999999999999999e-6,
        -1.5e-9,
        1e-10,
        5e-324,
        123456.789,
        999999999999999.9,
        0.1 + 0.2,
    ]
    return [*whole, *fractions, *(chance.uniform(-1, 1) * 10 ** chance.randint(-8, 18) for _ in range(2_000))]


def times(chance: random.Random) -> list[datetime]:
    start = datetime(1000, 1, 1, tzinfo=UTC)
    exact = [datetime(2026, 1, 31, 12, tzinfo=UTC), datetime(2026, 1, 31, 12, 0, 0, 120_000, tzinfo=UTC)]
    return [*exact, *(start + timedelta(days=chance.randint(0, 3_000_000), microseconds=chance.randint(0, 10**11)) for _ in range(500))]


async def written(database: Database, type_: Any, encoding: Encoding, values: list[Any]) -> list[str | None]:
    """The text of each value, as PostgreSQL writes it."""
    rows = func.unnest(bindparam("values", values, type_=ARRAY(type_))).table_valued(column("value", type_), with_ordinality="position")
    rows = rows.render_derived()
    statement = select(RowText([TextColumn("value", encoding)]).sql(rows, SYSTEM)).order_by(rows.c.position)
    return [row[0] for row in await database.rows(statement)]


async def test_floats_have_the_same_text_or_none(database: Database, seed: int) -> None:
    values = floats(random.Random(seed))
    texts = await written(database, Double, Encoding.FLOAT, values)
    assert [text for text in texts if text is not None] == [
        encode_json(value).decode() for value, text in zip(values, texts, strict=True) if text is not None
    ]
    without = {value for value, text in zip(values, texts, strict=True) if text is None}
    assert all(not 0 < abs(value) < 1e15 for value in without)


@pytest.mark.parametrize(
    ("type_", "encoding", "values"),
    [
        (Text, Encoding.TEXT, [*TEXTS, *(chr(code) for code in range(1, 0x250))]),
        (BigInteger, Encoding.INTEGER, [0, 1, -1, 2**53 + 1, 2**63 - 1, -(2**63)]),
        (Boolean, Encoding.BOOLEAN, [True, False]),
    ],
    ids=["text", "integer", "boolean"],
)
async def test_other_values_have_the_same_text(database: Database, type_: Any, encoding: Encoding, values: list[Any]) -> None:
    assert await written(database, type_, encoding, values) == [encode_json(value).decode() for value in values]


async def test_times_have_six_digits_of_a_second(database: Database, seed: int) -> None:
    values = times(random.Random(seed))
    expected = [value.isoformat(timespec="microseconds").replace("+00:00", "Z") for value in values]
    assert await written(database, DateTime(timezone=True), Encoding.TIME, values) == [f'"{text}"' for text in expected]


PAGES = """query($first: Int, $last: Int, $after: String, $before: String) {
  datasets(first: $first, last: $last, after: $after, before: $before) {
    list: edges { __typename at: cursor entry: node { __typename key: id name description createdAt modality } position: cursor }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"""


async def test_pages_of_texts_are_those_of_graphql_core(admin: Client) -> None:
    descriptions = ['a "quoted" \\ path', "é \U0001f4d0", "50 % %s {}", "'; --", "plain"]
    for number, description in enumerate(descriptions):
        await admin.create_dataset(f"d{number} {description}", description=description)
    cursors = [edge["at"] for edge in (await admin.execute(PAGES, first=10))["datasets"]["list"]]
    pages = (
        {"first": 10},
        {"first": 2},
        {"first": 0},
        {"last": 2},
        {"first": 2, "after": cursors[0]},
        {"last": 2, "before": cursors[-1]},
        {"first": 3, "after": cursors[-1]},
        {"last": 3, "before": cursors[0]},
    )
    for variables in pages:
        planned = await admin.execute(PAGES, **variables)
        with planning_off():
            assert await admin.execute(PAGES, **variables) == planned, variables
    assert len(cursors) == len(descriptions)


async def test_a_row_that_has_no_text_is_read_as_a_record(ada: Client, database: Database) -> None:
    """The value of one is NaN, which is an error of its field; the rows beside it have their values."""
    await platform.fill(database, "ada", 3)
    await platform.add_states(database, "ada")
    async with database.read() as connection:
        await connection.execute(
            text(
                "UPDATE jobs SET timeout_seconds = 'NaN' WHERE id = (SELECT id FROM jobs WHERE completed_at IS NULL ORDER BY id DESC LIMIT 1)"
            )
        )
    page = "{ jobs(first: 100) { edges { node { id status timeoutSeconds createdAt } } } }"
    response = await ada.post(page)
    with planning_off():
        expected = await ada.post(page)
    assert response["data"] == expected["data"]
    assert len(response["data"]["jobs"]["edges"]) > 1
    (error,), (expected_error,) = response["errors"], expected["errors"]
    assert error["path"] == expected_error["path"]
    assert error["path"][-1] == "timeoutSeconds"


RUN_TABLES = """query($id: ID!, $metric: String!, $direction: OrderDirection!, $first: Int!, $filter: RunFilter) {
  experiment(id: $id) { name runs(first: $first, orderBy: {by: {metric: $metric}, direction: $direction}, filter: $filter) {
    edges { node { id number status metrics { key last lastStep min max count } job { id kind } datasetVersion { number } } } } }
  runs(first: $first, orderBy: {by: {metric: $metric}, direction: $direction}, filter: $filter) {
    totalCount edges { cursor node { id metrics { key last } } } pageInfo { hasNextPage endCursor } } }"""


@pytest.mark.exhaustive
async def test_a_run_table_is_one_statement_whose_text_is_that_of_graphql_core(ada: Client, bob: Client, database: Database) -> None:
    """Runs with the metric come before those without; NaN and infinities are last and null."""
    await platform.fill(database, "ada", 6)
    await platform.add_states(database, "ada")
    async with database.read() as connection:
        runs = (await connection.execute(text("SELECT id, experiment_id FROM runs ORDER BY id"))).all()
        experiment = runs[0].experiment_id
        await connection.execute(text("UPDATE runs SET experiment_id = :id, number = number + 1000 + :n WHERE id = :run"), [
            {"id": experiment, "run": run.id, "n": n} for n, run in enumerate(runs)
        ])  # fmt: skip
        await connection.execute(text("DELETE FROM run_metrics"))
        values = [0.5, -1.25, float("nan"), float("inf"), 2.0, 1e-9]
        for run, value in zip(runs, values, strict=False):
            for key in ("loss", "accuracy"):
                await connection.execute(
                    text(
                        "INSERT INTO run_metrics (run_id, experiment_id, key, last, last_step, count) VALUES (:run, :id, :key, :value, 3, 4)"
                    ),
                    {"run": run.id, "id": experiment, "key": key, "value": value},
                )
    variables: dict[str, Any] = {"id": f"experiment_{experiment.hex}"}
    asked = [
        {**variables, "metric": metric, "direction": direction, "first": first, "filter": filter_}
        for metric in ("loss", "unknown")
        for direction in ("ASC", "DESC")
        for first in (0, 1, 3, 50)
        for filter_ in (None, {"metrics": [{"key": "loss", "gte": -2.0}]}, {"status": "COMPLETED"})
    ]
    nothing = {
        "data": {"experiment": None, "runs": {"totalCount": 0, "edges": [], "pageInfo": {"hasNextPage": False, "endCursor": None}}},
    }
    seen: set[int] = set()
    for each in asked:
        planned = await ada.post(RUN_TABLES, **each)
        with planning_off():
            expected = await ada.post(RUN_TABLES, **each)
        assert planned == expected, each
        seen.add(len(planned["data"]["experiment"]["runs"]["edges"]))
        assert await bob.post(RUN_TABLES, **each) == nothing
    assert {0, 1, 3} < seen
