"""A list as it is served: pages and counts of the whole, or of the part under each of many parents in one statement."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from db.core.page import Page, Slice, Sort, count, counts_by_parent, page, page_by_parent
from db.core.sql import Column, Rows
from db.core.viewer import Viewer
from db.core.work import Database


@dataclass(frozen=True, eq=False)
class Listing:
    """`statement(viewer, criteria)` selects the rows that a viewer may see, without order or limit; `sort(order)` orders them.

    With a `parent` column it is the list under each parent, else the whole list. Criteria and order are None where none were given.
    """

    statement: Callable[[Viewer, Any], Rows]
    sort: Callable[[Any], Sort]
    parent: Column | None = None

    def under(self, parent: Any) -> Self:
        """The same list under each value of a column, e.g. `listing.under(Dataset.owner_id)`."""
        return type(self)(self.statement, self.sort, parent)

    async def pages(
        self, database: Database, viewer: Viewer, parents: Sequence[UUID], page_slice: Slice, criteria: Any = None, order: Any = None
    ) -> Mapping[UUID, Page]:
        """The same page under every parent. Raises `InvalidCursor`."""
        assert self.parent is not None
        statement, sort = self.statement(viewer, criteria), self.sort(order)
        async with database.read() as connection:
            return await page_by_parent(connection, statement, self.parent, parents, sort, page_slice)

    async def counts(self, database: Database, viewer: Viewer, parents: Sequence[UUID], criteria: Any = None) -> Mapping[UUID, int]:
        """How many rows the list under each parent has."""
        assert self.parent is not None
        statement = self.statement(viewer, criteria)
        async with database.read() as connection:
            return await counts_by_parent(connection, statement, self.parent, parents)

    async def page(self, database: Database, viewer: Viewer, page_slice: Slice, criteria: Any = None, order: Any = None) -> Page:
        """A page of the whole list. Raises `InvalidCursor`."""
        statement, sort = self.statement(viewer, criteria), self.sort(order)
        async with database.read() as connection:
            return await page(connection, statement, sort, page_slice)

    async def count(self, database: Database, viewer: Viewer, criteria: Any = None) -> int:
        """How many rows the whole list has."""
        statement = self.statement(viewer, criteria)
        async with database.read() as connection:
            return await count(connection, statement)
