"""Relay connections. Reads are lazy: edges and pageInfo share one page, totalCount is a query of its own."""

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar

import strawberry
from strawberry.dataloader import DataLoader

from db.core.page import Page, Slice
from graph.core.costs import COUNT, costs
from graph.core.errors import BadUserInput

T = TypeVar("T")


@strawberry.type(description="The position of a page within its list.")
class PageInfo:
    has_next_page: bool = strawberry.field(description="Whether more entries follow; request them with `after: endCursor`.")
    has_previous_page: bool = strawberry.field(
        description="Whether entries precede the page; request them with `before: startCursor` and `last`."
    )
    start_cursor: str | None = strawberry.field(description="The cursor of the first edge; null on an empty page.")
    end_cursor: str | None = strawberry.field(description="The cursor of the last edge; null on an empty page.")

    @classmethod
    def of(cls, page: Page) -> Self:
        cursors = page.cursors
        return cls(
            has_next_page=page.has_next,
            has_previous_page=page.has_previous,
            start_cursor=cursors[0] if cursors else None,
            end_cursor=cursors[-1] if cursors else None,
        )


@strawberry.type(description="One entry of a list and its cursor.")
class Edge(Generic[T]):
    cursor: str = strawberry.field(
        description="Its position: pass it as `after` or `before` to continue from here. Valid for the same order only."
    )
    node: T = strawberry.field(description="The entry itself.")


@strawberry.type(
    description="A page of a list. A cursor encodes the values that entries are ordered by, so rows added or deleted elsewhere neither repeat nor skip an entry."
)
class Connection(Generic[T]):
    pages: strawberry.Private[DataLoader[Any, Page]]
    counts: strawberry.Private[DataLoader[Any, int]]
    parent: strawberry.Private[Any]
    make: strawberry.Private[Callable[[Any], Any]]

    @strawberry.field(description="The entries of this page, in the order of the list.")
    async def edges(self) -> list[Edge[T]]:
        page = await self.pages.load(self.parent)
        return [Edge(cursor=cursor, node=self.make(row)) for row, cursor in zip(page.rows, page.cursors, strict=True)]

    @strawberry.field(description="Whether there are more pages, and the cursors to request them with.")
    async def page_info(self) -> PageInfo:
        return PageInfo.of(await self.pages.load(self.parent))

    @strawberry.field(
        metadata=costs(COUNT), description="The exact number of entries in the whole list under this filter. Counted only if selected."
    )
    async def total_count(self) -> int:
        return await self.counts.load(self.parent)


@strawberry.type(
    name="Connection",
    description="A page of a list of which the oldest entries are let go in time. A cursor encodes the values that entries are ordered by, so rows"
    " added or deleted elsewhere neither repeat nor skip an entry.",
)
class PrunableConnection(Connection[T], Generic[T]):
    pruned: strawberry.Private[DataLoader[Any, bool | None]]

    @strawberry.field(description="Whether entries of the list were let go because its retention is over.")
    async def is_pruned(self) -> bool:
        return bool(await self.pruned.load(self.parent))


def parse_slice(arguments: dict[str, Any]) -> Slice:
    """Return the slice of Relay's four arguments. Raises `BadUserInput`."""
    try:
        return Slice.of(arguments.get("first"), arguments.get("after"), arguments.get("last"), arguments.get("before"))
    except ValueError as error:
        raise BadUserInput(str(error)) from None
