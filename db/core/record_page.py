"""Pages of records: the statements of `db.core.page`, prepared once for all viewers with the same rights and all positions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Uuid, any_, bindparam, func, select, true

from db.core.page import (
    ROW_KEY,
    SORT_KEY,
    Page,
    Position,
    Slice,
    Sort,
    across_accounts,
    between,
    decode_cursor,
    empty_page,
    encode_cursor,
    make_page,
    under_parents,
    unnested,
)
from db.core.policy import OneAccount, lists_by_account
from db.core.prepared import SELECTS, PreparedSelect, Record, pick_columns
from db.core.row_text import RowText
from db.core.sql import Column, Rows
from db.core.viewer import Viewer
from db.core.work import Database

_PARENTS, _PARENT, _LIMIT = "page_parents", "page_parent", "page_limit"
_AFTER, _AFTER_KEY, _BEFORE, _BEFORE_KEY = "after_value", "after_key", "before_value", "before_key"
NO_ARGUMENTS: Mapping[str, Any] = {}
_ARGUMENTS = frozenset({_PARENTS, _PARENT, _LIMIT, _AFTER, _AFTER_KEY, _BEFORE, _BEFORE_KEY})


@dataclass(frozen=True, slots=True)
class PageParts:
    """The parts of pages that are wanted: columns, the cursors of all rows, and whether there are rows before and after."""

    names: tuple[str, ...]
    cursors: bool
    ends: bool


@dataclass(frozen=True, slots=True)
class TextParts:
    """The parts of pages of texts that are wanted: what is written for each row, the cursors of all rows, and whether there are rows around.

    `arguments` are the parameters of the texts, such as the lengths of lists in them.
    """

    row_text: RowText
    arguments: Mapping[str, Any]
    cursors: bool
    ends: bool


@dataclass(frozen=True, slots=True)
class PageSource:
    """A list, or one list per parent. `key` stands for its statement and order: sources with equal keys have equal ones.

    `arguments` are the values of further named parameters of the statement. `for_values`: its best plan depends on how frequent its
    values are, as that of a filtered list.
    """

    key: tuple[Any, ...]
    statement: Callable[[Viewer], Rows]
    sort: Callable[[], Sort]
    parent: Column | None
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    for_values: bool = False


@dataclass(frozen=True, slots=True)
class RecordPages:
    """The pages under several parents, one after the other: `lengths` has the number of records of each, `cursors` those of all records.

    `ends` has whether there are rows after and before each page. Cursors and ends are empty if they were not wanted.
    """

    records: Sequence[Record]
    lengths: Sequence[int]
    cursors: Sequence[str] = ()
    ends: Sequence[tuple[bool, bool]] = ()

    @classmethod
    def of(cls, pages: Sequence[Page], *, ends: bool) -> RecordPages:
        """These pages of records, one after the other."""
        return cls(
            [record for page in pages for record in page.rows],
            [len(page.rows) for page in pages],
            [cursor for page in pages for cursor in page.cursors],
            [(page.has_next, page.has_previous) for page in pages] if ends else (),
        )

    def split(self) -> list[Page]:
        """Each page for itself; they have to have ends."""
        pages: list[Page] = []
        start = 0
        for length, (has_next, has_previous) in zip(self.lengths, self.ends, strict=True):
            end = start + length
            pages.append(Page(self.records[start:end], self.cursors[start:end], has_next, has_previous))
            start = end
        return pages


async def record_pages(
    database: Database, viewer: Viewer, source: PageSource, parents: Sequence[UUID], page_slice: Slice, parts: PageParts
) -> RecordPages:
    """The same page under each of the parents, in their order, or the one of a list without parents. Raises `InvalidCursor`.

    One parent has a statement of its own, as one key of a batch has.
    """
    prepared, values, sort = _prepare(viewer, source, parents, page_slice, parts, None)
    records = await database.records(prepared, values)
    lengths = [len(records)] if source.parent is None or len(parents) == 1 else _lengths(records, len(parents))
    if not (parts.cursors or parts.ends or page_slice.backward):
        return RecordPages(records, lengths)
    cursor_of = _cursor_of(sort, len(parts.names)) if parts.cursors and sort is not None else None
    pages: list[Page] = []
    start = 0
    for length in lengths:
        pages.append(
            make_page(records[start : start + length], page_slice, cursor_of) if length or source.parent is None else empty_page(page_slice)
        )
        start += length
    return RecordPages.of(pages, ends=parts.ends)


def _prepare(
    viewer: Viewer,
    source: PageSource,
    parents: Sequence[UUID],
    page_slice: Slice,
    parts: PageParts,
    text: TextParts | None,
) -> tuple[PreparedSelect, list[Any], Sort | None]:
    """The select of pages with the values of its parameters, and the sort if cursors are read or made. Raises `InvalidCursor`."""
    sort = source.sort() if parts.cursors or page_slice.after is not None or page_slice.before is not None else None
    row_text, text_arguments = (None, NO_ARGUMENTS) if text is None else (text.row_text, text.arguments)
    arguments: dict[str, Any] = {**source.arguments, **text_arguments, **_parent_arguments(parents), _LIMIT: page_slice.size + parts.ends}
    has_one_parent = len(parents) == 1
    nulls = [
        _set_position(arguments, sort, *names)
        for names in ((page_slice.after, _AFTER, _AFTER_KEY), (page_slice.before, _BEFORE, _BEFORE_KEY))
    ]
    prepared = SELECTS.get(
        (*source.key, parts.names, parts.cursors, row_text, page_slice.backward, has_one_parent, *nulls),
        viewer,
        lambda viewer: _statement(source, viewer, page_slice, parts, nulls, row_text, has_one_parent=has_one_parent),
        _ARGUMENTS | source.arguments.keys() | text_arguments.keys(),
        for_values=source.for_values or (row_text is not None and row_text.for_values),
        count_rows=len if row_text is None else _count_texts,
    )
    return prepared, prepared.values(viewer, arguments), sort


async def text_pages(
    database: Database, viewer: Viewer, source: PageSource, parents: Sequence[UUID], page_slice: Slice, text: TextParts
) -> list[Page] | None:
    """The same as `record_pages`, with the JSON texts of rows in place of the rows; None if a row has none. Raises `InvalidCursor`.

    PostgreSQL gathers the texts of each page, so that there is one record a parent.
    """
    parts = PageParts(text.row_text.names, cursors=text.cursors, ends=text.ends)
    prepared, values, sort = _prepare(viewer, source, parents, page_slice, parts, text)
    records = await database.records(prepared, values)
    if any(None in record[0] for record in records if record[0]):
        return None
    if text.cursors and sort is not None:
        cursor_of = _cursor_of(sort, 1)
        rows = (list(zip(*record, strict=True)) if record[0] else [] for record in records)
        pages = [make_page(page_rows, page_slice, cursor_of) for page_rows in rows]
        return [Page([row[0] for row in page.rows], page.cursors, page.has_next, page.has_previous) for page in pages]
    if text.ends or page_slice.backward:
        return [make_page(record[0] or (), page_slice, None) for record in records]
    return [Page(record[0] or (), (), has_next=False, has_previous=False) for record in records]


def _count_texts(records: Sequence[Record]) -> int:
    return sum(len(record[0]) for record in records if record[0])


def _lengths(records: Sequence[Record], parents: int) -> list[int]:
    """The number of records of each parent; the last value of a record is the parent's position, from 1."""
    lengths = [0] * parents
    for record in records:
        lengths[record[-1] - 1] += 1
    return lengths


def _cursor_of(sort: Sort, position: int) -> Callable[[Record], str]:
    """Make cursors from the sort value at a position of records, and the row's key behind it."""
    return lambda record: encode_cursor(sort, record[position], record[position + 1])


def _set_position(arguments: dict[str, Any], sort: Sort | None, cursor: str | None, value_name: str, key_name: str) -> bool | None:
    """Add the position of a cursor to the arguments. Return whether its sort value is null; None without a cursor."""
    if cursor is None or sort is None:
        return None
    value, arguments[key_name] = decode_cursor(sort, cursor)
    if value is not None:
        arguments[value_name] = value
    return value is None


def _parent_arguments(parents: Sequence[Any]) -> dict[str, Any]:
    return {_PARENT: parents[0]} if len(parents) == 1 else {_PARENTS: parents}


def _statement(
    source: PageSource,
    viewer: Viewer,
    page_slice: Slice,
    parts: PageParts,
    nulls: Sequence[bool | None],
    row_text: RowText | None,
    *,
    has_one_parent: bool,
) -> Rows:
    sort = source.sort()
    after = _position(sort, nulls[0], _AFTER, _AFTER_KEY)
    before = _position(sort, nulls[1], _BEFORE, _BEFORE_KEY)
    selected = [*parts.names, *((SORT_KEY, ROW_KEY) if parts.cursors else ())]
    limit = bindparam(_LIMIT, type_=BigInteger)

    def rows_of(viewer: Viewer, parent: Any = None) -> Rows:
        base = source.statement(viewer)
        columns = pick_columns(base, parts.names)
        statement = base.with_only_columns(*columns, sort.column.label(SORT_KEY), sort.key.label(ROW_KEY), maintain_column_froms=True)
        if parent is not None:
            statement = statement.where(source.parent == parent)
        return between(statement, sort, after, before, backward=page_slice.backward).limit(limit)

    def rows_of_list(columns: Sequence[str]) -> Rows:
        if lists_by_account(source.statement, viewer):
            return across_accounts(
                lambda account: rows_of(OneAccount.of(viewer, account)), viewer.accounts, sort, page_slice, limit, columns
            )
        return rows_of(viewer)

    if source.parent is None:
        return (
            rows_of_list(selected)
            if row_text is None
            else _gathered(rows_of_list([*parts.names, SORT_KEY, ROW_KEY]), row_text, parts, viewer)
        )
    if has_one_parent:
        page_of_parent = rows_of(viewer, bindparam(_PARENT, type_=Uuid))
        return page_of_parent if row_text is None else _gathered(page_of_parent, row_text, parts, viewer)
    parents = bindparam(_PARENTS, type_=ARRAY(Uuid))
    if row_text is None:
        return under_parents(lambda parent: rows_of(viewer, parent), parents, sort, page_slice, selected)
    parent_rows = unnested(parents)
    page = _gathered(rows_of(viewer, parent_rows.c.parent).correlate(parent_rows), row_text, parts, viewer).lateral("gathered")
    return select(*page.c).select_from(parent_rows.join(page, true())).order_by(parent_rows.c.position)


def _gathered(rows: Rows, row_text: RowText, parts: PageParts, viewer: Viewer) -> Rows:
    """The arrays of the texts of a page and, if there are cursors, of its sort values and keys; of a page without rows they are NULL.

    An aggregate takes the rows of a subquery in their order.
    """
    page = rows.subquery("page")
    arrays = [row_text.sql(page, viewer), *((page.c[SORT_KEY], page.c[ROW_KEY]) if parts.cursors else ())]
    return select(*(func.array_agg(value).label(f"values_{position}") for position, value in enumerate(arrays))).select_from(page)


def _position(sort: Sort, is_null: bool | None, value_name: str, key_name: str) -> Position | None:
    if is_null is None:
        return None
    value = None if is_null else sort.parameter(value_name)
    return Position(value, bindparam(key_name, type_=sort.key.type))


async def record_counts(database: Database, viewer: Viewer, source: PageSource, parents: Sequence[UUID]) -> Mapping[Any, int]:
    """The number of rows under each of the parents; of a list without parents under None."""
    has_one_parent = len(parents) == 1

    def statement(viewer: Viewer) -> Rows:
        base = source.statement(viewer)
        if source.parent is None:
            return base.with_only_columns(func.count(), maintain_column_froms=True)
        if has_one_parent:
            return base.with_only_columns(func.count(), maintain_column_froms=True).where(source.parent == bindparam(_PARENT, type_=Uuid))
        counts = base.with_only_columns(source.parent.label("parent"), func.count(), maintain_column_froms=True)
        return counts.where(source.parent == any_(bindparam(_PARENTS, type_=ARRAY(Uuid)))).group_by(source.parent)

    select = SELECTS.get((*source.key, "count", has_one_parent), viewer, statement, _ARGUMENTS, for_values=source.for_values)
    records = await database.records(select, select.values(viewer, _parent_arguments(parents)))
    if source.parent is None:
        return {None: records[0][0]}
    if has_one_parent:
        return {parents[0]: records[0][0]}
    counts = {record[0]: record[1] for record in records}
    return {key: counts.get(key, 0) for key in parents}
