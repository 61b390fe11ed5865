"""Every list of the graph is a keyset connection: each of its orders goes forward and backward, without a repeat or a gap."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from graphql import GraphQLEnumType

from graph.schema import schema
from tests.client import Client
from tests.house.test_statement_counts import PARENTS, ROOTS, filled_client

__all__ = ["filled_client"]  # a fixture is found by its name in the module


def orders(kind: str) -> list[str]:
    """The literals that `orderBy` takes for this list."""
    fields = schema._schema.type_map[f"{kind}OrderField"]
    assert isinstance(fields, GraphQLEnumType)
    wrap = "by: {{field: {}}}" if kind == "Run" else "field: {}"
    return [f"{{{wrap.format(name)}, direction: {direction}}}" for name in fields.values for direction in ("ASC", "DESC")]


@pytest.mark.parametrize(("root", "order"), [(root, order) for root, kind in ROOTS.items() for order in orders(kind)])
async def test_a_list_goes_both_ways_in_every_order(root: str, order: str, filled_client: Client) -> None:
    async def page(arguments: str) -> tuple[list[str], dict[str, str]]:
        query = f"{{ {root}({arguments}, orderBy: {order}) {{ pageInfo {{ startCursor endCursor }} edges {{ node {{ id }} }} }} }}"
        answer = await filled_client.one(query)
        return [edge["node"]["id"] for edge in answer["edges"]], answer["pageInfo"]

    all_ids, _ = await page("first: 100")
    assert len(set(all_ids)) == len(all_ids) >= PARENTS
    forward, at = await page("first: 4")
    while len(forward) < len(all_ids):
        more, at = await page(f'first: 4, after: "{at["endCursor"]}"')
        assert more
        forward += more
    backward, at = await page("last: 4")
    while len(backward) < len(all_ids):
        more, at = await page(f'last: 4, before: "{at["startCursor"]}"')
        assert more
        backward = more + backward
    assert forward == backward == all_ids


@pytest.mark.parametrize("root", ROOTS)
async def test_only_a_total_that_is_asked_for_is_counted(
    root: str, filled_client: Client, capture_statements: Callable[[], AbstractContextManager[list[str]]]
) -> None:
    with capture_statements() as plain:
        await filled_client.one(f"{{ {root}(first: 1) {{ edges {{ cursor }} }} }}")
    with capture_statements() as counted:
        answer = await filled_client.one(f"{{ {root}(first: 1) {{ totalCount edges {{ cursor }} }} }}")
    assert len(counted) - len(plain) == 1
    assert answer["totalCount"] >= PARENTS
