"""Pages of records: the statements of `db.core.page`, prepared once for all viewers with the same rights and all positions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Uuid, any_, bindparam, func

from db.core.page import (
    ROW_KEY,
    SORT_KEY,
    Page,
    Position,
    Slice,
    Sort,
    between,
    decode_cursor,
    empty_page,
    encode_cursor,
    make_page,
    under_parents,
)
from db.core.prepared import SELECTS, Record, pick_columns
from db.core.sql import Column, Rows
from db.core.viewer import Viewer
from db.core.work import Database

_PARENTS, _LIMIT = "page_parents", "page_limit"
_AFTER, _AFTER_KEY, _BEFORE, _BEFORE_KEY = "after_value", "after_key", "before_value", "before_key"
_ARGUMENTS = frozenset({_PARENTS, _LIMIT, _AFTER, _AFTER_KEY, _BEFORE, _BEFORE_KEY})


@dataclass(frozen=True, slots=True)
class PageParts:
    """The parts of pages that are wanted: columns, the cursors of all rows, and whether there are rows before and after."""

    names: tuple[str, ...]
    cursors: bool
    ends: bool


@dataclass(frozen=True, slots=True)
class PageSource:
    """A list, or one list per parent. `key` stands for its statement and order: sources with equal keys have equal ones."""

    key: tuple[Any, ...]
    statement: Callable[[Viewer], Rows]
    sort: Callable[[], Sort]
    parent: Column | None


async def record_pages(
    database: Database, viewer: Viewer, source: PageSource, parents: Sequence[UUID], page_slice: Slice, parts: PageParts
) -> Mapping[Any, Page]:
    """The same page under each of the parents; of a list without parents under None. The rows of the pages are records.

    Raises `InvalidCursor`.
    """
    sort = source.sort() if parts.cursors or page_slice.after is not None or page_slice.before is not None else None
    arguments: dict[str, Any] = {_PARENTS: parents, _LIMIT: page_slice.size + parts.ends}
    nulls = [
        _set_position(arguments, sort, *names)
        for names in ((page_slice.after, _AFTER, _AFTER_KEY), (page_slice.before, _BEFORE, _BEFORE_KEY))
    ]
    key = (*source.key, parts.names, parts.cursors, page_slice.backward, *nulls)
    select = SELECTS.get(key, viewer, lambda viewer: _statement(source, viewer, page_slice, parts, nulls), _ARGUMENTS)
    records = await database.records(select, select.values(viewer, arguments))
    cursor_of = _cursor_of(sort, len(parts.names)) if parts.cursors and sort is not None else None
    if source.parent is None:
        return {None: make_page(records, page_slice, cursor_of)}
    grouped: dict[UUID, list[Record]] = {}
    for record in records:
        parent = record[-1]
        if parent in grouped:
            grouped[parent].append(record)
        else:
            grouped[parent] = [record]
    return {key: make_page(grouped[key], page_slice, cursor_of) if key in grouped else empty_page(page_slice) for key in parents}


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


def _statement(source: PageSource, viewer: Viewer, page_slice: Slice, parts: PageParts, nulls: Sequence[bool | None]) -> Rows:
    sort = source.sort()
    after = _position(sort, nulls[0], _AFTER, _AFTER_KEY)
    before = _position(sort, nulls[1], _BEFORE, _BEFORE_KEY)
    base = source.statement(viewer)
    columns = pick_columns(base, parts.names)
    selected = [*parts.names, *((SORT_KEY, ROW_KEY) if parts.cursors else ())]

    def rows_of(parent: Any) -> Rows:
        statement = base.with_only_columns(*columns, sort.column.label(SORT_KEY), sort.key.label(ROW_KEY), maintain_column_froms=True)
        if parent is not None:
            statement = statement.where(source.parent == parent)
        return between(statement, sort, after, before, backward=page_slice.backward).limit(bindparam(_LIMIT, type_=BigInteger))

    if source.parent is None:
        return rows_of(None)
    return under_parents(rows_of, bindparam(_PARENTS, type_=ARRAY(Uuid)), sort, page_slice, selected)


def _position(sort: Sort, is_null: bool | None, value_name: str, key_name: str) -> Position | None:
    if is_null is None:
        return None
    value = None if is_null else bindparam(value_name, type_=sort.column.type)
    return Position(value, bindparam(key_name, type_=sort.key.type))


async def record_counts(database: Database, viewer: Viewer, source: PageSource, parents: Sequence[UUID]) -> Mapping[Any, int]:
    """The number of rows under each of the parents; of a list without parents under None."""

    def statement(viewer: Viewer) -> Rows:
        base = source.statement(viewer)
        if source.parent is None:
            return base.with_only_columns(func.count(), maintain_column_froms=True)
        counts = base.with_only_columns(source.parent.label("parent"), func.count(), maintain_column_froms=True)
        return counts.where(source.parent == any_(bindparam(_PARENTS, type_=ARRAY(Uuid)))).group_by(source.parent)

    select = SELECTS.get((*source.key, "count"), viewer, statement, _ARGUMENTS)
    records = await database.records(select, select.values(viewer, {_PARENTS: parents}))
    if source.parent is None:
        return {None: records[0][0]}
    counts = {record[0]: record[1] for record in records}
    return {key: counts.get(key, 0) for key in parents}
