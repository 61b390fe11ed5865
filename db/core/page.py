"""Keyset pagination: of one list, or of the lists under many parents in one statement.

A page starts after the sort values of a row, not at an offset, so rows added or deleted elsewhere cause no repeats or gaps.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from math import isfinite
from typing import Any, Literal
from typing import cast as typed
from uuid import UUID

import orjson
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Integer,
    Row,
    SmallInteger,
    Text,
    Uuid,
    and_,
    bindparam,
    cast,
    func,
    literal_column,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from db.core.policy import OneAccount, lists_by_account
from db.core.sql import Column, Rows, equals_any
from db.core.viewer import Viewer
from db.errors import InvalidCursor

DEFAULT_SIZE = 20
MAX_SIZE = 100

SORT_KEY = "page_sort_key"
ROW_KEY = "page_row_key"
_PARENT = "page_parent"
_LATEST = 250_000_000_000_000_000  # microseconds since 1970: beyond it PostgreSQL's and Python's times end
_INTEGER_BITS = ((SmallInteger, 15), (BigInteger, 63), (Integer, 31))  # first match: the other types are subclasses of Integer


@dataclass(frozen=True, slots=True)
class Lead:
    """The column of an index in whose order rows are read, where the order is a finer one: `value_at` is the column's value of a sort value.

    In a pair, a time is an integer, its microseconds since 1970.
    """

    column: Column
    kind: Literal["time", "text", "int", "float"]
    value_at: Callable[[ColumnElement[Any]], ColumnElement[Any]]


@dataclass(frozen=True)
class Sort:
    """The order of a list: `column`, then the row's key, both in one direction; nulls come last in both directions.

    `name` and the list are in cursors, so that a cursor of another order or list is refused. `kind` is the Python type of the column's values.
    """

    name: str
    column: Column
    key: Column
    descending: bool = True
    kind: Literal["time", "text", "int", "float", "pair"] = "time"
    """`pair`: a JSON array of two values."""
    nullable: bool = False
    named_list: str | None = None
    """The list's name in cursors, if it is not that of the key's table."""
    lead: Lead | None = None
    """If `column` only sorts those that are equal in a column: that one."""

    @cached_property
    def list_name(self) -> str:
        return self.named_list or self.key.table.name

    def parameter(self, name: str | None = None, value: Any = None) -> ColumnElement[Any]:
        """A parameter for a sort value as `decode_cursor` returns it: one of this name, or one with this value."""
        type_ = Text() if self.kind == "pair" else self.column.type
        parameter = bindparam(name, type_=type_) if name is not None else bindparam(None, value, type_=type_, unique=True)
        return cast(parameter, self.column.type) if self.kind == "pair" else parameter


@dataclass(frozen=True, slots=True)
class Slice:
    """A slice of a list: `size` rows after (or, if `backward`, before) a cursor. Build with `Slice.of`, which validates the arguments."""

    size: int = DEFAULT_SIZE
    after: str | None = None
    before: str | None = None
    backward: bool = False

    @classmethod
    def of(cls, first: int | None, after: str | None, last: int | None, before: str | None) -> Slice:
        """Validate the four arguments of Relay connections. Raises `ValueError` with a message for users."""
        if first is not None and last is not None:
            raise ValueError("Give `first` or `last`, not both.")
        for name, size in (("first", first), ("last", last)):
            if size is not None and not 0 <= size <= MAX_SIZE:
                raise ValueError(f"`{name}` is {size}; it must be between 0 and {MAX_SIZE}.")
        size = first if first is not None else last
        return cls(DEFAULT_SIZE if size is None else size, after, before, backward=last is not None)


@dataclass(slots=True)  # not frozen: hundreds are made for one response, and that would take twice as long
class Page:
    """Rows, records or texts in the list's order, and the cursor of each."""

    rows: Sequence[Any]
    cursors: Sequence[str]
    has_next: bool
    has_previous: bool


def encode_cursor(sort: Sort, value: Any, key: UUID) -> str:
    """Return an opaque cursor: the order's name, the row's position in it, and the list's name."""
    json_value = value.isoformat() if isinstance(value, datetime) else value
    if sort.kind == "pair" and isinstance(value, str):  # as the driver returns JSON
        json_value = orjson.loads(value)
    return base64.urlsafe_b64encode(orjson.dumps([sort.name, json_value, key.hex, sort.list_name])).decode().rstrip("=")


def decode_cursor(sort: Sort, cursor: str) -> tuple[Any, UUID]:
    """Return the sort value and key of a cursor of this order. Raises `InvalidCursor` for anything else."""
    invalid_cursor = InvalidCursor(f"The cursor {cursor[:60]!r} does not belong to this list in this order. Start again without a cursor.")
    try:
        name, value, key, *lists = orjson.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (ValueError, TypeError, binascii.Error):
        raise invalid_cursor from None
    if name != sort.name or lists not in ([], [sort.list_name]):  # cursors of earlier releases do not name the list
        raise invalid_cursor
    try:
        row_key = UUID(hex=key)
        if value is None:
            if not sort.nullable:
                raise invalid_cursor
            return None, row_key
        match sort.kind:
            case "time":
                return datetime.fromisoformat(value).astimezone(UTC), row_key
            case "text":
                return _text(value), row_key
            case "int":
                return _integer(value, sort.column), row_key
            case "float":
                return float(value), row_key
            case "pair":
                return _pair(value, sort.lead), row_key
    except (ValueError, TypeError, AttributeError, OverflowError):
        raise invalid_cursor from None


def _integer(value: object, column: Column) -> int:
    """Check the range of the column's type, since the driver raises beyond it."""
    bits = next(bits for kind, bits in _INTEGER_BITS if isinstance(column.type, kind))
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**bits) <= value < 2**bits:
        raise ValueError
    return value


def _pair(value: object, lead: Lead | None) -> str:
    """The JSON text of a pair, as a parameter has it. Its first value has to be one that `lead.value_at` can read."""
    if not isinstance(value, list) or lead is None:
        raise ValueError
    first, second = typed("list[Any]", value)
    match lead.kind:
        case "time":
            if type(first) is not int or abs(first) > _LATEST:
                raise ValueError
        case "int":
            _integer(first, lead.column)
        case "float":
            _number(first)
        case _:
            _text(first)
    if isinstance(second, str):
        _text(second)
    elif second is not None and second is not True:
        _number(second)
    return orjson.dumps([first, second]).decode()


def _number(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError


def _text(value: object) -> str:
    if not isinstance(value, str) or "\x00" in value:
        raise ValueError
    return value


@dataclass(frozen=True, slots=True)
class Position:
    """Where a cursor points: the sort value, which may be null, and the row's key, as SQL."""

    value: ColumnElement[Any] | None
    key: ColumnElement[Any]

    @classmethod
    def of(cls, sort: Sort, cursor: str | None) -> Position | None:
        """The position as values. Raises `InvalidCursor`."""
        if cursor is None:
            return None
        value, key = decode_cursor(sort, cursor)
        value_parameter = None if value is None else sort.parameter(value=value)
        return cls(value_parameter, bindparam(None, key, type_=sort.key.type, unique=True))


def _past(sort: Sort, position: Position, *, forward: bool) -> ColumnElement[bool]:
    """The condition for rows after the position (before it, if not `forward`)."""
    smaller = sort.descending == forward
    if position.value is None:  # among the nulls, which come last
        key_condition = sort.key < position.key if smaller else sort.key > position.key
        return (
            and_(sort.column.is_(None), key_condition)
            if forward
            else or_(sort.column.is_not(None), and_(sort.column.is_(None), key_condition))
        )
    row, bound = tuple_(sort.column, sort.key), tuple_(position.value, position.key)
    past = row < bound if smaller else row > bound
    if sort.lead is not None:
        start = sort.lead.value_at(position.value)
        past = and_(sort.lead.column <= start if smaller else sort.lead.column >= start, past)
    return or_(past, sort.column.is_(None)) if sort.nullable and forward else past


def _ordered(statement: Rows, sort: Sort, page_slice: Slice) -> Rows:
    statement = statement.add_columns(sort.column.label(SORT_KEY), sort.key.label(ROW_KEY))
    after, before = Position.of(sort, page_slice.after), Position.of(sort, page_slice.before)
    return between(statement, sort, after, before, backward=page_slice.backward).limit(page_slice.size + 1)


def between(statement: Rows, sort: Sort, after: Position | None, before: Position | None, *, backward: bool) -> Rows:
    """The rows between two positions, in the order of the list or, if `backward`, from its end."""
    descending = sort.descending != backward
    column = sort.column.desc() if descending else sort.column.asc()
    key = sort.key.desc() if descending else sort.key.asc()
    if sort.nullable:
        column = column.nulls_first() if backward else column.nulls_last()
    if after is not None:
        statement = statement.where(_past(sort, after, forward=True))
    if before is not None:
        statement = statement.where(_past(sort, before, forward=False))
    if sort.lead is not None:
        statement = statement.order_by(sort.lead.column.desc() if descending else sort.lead.column.asc())
    return statement.order_by(column, key)


def make_page(rows: Sequence[Any], page_slice: Slice, cursor_of: Callable[[Any], str] | None) -> Page:
    """The page of rows that were read in the slice's direction, one more than its size where there are more. Without cursors if there is
    no `cursor_of`."""
    has_more = len(rows) > page_slice.size
    rows = rows[: page_slice.size]
    if page_slice.backward:
        rows = rows[::-1]
    cursors = () if cursor_of is None else [cursor_of(row) for row in rows]
    if page_slice.backward:
        return Page(rows, cursors, has_next=page_slice.before is not None, has_previous=has_more)
    return Page(rows, cursors, has_next=has_more, has_previous=page_slice.after is not None)


def _page(rows: Sequence[Row[Any]], sort: Sort, page_slice: Slice) -> Page:
    return make_page(rows, page_slice, lambda row: encode_cursor(sort, getattr(row, SORT_KEY), getattr(row, ROW_KEY)))


async def page(connection: AsyncConnection, rows_of: Callable[[Viewer], Rows], viewer: Viewer, sort: Sort, page_slice: Slice) -> Page:
    """One page of the rows of a viewer, which have neither order nor limit."""

    def ordered(viewer: Viewer) -> Rows:
        return _ordered(rows_of(viewer), sort, page_slice)

    if lists_by_account(rows_of, viewer):
        limit = bindparam(None, page_slice.size + 1, type_=BigInteger, unique=True)
        statement = across_accounts(lambda account: ordered(OneAccount.of(viewer, account)), viewer.accounts, sort, page_slice, limit)
    else:
        statement = ordered(viewer)
    return _page((await connection.execute(statement)).all(), sort, page_slice)


def unnested(parents: ColumnElement[Any]) -> Any:
    """The parents as rows: `parent`, and its `position`, from 1."""
    return func.unnest(parents).table_valued(literal_column("parent", Uuid), with_ordinality="position", name="parents").render_derived()


def under_parents(
    rows_of: Callable[[ColumnElement[UUID]], Rows],
    parents: ColumnElement[Any],
    sort: Sort,
    page_slice: Slice,
    columns: Sequence[str] | None = None,
) -> Rows:
    """The rows under each parent: a lateral subquery scans the index once per parent.

    They have all columns and the parent. With `columns`, they have only these and the position of the parent, from 1.
    """
    parent_rows = unnested(parents)
    inner = rows_of(parent_rows.c.parent).lateral("page")
    selected = (
        [*inner.c, parent_rows.c.parent.label(_PARENT)]
        if columns is None
        else [*(inner.c[name] for name in columns), cast(parent_rows.c.position, Integer)]
    )
    query = select(*selected).select_from(parent_rows.join(inner, true()))
    return query.order_by(parent_rows.c.position, *_directions(inner.c[SORT_KEY], inner.c[ROW_KEY], sort, page_slice))


def across_accounts(
    rows_of: Callable[[ColumnElement[UUID]], Rows],
    accounts: Sequence[UUID],
    sort: Sort,
    page_slice: Slice,
    limit: ColumnElement[Any],
    columns: Sequence[str] | None = None,
) -> Rows:
    """The first rows of a list over several accounts: those of each account, read off its index, are merged. All columns, or these.

    Of the rows of all accounts together, none but these are read or sorted.
    """
    parameter = bindparam(None, accounts, type_=ARRAY(Uuid), unique=True)
    account_rows = func.unnest(parameter).table_valued(literal_column("account", Uuid), name="accounts").render_derived()
    inner = rows_of(account_rows.c.account).lateral("page")
    query = select(*(inner.c if columns is None else (inner.c[name] for name in columns or (ROW_KEY,)))).select_from(
        account_rows.join(inner, true())
    )
    return query.order_by(*_directions(inner.c[SORT_KEY], inner.c[ROW_KEY], sort, page_slice)).limit(limit)


def _directions(column: ColumnElement[Any], key: ColumnElement[Any], sort: Sort, page_slice: Slice) -> tuple[ColumnElement[Any], ...]:
    """The order of a list or, if the slice is backward, from its end."""
    descending = sort.descending != page_slice.backward
    order = column.desc() if descending else column.asc()
    if sort.nullable:
        order = order.nulls_first() if page_slice.backward else order.nulls_last()
    return order, key.desc() if descending else key.asc()


async def page_by_parent(
    connection: AsyncConnection,
    statement: Rows,
    parent: Column,
    parents: Sequence[UUID],
    sort: Sort,
    page_slice: Slice,
) -> dict[UUID, Page]:
    """The same page under each of `parents`, in one statement: a lateral subquery scans the index once per parent."""
    parents_parameter = bindparam("page_parents", list(parents), type_=ARRAY(Uuid))
    query = under_parents(lambda key: _ordered(statement.where(parent == key), sort, page_slice), parents_parameter, sort, page_slice)
    grouped: dict[UUID, list[Row[Any]]] = {}
    for row in (await connection.execute(query)).all():
        grouped.setdefault(getattr(row, _PARENT), []).append(row)
    return {key: _page(grouped[key], sort, page_slice) if key in grouped else empty_page(page_slice) for key in parents}


def empty_page(page_slice: Slice) -> Page:
    """An empty page; if it was reached by a cursor, there are rows on the other side."""
    return Page(
        (),
        (),
        has_next=page_slice.backward and page_slice.before is not None,
        has_previous=not page_slice.backward and page_slice.after is not None,
    )


async def counts_by_parent(connection: AsyncConnection, statement: Rows, parent: Column, parents: Sequence[UUID]) -> dict[UUID, int]:
    """The number of rows under each parent, 0 if none."""
    count_statement = statement.with_only_columns(parent.label("parent"), func.count().label("count"), maintain_column_froms=True)
    count_statement = count_statement.where(equals_any(parent, parents)).group_by(parent)
    counts = {row[0]: row[1] for row in (await connection.execute(count_statement)).all()}
    return {key: counts.get(key, 0) for key in parents}


async def count(connection: AsyncConnection, statement: Rows) -> int:
    """The number of rows of the whole list."""
    count_statement = statement.with_only_columns(func.count(), maintain_column_froms=True)
    return int((await connection.execute(count_statement)).scalar_one())
