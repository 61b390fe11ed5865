"""Listings: pages and counts of a whole list, or under each of many parents in one statement."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self
from uuid import UUID

from sqlalchemy import Row, literal_column

from db.core.batch import RecordBatch, Statement
from db.core.criteria import Criteria, Filters, Orders
from db.core.page import Page, Slice, Sort, between, count, counts_by_parent, page, page_by_parent
from db.core.prepared import Record, RecordColumn, RowMaker, pick_columns, record_columns
from db.core.record_page import PageParts, PageSource, RecordPages, TextParts, record_counts, record_pages, text_pages
from db.core.sql import Column, OuterColumn, Rows
from db.core.viewer import SYSTEM, Viewer
from db.core.work import Database


def is_filter(criteria: Criteria | None) -> bool:
    """Whether criteria have a condition."""
    return criteria is not None and criteria != Criteria()


def first_rows(statement: Rows, sort: Sort, names: Sequence[str], limit: Any) -> Rows:
    """The named columns of the first `limit` rows, in order."""
    rows = statement.with_only_columns(*pick_columns(statement, names), maintain_column_froms=True)
    return between(rows, sort, None, None, backward=False).limit(limit)


@dataclass(frozen=True, eq=False)
class Listing:
    """`statement(viewer)` selects the rows that a viewer may see, without order or limit; `sort(order)` orders them, `filters` narrow them.

    With a `parent` column it is one list per parent, else the whole list. Criteria and order are None if not given.
    """

    statement: Statement
    sort: Callable[[Any], Sort]
    filters: Filters | None = None
    parent: Column | None = None

    def under(self, parent: Any) -> Self:
        """The same listing under each value of a column, e.g. `listing.under(Dataset.owner_id)`."""
        return replace(self, parent=parent)

    def require_filters(self, fields: Iterable[str]) -> None:
        """Raise `TypeError` for a field that the listing has no filter for."""
        if self.filters is None:
            raise TypeError("This listing has no filters: pass `filters` to its `Listing`.")
        self.filters.require(fields)

    def require_orders(self, columns: Iterable[str]) -> None:
        """Raise `TypeError` for a column that the listing cannot be ordered by."""
        if not isinstance(self.sort, Orders):
            raise TypeError("This listing has a fixed order: pass `Orders` to its `Listing`.")
        self.sort.require(columns)

    def first_rows(
        self, viewer: Viewer, criteria: Criteria | None, order: Any, names: Sequence[str], parent: OuterColumn, limit: Any
    ) -> Rows:
        """The named columns of the first `limit` rows under a parent, in order."""
        return first_rows(parent.select(self.rows(viewer, criteria), self.parent), self.sort(order), names, limit)

    def is_for_values(self, criteria: Criteria | None, order: Any) -> bool:  # noqa: ARG002 - others have orders that depend on values
        """Whether the best plan of a list depends on how frequent its values are."""
        return is_filter(criteria)

    def rows(self, viewer: Viewer, criteria: Criteria | None = None) -> Rows:
        """The rows that meet the criteria, without order or limit."""
        statement = self.statement(viewer)
        if criteria is None:
            return statement
        assert self.filters is not None
        return statement.where(*self.filters.conditions(criteria))

    @cached_property
    def columns(self) -> Mapping[str, RecordColumn]:
        """The columns that `record_pages` can select."""
        return record_columns(self.statement(SYSTEM))

    @cached_property
    def make_row(self) -> RowMaker:
        """Makes rows of records with all columns."""
        return RowMaker(self.columns)

    def _source(self, criteria: Criteria | None, order: Any) -> PageSource:
        return PageSource(
            (self, criteria, order),
            lambda viewer: self.rows(viewer, criteria),
            lambda: self.sort(order),
            self.parent,
            for_values=self.is_for_values(criteria, order),
        )

    async def record_pages(
        self,
        database: Database,
        viewer: Viewer,
        parents: Sequence[UUID],
        page_slice: Slice,
        criteria: Criteria | None,
        order: Any,
        parts: PageParts,
    ) -> RecordPages:
        """The same page under every parent, in their order, or the one of a listing without parents. Raises `InvalidCursor`."""
        return await record_pages(database, viewer, self._source(criteria, order), parents, page_slice, parts)

    async def text_pages(
        self,
        database: Database,
        viewer: Viewer,
        parents: Sequence[UUID],
        page_slice: Slice,
        criteria: Criteria | None,
        order: Any,
        parts: TextParts,
    ) -> list[Page] | None:
        """The same with the JSON texts of the rows; None if a row has none. Raises `InvalidCursor`."""
        return await text_pages(database, viewer, self._source(criteria, order), parents, page_slice, parts)

    async def record_counts(
        self, database: Database, viewer: Viewer, parents: Sequence[UUID], criteria: Criteria | None
    ) -> Mapping[Any, int]:
        """The number of rows under every parent; of a listing without parents under None."""
        return await record_counts(database, viewer, self._source(criteria, None), parents)

    async def pages(
        self,
        database: Database,
        viewer: Viewer,
        parents: Sequence[UUID],
        page_slice: Slice,
        criteria: Criteria | None = None,
        order: Any = None,
    ) -> Mapping[UUID, Page]:
        """The same page under every parent. Raises `InvalidCursor`."""
        assert self.parent is not None
        statement, sort = self.rows(viewer, criteria), self.sort(order)
        async with database.read() as connection:
            return await page_by_parent(connection, statement, self.parent, parents, sort, page_slice)

    async def counts(
        self, database: Database, viewer: Viewer, parents: Sequence[UUID], criteria: Criteria | None = None
    ) -> Mapping[UUID, int]:
        """The number of rows under each parent."""
        assert self.parent is not None
        statement = self.rows(viewer, criteria)
        async with database.read() as connection:
            return await counts_by_parent(connection, statement, self.parent, parents)

    async def page(
        self, database: Database, viewer: Viewer, page_slice: Slice, criteria: Criteria | None = None, order: Any = None
    ) -> Page:
        """A page of the whole list. Raises `InvalidCursor`."""
        async with database.read() as connection:
            return await page(connection, lambda viewer: self.rows(viewer, criteria), viewer, self.sort(order), page_slice)

    async def count(self, database: Database, viewer: Viewer, criteria: Criteria | None = None) -> int:
        """The number of rows of the whole list."""
        statement = self.rows(viewer, criteria)
        async with database.read() as connection:
            return await count(connection, statement)


@dataclass(frozen=True, eq=False)
class FirstRows(RecordBatch):
    """A batch: the first row of a listing under each parent that has one."""

    listing: Listing

    @property
    def columns(self) -> Mapping[str, RecordColumn]:
        return self.listing.columns

    @property
    def key_column(self) -> Column:
        assert self.listing.parent is not None
        return self.listing.parent

    async def __call__(self, database: Database, viewer: Viewer, keys: Sequence[UUID], /) -> Mapping[UUID, Row[Any]]:
        make = self.listing.make_row
        return {key: make(record) for key, record in (await self.records(database, viewer, keys, make.names)).items()}

    def nested(self, viewer: Viewer, names: Sequence[str], key: OuterColumn) -> Rows:
        return self.listing.first_rows(viewer, None, None, names, key, literal_column("1"))

    async def records(self, database: Database, viewer: Viewer, keys: Sequence[Any], names: Sequence[str]) -> Mapping[Any, Record]:
        parts = PageParts(tuple(names), cursors=False, ends=False)
        pages = await self.listing.record_pages(database, viewer, keys, Slice(size=1), None, None, parts)
        records = iter(pages.records)
        return {key: next(records) for key, length in zip(keys, pages.lengths, strict=True) if length}
