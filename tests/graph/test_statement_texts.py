"""The text of a statement depends on the selected fields, not on the number of keys: one prepared statement serves two parents and any number more."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services import accounts
from graph.schema import schema
from tests import selection
from tests.client import Client
from tests.conftest import LiveServer, clean_tables
from tests.factories import platform

PARENTS = (4, 5, 17)  # of the first four exports, two have data and two a model: a single key has a statement of its own
LISTS = selection.root_lists(schema._schema)

Capture = Callable[[], AbstractContextManager[list[str]]]


@pytest.fixture(scope="module")
async def filled_client(database: Database, live_server: LiveServer) -> AsyncGenerator[Client]:
    """A user with `max(PARENTS)` rows of each kind; the tests of this module only read."""
    await clean_tables(database)
    async with database.work(SYSTEM) as work:
        token = await accounts.add_user(work, "ada@example.org", "ada")
    await platform.fill(database, "ada", max(PARENTS))
    client = Client(live_server.url, token)
    yield client
    await client.close()


async def texts(client: Client, capture_statements: Capture, query: str, **variables: Any) -> list[str]:
    """Return the texts of the statements of a query, sorted: loaders of one level run in no fixed order."""
    with capture_statements() as sent:
        await client.one(query, **variables)
    return sorted(sent)


@pytest.mark.parametrize("root", LISTS)
async def test_a_nested_read_sends_the_same_texts_for_any_number_of_parents(
    root: str, filled_client: Client, capture_statements: Capture
) -> None:
    nested = selection.all_fields(schema._schema, LISTS[root].name, 1)
    sent = [
        await texts(filled_client, capture_statements, f"{{ {root}(first: {count}) {{ totalCount edges {{ node {{ {nested} }} }} }} }}")
        for count in PARENTS
    ]
    assert len(sent[0]) >= (3 if "{" in nested else 2), "the count, the page, and its edges"
    assert sent[0] == sent[1] == sent[2]


@pytest.mark.parametrize(
    ("root", "filters"),
    [
        ("datasets", [{"modality": ["TABULAR", "TEXT", "IMAGE", "AUDIO"][:count]} for count in (2, 3, 4)]),
        ("datasets", [{"name": {"in": [f"dataset {number}" for number in range(count)]}} for count in PARENTS]),
        ("jobs", [{"queue": [f"queue {number}" for number in range(count)]} for count in (0, 2, 17)]),
    ],
)
async def test_a_filter_sends_the_same_text_for_any_number_of_values(
    root: str, filters: list[dict[str, Any]], filled_client: Client, capture_statements: Capture
) -> None:
    # One value is an equality, which an index serves in the order of the list.
    query = f"query($filter: {root.capitalize()[:-1]}Filter) {{ {root}(filter: $filter) {{ edges {{ cursor }} }} }}"
    sent = [await texts(filled_client, capture_statements, query, filter=criteria) for criteria in filters]
    assert sent[0] == sent[1] == sent[2]
