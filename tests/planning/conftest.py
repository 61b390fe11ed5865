"""A platform with rows of every kind and fate, and its viewers."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from sqlalchemy import text

from db.core import prepared
from db.core.viewer import SYSTEM, ApiScope
from db.core.work import Database
from db.services import accounts
from graph.core.ids import NODE_REGISTRY
from graph.execution.timeout import PLANNER
from graph.schema import schema
from tests.client import Client
from tests.conftest import ADMIN_TOKEN, LiveServer, clean_tables
from tests.factories import platform
from tests.planning.comparison import Difference, compare
from tests.planning.faults import NO_ROWS
from tests.planning.operations import Operation, OperationGenerator, Pool

# Fates that the factories do not have: deleted rows that edges still lead to, and a value that no GraphQL type can hold.
_FATES = (
    "UPDATE datasets SET deleted_at = now() WHERE id IN (SELECT id FROM datasets ORDER BY id LIMIT 1)",
    "UPDATE models SET deleted_at = now() WHERE id IN (SELECT id FROM models ORDER BY id LIMIT 1)",
    "UPDATE pipelines SET deleted_at = now() WHERE id IN (SELECT id FROM pipelines WHERE NOT is_template ORDER BY id LIMIT 1)",
    "UPDATE jobs SET timeout_seconds = 'NaN' WHERE id IN (SELECT id FROM jobs ORDER BY id LIMIT 2)",
    (
        "UPDATE datasets SET created_at = date_trunc('second', created_at), description = 'Größe \U0001f4d0 \"quoted\"'"
        " WHERE id IN (SELECT id FROM datasets WHERE deleted_at IS NULL ORDER BY id DESC LIMIT 1)"
    ),
)
_CURSORS = '{ datasets { edges { cursor } } jobs { edges { cursor } } runs { edges { cursor } } runs2: runs(orderBy: {by: {metric: "accuracy"}}) { edges { cursor } } }'


_LEAVES_UNDER_PARENTS = """{ datasets { edges { node { name versions(last: 2) { edges { node { id number status createdAt } } pageInfo { hasPreviousPage startCursor } }
  jobs(first: 1) { edges { cursor node { __typename id kind progress startedAt timeoutSeconds } } pageInfo { hasNextPage } }
  all: jobs { totalCount edges { node { id } } } types: jobs { edges { node { __typename } } } } } } }"""
_BY_ID = "query($id: ID!) { %s(id: $id) { __typename id owner { username } } }"


@dataclass
class Viewers:
    """Clients of nobody, a stranger, the owner of all rows, an admin, and a program of the owner whose key may only track runs."""

    nobody: Client
    stranger: Client
    owner: Client
    admin: Client
    tracker: Client

    def choose(self, chance: random.Random) -> Client:
        return chance.choices((self.owner, self.admin, self.stranger, self.nobody), (60, 25, 10, 5))[0]


@dataclass
class Both:
    """Runs operations with their plans and without."""

    viewers: Viewers
    pool: Pool

    def generate(self, seed: object) -> tuple[Operation, Client, int | None]:
        """An operation, who sends it, and the salt of the faults that it meets, if any."""
        chance = random.Random(f"{seed}")
        operation = OperationGenerator(schema._schema, self.pool, chance).operation()
        return operation, self.viewers.choose(chance), chance.randrange(1_000) if chance.random() < 0.3 else None

    def written(self) -> list[tuple[Operation, Client, int | None]]:
        """Operations for what chance seldom meets."""
        viewers, ids = self.viewers, self.pool.ids
        cursor = next(cursor for cursor in self.pool.cursors)
        page = "query($first: Int!, $after: String, $is: Boolean!) { datasets(first: $first, after: $after) { edges { cursor node { id @skip(if: $is) name } } } }"
        return [
            *(
                (
                    Operation("{ datasets { edges { node { versions { edges { node { number dataset { id } } } } } } } }", {}),
                    viewers.owner,
                    salt,
                )
                for salt in (NO_ROWS, *range(20))
            ),
            (
                Operation("{ datasets(first: 100) { edges { node { createdAt description source metadata owner { id } } } } }", {}),
                viewers.owner,
                None,
            ),
            (Operation("query($ids: [ID!]!) { nodes(ids: $ids) { __typename id } }", {"ids": ids[:100]}), viewers.stranger, None),
            (
                Operation("{ datasets { edges { node { owner { id } owner { username } } node { name } } edges { cursor } } }", {}),
                viewers.owner,
                None,
            ),
            *(
                (
                    Operation(
                        "{ "
                        + " ".join(f'n{n}: node(id: "{own_id}") {{ id }}' for n, own_id in enumerate(ids[:40]))
                        + " jobs { edges { node { id owner { id } } } } }",
                        {},
                    ),
                    client,
                    None,
                )
                for client in (viewers.admin, viewers.stranger, viewers.owner)
            ),
            (Operation("{ runs(first: 3) { edges { node { job { id } owner { username } } } } }", {}), viewers.admin, None),
            *((Operation(_LEAVES_UNDER_PARENTS, {}), client, None) for client in (viewers.admin, viewers.stranger, viewers.owner)),
            *(
                (Operation(_BY_ID % prefix, {"id": own_id}), client, None)
                for prefix, own_id in self._lookups()
                for client in (viewers.owner, viewers.stranger)
            ),
            (Operation(page, {"first": 2, "is": True}), viewers.owner, None),
            (Operation(page, {"first": 3, "is": False, "after": cursor}), viewers.owner, None),
            (Operation(page, {"first": 1, "is": True}), viewers.owner, None),
            (Operation("{ jobs(first: 100) { edges { node { status timeoutSeconds error { traceback } } } } }", {}), viewers.owner, None),
            (Operation("{ a: datasets(first: -1) { totalCount } }", {}), viewers.owner, None),
            (Operation("{ viewer { username datasets(first: 101) { totalCount } } b: viewer { id } }", {}), viewers.owner, None),
            (
                Operation(
                    "{ models { edges { node { name versions(last: 3) { edges { node { metrics { key } } } pageInfo { hasNextPage } } } } } }",
                    {},
                ),
                viewers.nobody,
                None,
            ),
            (Operation("{ datasets { totalCount } }", {}), viewers.tracker, None),
            (
                Operation('{ datasets(filter: {name: {eq: "nothing"}}) { totalCount edges { node { id } } pageInfo { endCursor } } }', {}),
                viewers.owner,
                None,
            ),
        ]

    def _lookups(self) -> list[tuple[str, str]]:
        """A root field for each type of ids, with an id of one of the rows."""
        root = schema._schema.query_type
        assert root is not None
        first_ids = {own_id.partition("_")[0]: own_id for own_id in reversed(self.pool.ids)}
        return [(name, own_id) for prefix, own_id in first_ids.items() if (name := prefix) in root.fields]

    async def difference(self, operation: Operation, client: Client, planned: bytes, expected: bytes) -> Difference | None:
        """Return how two responses to an operation differ, with a plan and without, where two of the same kind do not."""
        difference = compare(planned, expected)
        if difference is None:
            return None
        # Some values change with time, such as durations until now, or with the second, such as signed URLs.
        planned_again = await send(client, operation)
        with planning_off():
            expected_again = await send(client, operation)
        return (
            compare(*(_masked(_masked(body, expected, expected_again), planned, planned_again) for body in (planned, expected)))
            and difference
        )


@contextmanager
def planning_off() -> Generator[None]:
    """Execute everything by graphql-core meanwhile."""
    PLANNER.is_enabled = False
    try:
        yield
    finally:
        PLANNER.is_enabled = True


def forget_plans() -> None:
    """Forget the plans and prepared selects that a changed planner made."""
    PLANNER.clear()
    prepared.SELECTS.clear()


async def send(client: Client, operation: Operation) -> bytes:
    response = await client.http.post(
        "/graphql",
        content=orjson.dumps({"query": operation.text, "variables": operation.variables}),
        headers={"content-type": "application/json"},
    )
    return response.content


def _masked(body: bytes, one: bytes, other: bytes) -> bytes:
    """Return the response without the values of its data that differ between two others."""
    response = orjson.loads(body)
    if "data" in response:
        response["data"] = _mask(response["data"], *(orjson.loads(text).get("data") for text in (one, other)))
    return orjson.dumps(response)


def _mask(value: Any, one: Any, other: Any) -> Any:
    if isinstance(value, dict) and isinstance(one, dict) and isinstance(other, dict):
        return {key: _mask(inner, one.get(key), other.get(key)) for key, inner in value.items()}
    if isinstance(value, list) and isinstance(one, list) and isinstance(other, list) and len(value) == len(one) == len(other):
        return [_mask(*items) for items in zip(value, one, other, strict=True)]
    return value if one == other else "changes"


@pytest.fixture(scope="module")
async def both(database: Database, live_server: LiveServer) -> AsyncGenerator[Both]:
    """Filled once for the module, whose tests only read."""
    await clean_tables(database)
    async with database.work(SYSTEM) as work:
        await accounts.ensure_admin(work, "admin@trellis.local", ADMIN_TOKEN)
        owner = await accounts.add_user(work, "ada@example.org", "ada")
        stranger = await accounts.add_user(work, "bob@example.org", "bob")
        tracker = await accounts.add_token(work, "ada@example.org", "tracker", scopes=[ApiScope.TRACK])
    await platform.fill(database, "ada", 3)
    await platform.add_states(database, "ada")
    async with database.engine.begin() as connection:
        await connection.execute(text("SET LOCAL session_replication_role = replica"))
        for statement in _FATES:
            await connection.execute(text(statement))
    ids_by_prefix = await platform.ids_by_prefix(database, "ada")
    pool = Pool([own_id for prefix in NODE_REGISTRY for own_id in ids_by_prefix[prefix][:4]])
    clients = [Client(live_server.url, token) for token in (None, stranger, owner, ADMIN_TOKEN, tracker)]
    pages = await clients[2].execute(_CURSORS)
    pool.cursors += [edge["cursor"] for page in pages.values() for edge in page["edges"]]
    yield Both(Viewers(*clients), pool)
    for client in clients:
        await client.close()
