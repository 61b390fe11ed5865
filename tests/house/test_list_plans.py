"""PostgreSQL reads no large table from end to end for a list, whatever its filter, order and page: each has an index that serves it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any, Self

import asyncpg
import orjson
import pytest
from sqlalchemy import Table, event, text
from sqlalchemy.engine import Engine
from sqlalchemy.sql import visitors

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services import accounts
from db.settings import StateSettings
from graph.core.edges import Paged
from graph.core.list_inputs import ListField
from graph.schema import schema
from tests.benchmarks import scale_data
from tests.benchmarks.bench_scale import VIEWERS, compare, parents_of
from tests.client import Client
from tests.conftest import LiveServer, clean_tables
from tests.exhaustive import exhaustive, is_sampled
from tests.list_operations import Operation, Parents, connection_fields, deep_cursor, operations

SIZE = scale_data.Size(400)
TIMES = 2_000  # how many times larger PostgreSQL believes the tables to be
LARGE = (
    *("datasets", "dataset_versions", "pipelines", "pipeline_snapshots", "experiments", "models", "model_versions", "model_alias_events"),
    *("users", "jobs", "job_events", "job_events_default", "runs", "run_metrics", "run_parameters", "audit_events", "audit_events_default"),
    *(
        "api_requests",
        "api_requests_default",
        "exports",
        "explanations",
        "studies",
        "trials",
        "dataset_items",
        "schema_proposals",
        "pipeline_inputs",
        "model_datasets",
        "tags",
        "taggings",
        "credit_transactions",
        "webhook_deliveries",
        "notifications",
        "email_messages",
        "login_events",
        "deletions",
        "artifacts",
        "stored_objects",
    ),
)
TOKENS = {**VIEWERS, "member": "the-token-of-a-member-of-both-owners"}
_MEMBER = (
    text("""INSERT INTO memberships (team_id, user_id, role) SELECT t.id, u.id, 'member' FROM users t, users u
      WHERE t.username IN (:heavy, :light) AND u.username = 'u2'"""),
    text("""INSERT INTO api_keys (user_id, name, prefix, token_sha256) SELECT id, 'bench', 'bench', sha256(convert_to(:token, 'UTF8')) FROM users
      WHERE username = 'u2'"""),
)
"""Make another user a member of both, as if they were teams."""
_AUTOVACUUM = """SELECT format('ALTER TABLE %I SET (autovacuum_enabled = {})', relname) AS statement FROM pg_class
  WHERE relname = ANY(:tables) AND relkind = 'r' AND relnamespace = 'public'::regnamespace"""
NEWEST = ({"field": "CREATED_AT", "direction": "DESC"}, {"by": {"field": "CREATED_AT"}, "direction": "DESC"})


@pytest.fixture(scope="module")
async def parents(settings: StateSettings, database: Database, live_server: LiveServer) -> Any:
    await clean_tables(database)
    await _set_autovacuum(database, "false")  # which would count the rows again
    await scale_data.fill(settings.database_url, SIZE)
    async with database.work(SYSTEM) as work:
        await accounts.ensure_admin(work, "admin@trellis.local", VIEWERS["admin"])
    async with database.engine.begin() as connection:
        values = {"heavy": scale_data.HEAVY, "light": scale_data.LIGHT, "token": TOKENS["member"]}
        for statement in _MEMBER:
            await connection.execute(statement, {name: value for name, value in values.items() if f":{name}" in statement.text})
        grow = text("UPDATE pg_class SET reltuples = reltuples * :times WHERE relname = ANY(:tables)")
        await connection.execute(grow, {"times": TIMES, "tables": LARGE})
    found = await parents_of(settings.database_url)
    yield {**found, "member": found["heavy owner"]}
    await clean_tables(database)
    async with database.engine.begin() as connection:
        for timeout in ("statement_timeout", "transaction_timeout"):  # of all tables, on a busy machine
            await connection.execute(text(f"SET LOCAL {timeout} = 0"))
        await connection.execute(text("ANALYZE"))
    await _set_autovacuum(database, "true")


async def _set_autovacuum(database: Database, enabled: str) -> None:
    async with database.engine.begin() as connection:
        found = await connection.execute(text(_AUTOVACUUM.format(enabled)), {"tables": LARGE})
        for statement in found.scalars().all():
            await connection.exec_driver_sql(statement)


class Explainer:
    """Collects the statements of this process, and explains them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._sent: list[tuple[str, Any]] = []
        self._connection: Any = None

    def _record(self, _connection: object, _cursor: object, statement: str, parameters: Any, *_rest: object) -> None:
        if any(f"FROM {table}" in statement for table in LARGE):
            self._sent.append((statement, parameters))

    async def __aenter__(self) -> Self:
        connect: Any = asyncpg.connect
        self._connection = await connect(self._url, statement_cache_size=0)
        event.listen(Engine, "before_cursor_execute", self._record)
        return self

    async def __aexit__(self, *_: object) -> None:
        event.remove(Engine, "before_cursor_execute", self._record)
        await self._connection.close()

    async def scanned(self) -> set[str]:
        """The large tables that the statements sent since the last call read from end to end."""
        statements, self._sent = self._sent, []
        plans = [
            orjson.loads(await self._connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *parameters))[0]["Plan"]
            for statement, parameters in statements
        ]
        return {
            node["Relation Name"]
            for plan in plans
            for node in _nodes(plan)
            if node["Node Type"] == "Seq Scan" and node["Relation Name"] in LARGE
        }


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)


async def scans(explainer: Explainer, client: Client, all_operations: Iterator[Operation]) -> dict[str, set[str]]:
    """The large tables that each of the operations reads from end to end, by the operation."""
    found: dict[str, set[str]] = {}
    for operation in all_operations:
        request = operation.request()
        data = await client.execute(request["query"], **request["variables"])
        if operation.page == "deep":
            while "edges" not in data:
                (data,) = data.values()
            if data["edges"]:
                request = operation.request(deep_cursor(data["edges"][0]["cursor"]))
                await client.execute(request["query"], **request["variables"])
        if tables := await explainer.scanned():
            found[str(operation)] = tables
    return found


def few_values(all_operations: Iterator[Operation], values: int) -> Iterator[Operation]:
    """The operations with the first values of each field of a filter, or without a filter."""
    met: dict[tuple[str, ...], list[Any]] = {}
    for operation in all_operations:
        known = met.setdefault((operation.place, *operation.filter), [])
        value = [*operation.filter.values()]
        if value not in known:
            known.append(value)
        if not value or known.index(value) < values:
            yield operation


FEW = {"api_keys", "invitations", "memberships", "saved_searches", "webhook_endpoints"}
"""Tables of lists that have few rows, since an account has few of them."""


def test_the_tables_of_each_list_are_among_the_large_ones() -> None:
    read: set[str] = set()
    for name, _ in connection_fields():
        declaration = ListField(*name.split(".")).declared(schema).declaration
        assert isinstance(declaration, Paged), name
        tables = declaration.listing.statement(SYSTEM).get_final_froms()
        read |= {table.name for each in tables for table in visitors.iterate(each) if isinstance(table, Table)}
    assert read - {*LARGE, *FEW} == set()


@pytest.mark.parametrize("values", [1, exhaustive(100)])
@pytest.mark.parametrize("viewer", ["member", *map(exhaustive, ("admin", "heavy owner", "owner"))])
async def test_each_filter_and_each_order_has_an_index(
    viewer: str, values: int, parents: dict[str, Parents], settings: StateSettings, live_server: LiveServer
) -> None:
    singles = (
        operation
        for operation in few_values(operations(parents[viewer], pages=("first",), pairs=False, counts=False), values)
        if not operation.filter or operation.order in (None, *NEWEST)
        if values > 1 or is_sampled(str(operation), 3)
    )
    client = Client(live_server.url, TOKENS[viewer])
    async with Explainer(settings.database_url) as explainer:
        found = await scans(explainer, client, singles)
    await client.close()
    assert found == {}


def reads_all(viewer: str, operation: Operation) -> bool:
    """Whether this is a list of everyone's that ADR 29 names as one that is not flat.

    That is the end of the runs by a metric or a hyperparameter: where nearly all have it, those without it are found by one pass. And the experiments
    with runs of an algorithm and with a tag: neither is a column of theirs, so what both have in common is found by reading one of them.
    """
    if viewer != "admin":
        return False
    if operation.place == "Query.runs":
        return operation.page == "last" and bool({"metric", "parameter"} & {*(operation.order or {}).get("by", {})})
    return operation.place == "Query.experiments" and {*operation.filter} == {"algorithm", "tags"}


@pytest.mark.exhaustive
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("viewer", VIEWERS)
async def test_each_two_filters_and_each_page_have_an_index(
    viewer: str, parents: dict[str, Parents], settings: StateSettings, live_server: LiveServer, seed: int
) -> None:
    """Of lists with two filters a third, another one each time."""
    chance = random.Random(seed)
    client = Client(live_server.url, VIEWERS[viewer])
    async with Explainer(settings.database_url) as explainer:
        indexed = (
            operation
            for operation in operations(parents[viewer], counts=False)
            if not reads_all(viewer, operation) and (len(operation.filter) < 2 or chance.random() < 1 / 3)
        )
        found = await scans(explainer, client, indexed)
    await client.close()
    assert found == {}


@pytest.mark.exhaustive
async def test_the_benchmark_measures_lists_and_explains_them(
    parents: dict[str, Parents], settings: StateSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    await asyncio.to_thread(compare, [settings.database_url] * 2, ("Job.events", "Pipeline.snapshots"), flat=0.001)
    printed = capsys.readouterr().out
    assert "18 lists; 18 above 0.001x" in printed
    assert "buffers  heavy owner: Job.events {} deep" in printed
    assert "6 totalCounts" in printed


async def test_a_scan_is_found(parents: dict[str, Parents], settings: StateSettings, database: Database) -> None:
    async with Explainer(settings.database_url) as explainer:
        await database.rows(text("SELECT id FROM runs WHERE notes = 'x'"))
        assert await explainer.scanned() == {"runs"}
