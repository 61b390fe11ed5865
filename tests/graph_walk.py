"""Paths through the graph: from ids to every node that they lead to, and from the root lists to nodes of one type."""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from graphql import (
    GraphQLList,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    get_named_type,
    get_nullable_type,
)

from graph.schema import schema
from tests import selection
from tests.client import Client

AT_ONCE = 4  # nodes that one operation reads with all fields
LONGEST_PATH = 12  # maximum cost of a path, see `paths`: a page within a page, and two edges


async def walk(client: Client, ids: Iterable[str], *, follows: bool = True) -> dict[str, list[dict[str, Any]]]:
    """Read the nodes with these ids, and those that they lead to unless it `follows` none, each with all its fields; return them by type."""
    requested: set[str] = set()
    pending = set(ids)
    nodes_by_type: dict[str, list[dict[str, Any]]] = defaultdict(list)
    while pending:
        batch = sorted(pending)[:100]
        pending -= set(batch)
        requested |= set(batch)
        ids_by_type: dict[str, list[str]] = defaultdict(list)
        for reference in await client.one("query($ids: [ID!]!) { nodes(ids: $ids) { __typename id } }", ids=batch):
            if reference is not None:  # deleted rows have an edge to them but no node
                ids_by_type[reference["__typename"]].append(reference["id"])
        for type_name, typed in ids_by_type.items():
            chosen = selection.all_fields(schema._schema, type_name, 2)
            query = f"query($ids: [ID!]!) {{ nodes(ids: $ids) {{ ... on {type_name} {{ {chosen} }} }} }}"
            for first in range(0, len(typed), AT_ONCE):
                nodes = await client.one(query, ids=typed[first : first + AT_ONCE])
                nodes_by_type[type_name] += nodes
                if follows:
                    pending |= _ids(nodes) - requested
    return nodes_by_type


def _ids(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["id"]} if isinstance(value.get("id"), str) else set()
        return own.union(*(_ids(inner) for inner in value.values()))
    if isinstance(value, list):
        return set().union(*(_ids(inner) for inner in value))
    return set()


@dataclass(frozen=True)
class Path:
    """A path from a root list to nodes of one type, as nested selections; the root list comes first."""

    root: str
    steps: tuple[str, ...] = ()

    def query(self, inner: str, first: int) -> str:
        """Return an operation that selects `inner` of the nodes behind the first entries of the list."""
        parts = [f"{self.root}(first: {first})", "edges", "node", *self.steps]
        return f"{{ {' { '.join(parts)} {{ {inner} }} {'} ' * len(parts)}"

    def targets(self, page: Any) -> list[dict[str, Any]]:
        """Return the nodes at the end of the path in the result of `query`."""
        values: list[Any] = [page]
        for step in ("edges", "node", *self.steps):
            if not step.startswith("..."):
                values = [value[step.partition("(")[0]] for value in values]
                values = [entry for value in values for entry in (value if isinstance(value, list) else [value]) if entry]
        return values

    def __str__(self) -> str:
        return ".".join((self.root, *self.steps))


def paths(core: GraphQLSchema, type_name: str) -> Iterator[Path]:
    """Yield paths from the root lists to the nodes of a type by increasing cost: an edge costs less than a list, a list less than a page."""
    leading = _leading_to(core, type_name)  # of the others, all ways would be tried
    order = itertools.count()
    heap: list[tuple[int, int, GraphQLObjectType, Path, frozenset[str]]] = []
    for root, node in selection.root_lists(core).items():
        heapq.heappush(heap, (0, next(order), node, Path(root), frozenset({node.name})))
    while heap:
        cost, _, here, path, visited = heapq.heappop(heap)
        if here.name == type_name:
            yield path
            continue
        for name in here.fields:
            for extra, steps, there in _steps(core, here, name):
                if there.name in leading and there.name not in visited and cost + extra <= LONGEST_PATH:
                    further = Path(path.root, (*path.steps, *steps))
                    heapq.heappush(heap, (cost + extra, next(order), there, further, visited | {there.name}))


def _leading_to(core: GraphQLSchema, type_name: str) -> set[str]:
    """The names of the types that lead to a type, itself among them."""
    found, pending = {type_name}, [type_name]
    while pending:
        new = _parents(core)[pending.pop()] - found
        found |= new
        pending += new
    return found


@cache
def _parents(core: GraphQLSchema) -> defaultdict[str, set[str]]:
    """The names of the types that have a field of a type."""
    parents: defaultdict[str, set[str]] = defaultdict(set)
    for here in core.type_map.values():
        if isinstance(here, GraphQLObjectType):
            for name in here.fields:
                for _, _, there in _steps(core, here, name):
                    parents[there.name].add(here.name)
    return parents


def _steps(core: GraphQLSchema, here: GraphQLObjectType, name: str) -> Iterator[tuple[int, tuple[str, ...], GraphQLObjectType]]:
    """Yield where a field leads, its cost and its selection."""
    if selection.missing_arguments(here, name):
        return
    field = here.fields[name]
    field_text = f"{name}{selection.arguments_text(here, name, first=1)}"
    listed = selection.connected_type(field)
    named_type: GraphQLNamedType = get_named_type(field.type)
    if listed is not None:
        yield 5, (field_text, "edges", "node"), listed
    elif isinstance(named_type, GraphQLUnionType):
        for member in named_type.types:
            yield 4, (field_text, f"... on {member.name}"), member
    elif isinstance(named_type, GraphQLObjectType):
        yield 3 if isinstance(get_nullable_type(field.type), GraphQLList) else 1, (field_text,), named_type
