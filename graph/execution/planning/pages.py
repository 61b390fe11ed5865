"""The step of connections: pages under all objects of a level in one statement, and their counts in another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from graphql import GraphQLObjectType

from db.core.listing import Listing
from db.core.page import Page
from db.core.record_page import PageParts
from graph.core.edges import EdgeField, Paged, PageRequest
from graph.core.paging import PageInfo
from graph.execution.planning.completion import complete
from graph.execution.planning.edges import EdgeStep, Target, read_keys
from graph.execution.planning.failures import Failure, FieldShape, Shape, merge_shapes
from graph.execution.planning.fields import Field, Run
from graph.execution.planning.leaves import complete_leaf
from graph.execution.planning.selections import Level

Entries = Mapping[str, Field | str]  # the fields of a connection or of an edge; texts are `__typename`


class EdgesPart(NamedTuple):
    """One selection of `edges`: what each edge has, with the target of every selection of `node`."""

    field: Field
    entries: Entries
    nodes: Mapping[str, Target]


def is_generic(type_: Any, generic: type[Any]) -> bool:
    """Whether an object type is a specialization of a generic type, such as DatasetConnection of Connection."""
    definition: Any = type_.extensions.get("strawberry-definition") if isinstance(type_, GraphQLObjectType) else None
    concrete_of = getattr(definition, "concrete_of", None)
    return concrete_of is not None and concrete_of.origin is generic


class PagedStep(EdgeStep):
    """A page of a listing. `entries` are the fields of the connection."""

    def __init__(self, field: Field, edge: EdgeField, declaration: Paged, entries: Entries, edges: Sequence[tuple[Field, Entries]]) -> None:
        super().__init__(field, edge, declaration.key)
        listing: Listing = declaration.listing
        self._declaration = declaration
        self._listing = listing
        self._entries = entries
        self._edges = [
            EdgesPart(
                edges_field,
                edge_entries,
                {
                    name: Target(entry, edge, listing, entry.selection(entry.named_type))
                    for name, entry in edge_entries.items()
                    if isinstance(entry, Field) and entry.strawberry_field.python_name == "node"
                },
            )
            for edges_field, edge_entries in edges
        ]
        selected = {entry.strawberry_field.python_name for entry in entries.values() if isinstance(entry, Field)}
        self._has_page, self._has_count = bool(selected & {"edges", "page_info"}), "total_count" in selected
        self._parts = self._page_parts()
        self._fixed_request: PageRequest | None = None

    def _page_parts(self) -> PageParts | None:
        """What records must have; None if instances are needed."""
        targets = [target for part in self._edges for target in part.nodes.values()]
        if any(target.names is None for target in targets):
            return None
        names = sorted({name for target in targets for name in target.names or ()})
        infos = [
            entry for entry in self._entries.values() if isinstance(entry, Field) and entry.strawberry_field.python_name == "page_info"
        ]
        info_fields = {name for info in infos for name in info.selection(info.named_type).leaf_attributes()}
        edge_fields = {
            entry.strawberry_field.python_name for part in self._edges for entry in part.entries.values() if isinstance(entry, Field)
        }
        has_cursors = "cursor" in edge_fields or bool(info_fields & {"start_cursor", "end_cursor"})
        return PageParts(tuple(names), cursors=has_cursors, ends=bool(infos))

    @property
    def shape(self) -> Shape | None:
        fields: dict[str, FieldShape] = {}
        edges = {part.field.name: part for part in self._edges}
        for name, entry in self._entries.items():
            if isinstance(entry, str):
                fields[name] = FieldShape(None, None)
            elif name in edges:
                part = edges[name]
                edge_fields = {
                    edge_name: FieldShape(None, None) if isinstance(edge_entry, str) else FieldShape(edge_entry.type, edge_entry.shape)
                    for edge_name, edge_entry in part.entries.items()
                }
                merge_shapes(fields, Shape({name: FieldShape(entry.type, Shape(edge_fields))}))
            else:
                fields[name] = FieldShape(entry.type, entry.shape)
        return Shape(fields)

    async def _values(self, run: Run, level: Level) -> Sequence[Any]:
        request = self._fixed_request
        if request is None:
            request = self._declaration.request(self.field.python_arguments(run))
            if self.field.has_fixed_arguments:
                self._fixed_request = request
        keys: list[Any] = [None] * len(level.sources) if self.attribute is None else level.keys(self.attribute)
        parents = list(dict.fromkeys(keys))
        is_recorded = self._parts is not None and self._listing.has_records(request.order)
        pages, counts = await asyncio.gather(
            _attempt(lambda: self._read_pages(run, parents, request, is_recorded=is_recorded), needed=self._has_page),
            _attempt(lambda: self._read_counts(run, parents, request), needed=self._has_count),
        )
        connections = await self._connections(run, parents, pages, counts, is_recorded=is_recorded)
        by_parent = dict(zip(parents, connections, strict=True))
        return connections if len(parents) == len(keys) else [by_parent[key] for key in keys]

    async def _read_pages(self, run: Run, parents: list[Any], request: PageRequest, *, is_recorded: bool) -> Mapping[Any, Page]:
        listing, viewer, database = self._listing, run.viewer, run.context.database
        parts = self._parts

        async def read(keys: Sequence[Any]) -> Mapping[Any, Page]:
            if is_recorded and parts is not None:
                return await listing.record_pages(database, viewer, keys, request.page_slice, request.criteria, request.order, parts)
            if listing.parent is None:
                return {None: await listing.page(database, viewer, request.page_slice, request.criteria, request.order)}
            return await listing.pages(database, viewer, keys, request.page_slice, request.criteria, request.order)

        return await read_keys(read, parents)

    async def _read_counts(self, run: Run, parents: list[Any], request: PageRequest) -> Mapping[Any, int]:
        viewer, database = run.viewer, run.context.database
        return await read_keys(lambda keys: self._listing.record_counts(database, viewer, keys, request.criteria), parents)

    async def _connections(
        self,
        run: Run,
        parents: list[Any],
        pages: Mapping[Any, Page] | Exception,
        counts: Mapping[Any, int] | Exception,
        *,
        is_recorded: bool,
    ) -> list[dict[str, Any]]:
        connections: list[dict[str, Any]] = [
            {name: entry if isinstance(entry, str) else None for name, entry in self._entries.items()} for _ in parents
        ]
        edges = {part.field.name: part for part in self._edges}
        for name, entry in self._entries.items():
            if isinstance(entry, str):
                continue
            values: Sequence[Any]
            if entry.strawberry_field.python_name == "total_count":
                values = _complete_counts(run, entry, counts, parents)
            elif isinstance(pages, Exception):
                values = [run.fail(pages, entry)] * len(parents)
            elif name in edges:
                values = await self._edge_lists(run, edges[name], [pages[key] for key in parents], is_recorded=is_recorded)
            else:
                values = await complete(run, entry, entry.type, [PageInfo.of(pages[key]) for key in parents])
            for connection, value in zip(connections, values, strict=True):
                connection[name] = value
        return connections

    async def _edge_lists(self, run: Run, part: EdgesPart, pages: Sequence[Page], *, is_recorded: bool) -> list[Any]:
        """Return the list of edges of each page, or a failure where an entry cannot be made from its row."""
        failures: dict[int, Failure] = {}
        rows: list[Any] = []
        lengths: list[int] = []
        for position, page in enumerate(pages):
            page_rows: Sequence[Any] = page.rows
            if not is_recorded:
                try:
                    page_rows = [self.edge.make(row) for row in page.rows]
                except Exception as error:  # noqa: BLE001 - it becomes the error of this page's edges
                    failures[position], page_rows = run.fail(error, part.field), ()
            lengths.append(len(page_rows))
            rows += page_rows
        cursors = [cursor for position, page in enumerate(pages) if position not in failures for cursor in page.cursors]
        columns = [
            await self._edge_column(run, part, name, entry, rows, cursors, is_recorded=is_recorded) for name, entry in part.entries.items()
        ]
        flat: list[dict[str, Any]] = [{} for _ in rows]
        for name, values in zip(part.entries, columns, strict=True):
            for edge, value in zip(flat, values, strict=True):
                edge[name] = value
        lists: list[Any] = []
        start = 0
        for position, length in enumerate(lengths):
            lists.append(failures.get(position) or flat[start : start + length])
            start += length
        return lists

    async def _edge_column(
        self, run: Run, part: EdgesPart, name: str, entry: Field | str, rows: Sequence[Any], cursors: Sequence[str], *, is_recorded: bool
    ) -> Sequence[Any]:
        """Return one field of all edges."""
        if isinstance(entry, str):
            return [entry] * len(rows)
        if name not in part.nodes:
            return cursors
        if is_recorded and self._parts is not None:
            return await part.nodes[name].complete_records(run, rows, self._parts.names)
        return await complete(run, entry, entry.type, rows)


async def _attempt(read: Callable[[], Awaitable[Mapping[Any, Any]]], *, needed: bool) -> Mapping[Any, Any] | Exception:
    """Return the result, or the exception: it is an error of the fields of the connection, and not of the connection itself."""
    if not needed:
        return {}
    try:
        return await read()
    except Exception as error:  # noqa: BLE001 - as above
        return error


def _complete_counts(run: Run, field: Field, counts: Mapping[Any, int] | Exception, keys: Sequence[Any]) -> Sequence[Any]:
    if isinstance(counts, Exception):
        return [run.fail(counts, field)] * len(keys)
    return [complete_leaf(run, field, field.named_type, counts[key], is_non_null=field.is_non_null) for key in keys]
