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
    known: set[str] = set()
    waiting = set(ids)
    seen: dict[str, list[dict[str, Any]]] = defaultdict(list)
    while waiting:
        batch = sorted(waiting)[:20]
        waiting -= set(batch)
        known |= set(batch)
        for found in await client.one("query($ids: [ID!]!) { nodes(ids: $ids) { __typename id } }", ids=batch):
            if found is None:  # deleted rows are reached by edge alone
                continue
            kind = found["__typename"]
            node = await client.one(
                f"query($id: ID!) {{ node(id: $id) {{ ... on {kind} {{ {selection.whole(core, kind, 2)} }} }} }}", id=found["id"]
            )
            seen[kind].append(node)
            waiting |= _ids(node) - known
    return seen


def _ids(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["id"]} if isinstance(value.get("id"), str) else set()
        return own.union(*(_ids(inner) for inner in value.values()))
    if isinstance(value, list):
        return set().union(*(_ids(inner) for inner in value))
    return set()
