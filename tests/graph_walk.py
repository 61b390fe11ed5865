"""From a few ids to every node that can be reached from them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from graph.schema import schema
from tests import selection
from tests.client import Client


async def walk(client: Client, ids: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """Every node that can be reached from `ids`, each with all its fields, by type."""
    core = schema._schema
    requested: set[str] = set()
    pending = set(ids)
    nodes_by_type: dict[str, list[dict[str, Any]]] = defaultdict(list)
    while pending:
        batch = sorted(pending)[:20]
        pending -= set(batch)
        requested |= set(batch)
        for reference in await client.one("query($ids: [ID!]!) { nodes(ids: $ids) { __typename id } }", ids=batch):
            if reference is None:  # deleted rows are reached by edge alone
                continue
            type_name = reference["__typename"]
            node = await client.one(
                f"query($id: ID!) {{ node(id: $id) {{ ... on {type_name} {{ {selection.all_fields(core, type_name, 2)} }} }} }}",
                id=reference["id"],
            )
            nodes_by_type[type_name].append(node)
            pending |= _ids(node) - requested
    return nodes_by_type


def _ids(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["id"]} if isinstance(value.get("id"), str) else set()
        return own.union(*(_ids(inner) for inner in value.values()))
    if isinstance(value, list):
        return set().union(*(_ids(inner) for inner in value))
    return set()
