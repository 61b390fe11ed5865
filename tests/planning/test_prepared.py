"""SQL is built once: what has been read before is read again by the same text."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import orjson
import pytest
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.elements import ClauseElement

from db.core import prepared
from db.core.page import Slice
from db.core.record_page import PageParts
from db.core.viewer import SYSTEM
from db.core.work import Database
from db.queries import experiments, leaderboard
from db.settings import StateSettings
from tests.planning.conftest import Both, send
from tests.planning.operations import Operation


async def test_a_second_execution_of_a_document_builds_no_sql(both: Both, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    compile_cached: Any = ClauseElement._compile_w_cache
    prepare_select = prepared._prepare

    def recorded(self: ClauseElement, *arguments: Any, **options: Any) -> Any:
        if not isinstance(self, UpdateBase):  # what is written behind the requests
            built.append(str(self))
        return compile_cached(self, *arguments, **options)

    def prepare(statement: Any, arguments: Any, **options: Any) -> Any:
        built.append(str(statement))
        return prepare_select(statement, arguments, **options)

    operations = [*both.written(), *(both.generate(f"{seed} {number}") for number in range(60))]
    # A preview of a deletion reads what the deletion would, in its way.
    operations = [each for each in operations if "deletionPreview" not in each[0].text]
    for operation, client, _ in operations:
        await send(client, operation)
    monkeypatch.setattr(ClauseElement, "_compile_w_cache", recorded)
    monkeypatch.setattr(prepared, "_prepare", prepare)
    for operation, client, _ in operations:
        await send(client, operation)
        assert built == [], operation.text


TRICKY = ["plain", "o'clock", "back\\slash", "$1 and '$2'", "Größe 📐", "%_", ""]
FILTERED = """query($text: String!, $id: ID!, $first: Int!) {
  datasets(first: $first, filter: {name: {contains: $text}}) { totalCount edges { node { id name jobs(filter: {status: [QUEUED, FAILED]}) { totalCount } } } }
  runs(first: $first, orderBy: {by: {metric: $text}, direction: DESC}) { edges { node { id number } } }
  experiments { edges { node { name runs(orderBy: {by: {metric: "accuracy"}}) { edges { node { number metrics { key last } } } } } } }
  jobs(first: $first, filter: {datasetId: $id}) { totalCount edges { node { id kind } } }
}"""


async def test_a_select_whose_values_come_again_has_a_plan_of_its_own_and_the_same_rows(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = both.viewers.owner
    written: list[str] = []
    with_constants = prepared.with_constants

    def recorded(*arguments: Any) -> Any:
        constants = with_constants(*arguments)
        if constants is not None:
            written.append(constants.text)
        return constants

    monkeypatch.setattr(prepared, "with_constants", recorded)
    dataset = next(id_ for id_ in both.pool.ids if id_.startswith("dataset_"))
    for name in TRICKY[1:]:
        await client.one(
            "mutation($input: CreateDatasetInput!) { createDataset(input: $input) { __typename } }", input={"name": f"a {name}"}
        )
    for text in TRICKY:
        answers: set[bytes] = set()
        for uses in (1_000, 0):
            monkeypatch.setattr(prepared, "USES_BEFORE_PLAN", uses)
            prepared.SELECTS.clear()
            answers |= {await send(client, Operation(FILTERED, {"text": text, "id": dataset, "first": first})) for first in (3, 3)}
        assert len(answers) == 1, (text, answers)
        (answer,) = answers
        assert "errors" not in orjson.loads(answer)
        assert len(orjson.loads(answer)["data"]["datasets"]["edges"]) >= (text != "plain")
    assert any("".join(f"\\U{ord(character):08x}" for character in TRICKY[1]) in text for text in written)
    assert not any(TRICKY[1] in text for text in written)


async def test_a_value_that_comes_again_is_found_by_an_index(database: Database) -> None:
    select = "SELECT last FROM run_metrics WHERE run_id = ANY($1::uuid[]) AND key = $2::VARCHAR"
    constants = prepared.with_constants(select, (("batch_keys", None, None), (None, None, TRICKY[1])))
    assert constants is not None
    async with database.read() as connection:
        await connection.exec_driver_sql("SET enable_seqscan = off")
        statement = "EXPLAIN " + constants.text.replace("$1", f"'{{{uuid4()}}}'")
        plan = [row[0].strip() for row in await connection.exec_driver_sql(statement)]
        await connection.exec_driver_sql("RESET enable_seqscan")
    assert any(line.startswith("Index Cond:") and "key = 'o''clock'::text" in line for line in plan), plan


async def test_what_is_read_under_one_key_is_not_planned_each_time(settings: StateSettings) -> None:
    parts = PageParts(("number",), cursors=False, ends=False)
    one_connection = settings.model_copy(update={"database_pool_size": 1, "database_read_concurrency": 1})
    async with Database.open(one_connection) as database:
        for _ in range(10):
            assert await experiments.live_by_id.records(database, SYSTEM, [uuid4()], ["name"]) == {}
            page = await leaderboard.of_experiment.record_pages(database, SYSTEM, [uuid4()], Slice(size=5), None, None, parts)
            assert page.lengths == [0]
            key = uuid4()
            assert await leaderboard.of_experiment.record_counts(database, SYSTEM, [key], None) == {key: 0}
        statements = prepared.PreparedSelect("SELECT statement, generic_plans FROM pg_prepared_statements", ())
        plans: dict[str, int] = {record[0]: record[1] for record in await database.records(statements, [])}
    for start in ("SELECT experiments.name", "SELECT runs.number", "SELECT count(*) AS count_1 \nFROM runs"):
        (count,) = (plans[text] for text in plans if text.startswith(start))
        assert count > 0, start
