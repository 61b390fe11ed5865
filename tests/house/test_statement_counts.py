"""The number of SQL statements does not grow with the number of parents: for every edge and every list of the schema."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from graphql import get_named_type, is_leaf_type

from graph.schema import schema
from tests import selection
from tests.client import Client
from tests.exhaustive import exhaustive, is_sampled
from tests.factories import factories
from tests.graph_walk import Path, paths
from tests.house.conftest import PARENTS

CORE = schema._schema
OF_NO_PAGE = {name for name in selection.whole_lists(CORE) if next(paths(CORE, name), None) is None}
"""What is only read as a whole list, however long: its tests count the statements."""
EDGES = [
    (node_type.name, name)
    for node_type in selection.node_types(CORE)
    if node_type.name not in OF_NO_PAGE
    for name, field in node_type.fields.items()
    if (not is_leaf_type(get_named_type(field.type)) or field.args) and selection.field_selection(CORE, node_type, name, 2) is not None
]
UNFILLED = {place for factory in factories().values() for place in factory.unfilled}


def leads_somewhere(value: Any) -> bool:
    """Return whether an edge, a list or a page has any value."""
    return bool(value["edges"] if isinstance(value, dict) and "edges" in value else value) or value is False or value == 0


async def path_with_rows(client: Client, type_name: str) -> Path:
    """Return the shortest path on which each parent in the factories' rows leads to a node of the type."""
    for path in paths(CORE, type_name):
        page = await client.one(path.query("__typename", PARENTS))
        if len(path.targets(page)) == PARENTS:
            return path
    raise AssertionError(
        f"No path from a root list leads to {type_name} for each of {PARENTS} parents: give the rows of its factory in tests/factories one each."
    )


@pytest.fixture(scope="module")
async def path_by_type(filled_client: Client) -> dict[str, Path]:
    """Cache of paths."""
    return {}


@pytest.mark.parametrize(
    ("type_name", "name"),
    [edge if is_sampled(".".join(edge), 6) else exhaustive(*edge) for edge in EDGES],
    ids=[f"{type_name}.{name}" for type_name, name in EDGES],
)
async def test_one_batch_however_many_parents(
    type_name: str,
    name: str,
    filled_client: Client,
    path_by_type: dict[str, Path],
    capture_statements: Callable[[], AbstractContextManager[list[str]]],
) -> None:
    if type_name not in path_by_type:
        path_by_type[type_name] = await path_with_rows(filled_client, type_name)
    path = path_by_type[type_name]
    node_type = next(node_type for node_type in selection.node_types(CORE) if node_type.name == type_name)
    chosen = selection.field_selection(CORE, node_type, name, 2)
    assert chosen is not None

    async def count_statements(first: int) -> tuple[int, list[bool]]:
        with capture_statements() as sent:
            page = await filled_client.one(path.query(chosen, first))
        assert len(path.targets(page)) == first
        return len(sent), [leads_somewhere(target[name]) for target in path.targets(page)]

    of_many, are_filled = await count_statements(PARENTS)
    if f"{type_name}.{name}" not in UNFILLED:
        assert any(are_filled), (
            f"{type_name}.{name} is empty in the rows of all factories, so nothing is proven of it: fill it, or name it in `unfilled`."
        )
    few = (are_filled.index(True) if any(are_filled) else 0) + 1  # with one that leads somewhere
    of_few, _ = await count_statements(few)
    assert of_few == of_many, f"{type_name}.{name}: {of_few} statements for {few} parents, {of_many} for {PARENTS}"
