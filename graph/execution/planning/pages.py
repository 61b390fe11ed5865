"""The step of connections: pages under all objects of a level in one statement, and their counts in another."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import orjson
from graphql import GraphQLObjectType

from db.core.listing import Listing
from db.core.nested_text import NestedCount, NestedList
from db.core.page import Page
from db.core.record_page import PageParts, TextParts
from db.core.row_text import RowText, TextPart
from db.errors import Unavailable
from graph.core.edges import EdgeField, Paged, PageRequest
from graph.core.ids import column_of
from graph.core.loading import MAX_KEYS
from graph.core.paging import PageInfo
from graph.execution.planning.completion import complete
from graph.execution.planning.edges import EdgeStep, Target, read_keys
from graph.execution.planning.failures import Failure, FieldShape, Shape, merge_shapes
from graph.execution.planning.fields import Field, Run
from graph.execution.planning.leaves import complete_leaf
from graph.execution.planning.row_texts import NestedEdge, quote
from graph.execution.planning.selections import Level

Entries = Mapping[str, Field | str]  # the fields of a connection or of an edge; texts are `__typename`


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pages:
    """The rows of the pages of several parents, one after the other, the number in each, and whether rows follow and precede it.

    The rows are records with the columns `names`; if that is None, they are rows of the listing.
    """

    rows: Sequence[Any]
    lengths: Sequence[int]
    cursors: Sequence[str]
    ends: Sequence[tuple[bool, bool]]
    names: tuple[str, ...] | None

    def infos(self) -> list[PageInfo]:
        """The PageInfo of each page."""
        infos: list[PageInfo] = []
        start = 0
        for length, (has_next, has_previous) in zip(self.lengths, self.ends, strict=True):
            infos.append(PageInfo.of(Page((), self.cursors[start : start + length], has_next, has_previous)))
            start += length
        return infos


@dataclass(frozen=True, slots=True)
class TextPages:
    """The pages of several parents with the JSON texts of their rows."""

    pages: Sequence[Page]

    def infos(self) -> list[PageInfo]:
        """The PageInfo of each page."""
        return [PageInfo.of(page) for page in self.pages]


class EdgesPart(NamedTuple):
    """One selection of `edges`: what each edge has, with the target of every selection of `node`."""

    field: Field
    entries: Entries
    nodes: Mapping[str, Target]


def is_generic(type_: Any, generic: type[Any]) -> bool:
    """Whether an object type is a specialization of a generic type, such as DatasetConnection of Connection, or of one derived from it."""
    definition: Any = type_.extensions.get("strawberry-definition") if isinstance(type_, GraphQLObjectType) else None
    concrete_of = getattr(definition, "concrete_of", None)
    return concrete_of is not None and issubclass(concrete_of.origin, generic)


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
        self._has_pruned = "is_pruned" in selected
        targets = [target for part in self._edges for target in part.nodes.values()]
        self._is_recorded = all(target.names is not None for target in targets)  # else the selection needs instances
        self._parts = self._page_parts(targets)
        # If PostgreSQL can write the objects of the page. Of several selections of edges each has its own objects.
        self._template = targets[0].template if len(targets) == len(self._edges) == 1 else None
        self._edge_template = _edge_template(self._edges[0].entries) if self._template is not None else ""
        self.is_text = self._is_nested_text()
        self._fixed_request: PageRequest | None = None

    def _is_nested_text(self) -> bool:
        """Whether the connection can be written into the text of its parent: it has nothing but edges of nodes and the count."""
        is_plain = self._template is not None and self._edge_template.count("%s") == 1
        entries = {entry.strawberry_field.python_name for entry in self._entries.values() if isinstance(entry, Field)}
        return (
            entries <= {"edges", "total_count"}
            and (is_plain or (entries == {"total_count"} and not self._edges))
            and self._listing.parent is not None
            and self.attribute is not None
            and self.edge.scope is None
        )

    @property
    def written_steps(self) -> Sequence[NestedEdge]:
        return () if self._template is None else self._template.edges

    @property
    def has_fixed_text(self) -> bool:
        return self.field.has_fixed_arguments and (self._template is None or self._template.has_fixed_text)

    def text_parts(self, run: Run, arguments: dict[str, Any]) -> Sequence[TextPart] | None:
        """The connection as a part of its parent's text; see `NestedEdge`. Pages from a cursor on, or from the end, have none."""
        assert self.attribute is not None
        try:
            request = self._request(run)
        except Exception:  # noqa: BLE001 - it will be the error of the field
            return None
        page_slice = request.page_slice
        if page_slice.after is not None or page_slice.before is not None or page_slice.backward:
            return None
        key = column_of(self.attribute)
        edges: TextPart | None = None
        if self._template is not None:
            limit = f"limit_{len(arguments)}"
            arguments[limit] = page_slice.size
            row_text = self._template.nested_text(run, arguments)
            if row_text is None:
                return None
            before, after = self._edge_template.split("%s")
            edges = NestedList(self._listing, request.criteria, request.order, key, limit, row_text, before, after)
        parts: list[TextPart] = []
        separator = "{"
        for name, entry in self._entries.items():
            parts.append(f"{separator}{quote(name)}:")
            separator = ","
            if isinstance(entry, str):
                parts.append(quote(entry))
            elif entry.strawberry_field.python_name == "total_count":
                parts.append(NestedCount(self._listing, request.criteria, key))
            else:
                assert edges is not None
                parts.append(edges)
        return [*parts, "}"]

    def _page_parts(self, targets: Sequence[Target]) -> PageParts:
        """What the records of pages must have: for instances, all columns."""
        names = sorted({name for target in targets for name in target.names or ()}) if self._is_recorded else self._listing.columns
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

    @property
    def reads(self) -> str:
        part = " and ".join([*(["a page"] if self._has_page else []), *(["the count"] if self._has_count else [])]) or "nothing"
        return part if self._listing.parent is None else f"{part} by {self._listing.parent}"

    async def _values(self, run: Run, level: Level) -> Sequence[Any]:
        request = self._request(run)
        keys: list[Any] = [None] * len(level.sources) if self.attribute is None else level.keys(self.attribute)
        parents = list(dict.fromkeys(keys))
        pages: Pages | TextPages | Exception
        counts: Mapping[Any, int] | Exception
        pruned: Mapping[Any, bool] | Exception = {}
        if not self._has_count:
            pages, counts = await self._attempt_pages(run, parents, request), {}
        else:
            pages, counts = await asyncio.gather(
                self._attempt_pages(run, parents, request), _attempt(lambda: self._read_counts(run, parents, request))
            )
        if self._has_pruned:
            pruned = await _attempt(lambda: self._read_pruned(run, parents))
        connections = await self._connections(run, parents, pages, counts, pruned)
        if len(parents) == len(keys):
            return connections
        by_parent = dict(zip(parents, connections, strict=True))
        return [by_parent[key] for key in keys]

    def _request(self, run: Run) -> PageRequest:
        """The page that the arguments ask for. Raises `BadUserInput`."""
        request = self._fixed_request
        if request is None:
            request = self._declaration.request(self.field.python_arguments(run))
            if self.field.has_fixed_arguments:
                self._fixed_request = request
        return request

    async def _attempt_pages(self, run: Run, parents: list[Any], request: PageRequest) -> Pages | TextPages | Exception:
        if not self._has_page:
            return Pages((), (), (), (), names=None)
        template = self._template
        text = None if template is None else template.text(run)
        if template is not None and text is not None:
            text_pages = await _attempt(lambda: self._read_texts(run, parents, request, *text))
            if isinstance(text_pages, TextPages) and run.trace is not None:
                run.trace.add_written(template.edges, sum(len(page.rows) for page in text_pages.pages))
            # Where the statement has more than the page, only reading one after the other shows what has failed; not where PostgreSQL is away.
            if text_pages is not None and (isinstance(text_pages, TextPages | Unavailable) or not template.edges):
                return text_pages
        return await _attempt(lambda: self._read_pages(run, parents, request))

    async def _read_texts(
        self, run: Run, parents: list[Any], request: PageRequest, row_text: RowText, arguments: Mapping[str, Any]
    ) -> TextPages | None:
        """Read the pages as texts; None if a row has no text, and so a value that fails or that only a writer can write."""
        listing, viewer, database = self._listing, run.viewer, run.context.database
        parts = TextParts(row_text, arguments, self._parts.cursors, self._parts.ends)
        pages: list[Page] = []
        for start in range(0, len(parents), MAX_KEYS):
            chunk = await listing.text_pages(
                database, viewer, parents[start : start + MAX_KEYS], request.page_slice, request.criteria, request.order, parts
            )
            if chunk is None:
                return None
            pages += chunk
        return TextPages(pages)

    async def _read_pages(self, run: Run, parents: list[Any], request: PageRequest) -> Pages:
        """Read the pages of all parents, several thousand at a time."""
        listing, viewer, database = self._listing, run.viewer, run.context.database
        parts = self._parts
        chunks = [
            await listing.record_pages(
                database, viewer, parents[start : start + MAX_KEYS], request.page_slice, request.criteria, request.order, parts
            )
            for start in range(0, len(parents), MAX_KEYS)
        ]
        records: Sequence[Any] = chunks[0].records if len(chunks) == 1 else [record for chunk in chunks for record in chunk.records]
        return Pages(
            records if self._is_recorded else [listing.make_row(record) for record in records],
            [length for chunk in chunks for length in chunk.lengths],
            [cursor for chunk in chunks for cursor in chunk.cursors],
            [ends for chunk in chunks for ends in chunk.ends],
            names=parts.names if self._is_recorded else None,
        )

    async def _read_counts(self, run: Run, parents: list[Any], request: PageRequest) -> Mapping[Any, int]:
        viewer, database = run.viewer, run.context.database
        return await read_keys(lambda keys: self._listing.record_counts(database, viewer, keys, request.criteria), parents)

    async def _read_pruned(self, run: Run, parents: list[Any]) -> Mapping[Any, bool]:
        """Return whether entries were let go under each parent."""
        batch, viewer, database = self._declaration.pruned, run.viewer, run.context.database
        assert batch is not None
        pruned = await read_keys(lambda keys: batch(database, viewer, keys), parents)
        return {parent: parent in pruned for parent in parents}

    async def _connections(
        self,
        run: Run,
        parents: list[Any],
        pages: Pages | TextPages | Exception,
        counts: Mapping[Any, int] | Exception,
        pruned: Mapping[Any, bool] | Exception,
    ) -> list[dict[str, Any]]:
        columns: list[Sequence[Any]] = []
        edges = {part.field.name: part for part in self._edges}
        for name, entry in self._entries.items():
            if isinstance(entry, str):
                columns.append([entry] * len(parents))
            elif entry.strawberry_field.python_name == "total_count":
                columns.append(_complete_values(run, entry, counts, parents))
            elif entry.strawberry_field.python_name == "is_pruned":
                columns.append(_complete_values(run, entry, pruned, parents))
            elif isinstance(pages, Exception):
                columns.append([run.fail(pages, entry)] * len(parents))
            elif name in edges:
                part = edges[name]
                columns.append(
                    _edge_texts(self._edge_template, part, pages)
                    if isinstance(pages, TextPages)
                    else await self._edge_lists(run, part, pages)
                )
            else:
                columns.append(await complete(run, entry, entry.type, pages.infos()))
        return _objects(tuple(self._entries), columns, len(parents))

    async def _edge_lists(self, run: Run, part: EdgesPart, pages: Pages) -> list[Any]:
        """Return the list of edges of each page, or a failure where an entry cannot be made from its row."""
        rows, lengths, cursors = pages.rows, pages.lengths, pages.cursors
        failures: dict[int, Failure] = {}
        if pages.names is None:
            rows, lengths, cursors, failures = self._make_instances(run, part.field, pages)
        columns: list[Sequence[Any]] = []
        for name, entry in part.entries.items():
            if isinstance(entry, str):
                columns.append([entry] * len(rows))
            elif name not in part.nodes:
                columns.append(cursors)
            elif pages.names is not None:
                columns.append(await part.nodes[name].complete_records(run, rows, pages.names))
            else:
                columns.append(await complete(run, entry, entry.type, rows))
        flat = _objects(tuple(part.entries), columns, len(rows))
        lists: list[Any] = []
        start = 0
        for length in lengths:
            lists.append(flat[start : start + length])
            start += length
        for position, failure in failures.items():
            lists[position] = failure
        return lists

    def _make_instances(
        self, run: Run, field: Field, pages: Pages
    ) -> tuple[Sequence[Any], Sequence[int], Sequence[str], dict[int, Failure]]:
        """Return the entries of all pages as instances, and a failure for each page with a row that makes none."""
        instances: list[Any] = []
        lengths: list[int] = []
        cursors: list[str] = []
        failures: dict[int, Failure] = {}
        start = 0
        for position, length in enumerate(pages.lengths):
            end = start + length
            try:
                instances += [self.edge.make(row) for row in pages.rows[start:end]]
            except Exception as error:  # noqa: BLE001 - it becomes the error of this page's edges
                failures[position] = run.fail(error, field)
                lengths.append(0)
            else:
                cursors += pages.cursors[start:end]
                lengths.append(length)
            start = end
        return instances, lengths, cursors, failures


def _edge_template(entries: Entries) -> str:
    """The JSON of an edge with %s for each cursor and node."""
    fields = [f"{quote(name)}:{quote(entry) if isinstance(entry, str) else '%s'}" for name, entry in entries.items()]
    return f"{{{','.join(fields)}}}"  # names have no per cent sign


def _edge_texts(template: str, part: EdgesPart, pages: TextPages) -> list[Any]:
    """Return the list of edges of each page as JSON."""
    if template.count("%s") == 1:
        before, after = template.split("%s")
        separator = f"{after},{before}"
        return [orjson.Fragment(f"[{before}{separator.join(page.rows)}{after}]" if page.rows else "[]") for page in pages.pages]
    lists: list[Any] = []
    for page in pages.pages:
        cursors = [f'"{cursor}"' for cursor in page.cursors]
        values = [page.rows if name in part.nodes else cursors for name, entry in part.entries.items() if not isinstance(entry, str)]
        lists.append(orjson.Fragment(f"[{','.join([template % row for row in zip(*values, strict=True)])}]"))
    return lists


def _objects(names: tuple[str, ...], columns: Sequence[Sequence[Any]], count: int) -> list[dict[str, Any]]:
    """Return `count` objects with these fields, of which each column has the values."""
    if len(names) == 1:
        (name,) = names
        return [{name: value} for value in columns[0]]
    if not names:
        return [{} for _ in range(count)]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


async def _attempt(read: Callable[[], Awaitable[T]]) -> T | Exception:
    """Return the result, or the exception: it is an error of the fields of the connection, and not of the connection itself."""
    try:
        return await read()
    except Exception as error:  # noqa: BLE001 - as above
        return error


def _complete_values(run: Run, field: Field, values: Mapping[Any, Any] | Exception, keys: Sequence[Any]) -> Sequence[Any]:
    if isinstance(values, Exception):
        return [run.fail(values, field)] * len(keys)
    return [complete_leaf(run, field, field.named_type, values[key], is_non_null=field.is_non_null) for key in keys]
