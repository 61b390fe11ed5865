"""The machine that makes loaders of batch functions: keys asked for in one tick become one statement, and equal keys one row."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol

from strawberry.dataloader import DataLoader

from db.core.criteria import Criteria
from db.core.listing import Listing
from db.core.page import Page, Slice
from db.core.viewer import Viewer
from db.core.work import Database
from graph.core.errors import Unauthenticated

MAX_KEYS = 10_000  # bounds the array parameter of one statement and the rows that it answers

Make = Callable[[Any], Any]


def identity(row: Any) -> Any:
    """The `make` of loaders whose rows are wanted as they are."""
    return row


class Batch(Protocol):
    """`db.core.batch.Batch` for keys of any kind."""

    async def __call__(self, database: Database, viewer: Viewer, keys: Sequence[Any], /) -> Mapping[Any, Any]: ...


class Loaders:
    """The loaders of one operation, made when first used. Each is known by what it asks, so equal questions share one."""

    __slots__ = ("_database", "_loaders", "_viewer")

    def __init__(self, database: Database, viewer: Viewer | None) -> None:
        self._database = database
        self._viewer = viewer
        self._loaders: dict[Hashable, DataLoader[Any, Any]] = {}

    def one(self, batch: Batch, make: Make) -> DataLoader[Any, Any]:
        """What `make` makes of a key's row; None where the batch left the key out."""

        async def load(database: Database, viewer: Viewer, keys: list[Any]) -> list[Any]:
            row_by_key = await batch(database, viewer, keys)
            return [make(row_by_key[key]) if key in row_by_key else None for key in keys]

        return self._loader(("one", batch, make), load)

    def many(self, batch: Batch, make: Make) -> DataLoader[Any, list[Any]]:
        """What `make` makes of each of a key's rows; an empty list where the batch left the key out."""

        async def load(database: Database, viewer: Viewer, keys: list[Any]) -> list[Any]:
            rows_by_key = await batch(database, viewer, keys)
            return [[make(row) for row in rows_by_key.get(key, ())] for key in keys]

        return self._loader(("many", batch, make), load)

    def pages(self, listing: Listing, page_slice: Slice, criteria: Criteria | None, order: Hashable) -> DataLoader[Any, Page]:
        """The page under each parent; of a listing without parents the key is None."""

        async def load(database: Database, viewer: Viewer, keys: list[Any]) -> list[Any]:
            if listing.parent is None:
                return [await listing.page(database, viewer, page_slice, criteria, order)]
            pages_by_parent = await listing.pages(database, viewer, keys, page_slice, criteria, order)
            return [pages_by_parent[key] for key in keys]

        return self._loader(("page", listing, page_slice, criteria, order), load)

    def counts(self, listing: Listing, criteria: Criteria | None) -> DataLoader[Any, int]:
        """How many rows there are under each parent; of a listing without parents the key is None."""

        async def load(database: Database, viewer: Viewer, keys: list[Any]) -> list[Any]:
            if listing.parent is None:
                return [await listing.count(database, viewer, criteria)]
            counts_by_parent = await listing.counts(database, viewer, keys, criteria)
            return [counts_by_parent[key] for key in keys]

        return self._loader(("count", listing, criteria), load)

    def unbatched(self, name: str, load_one: Callable[[Any], Awaitable[Any]]) -> DataLoader[Any, Any]:
        """For what only comes one at a time, such as an object of the store: once a key, however many fields ask."""

        async def load(_database: Database, _viewer: Viewer, keys: list[Any]) -> list[Any]:
            return await asyncio.gather(*map(load_one, keys))

        return self._loader(("call", name), load)

    def _loader(self, loader_key: Hashable, load: Callable[[Database, Viewer, list[Any]], Awaitable[list[Any]]]) -> DataLoader[Any, Any]:
        existing = self._loaders.get(loader_key)
        if existing is not None:
            return existing

        async def run(keys: list[Any]) -> list[Any]:
            if self._viewer is None:
                raise Unauthenticated
            return await load(self._database, self._viewer, keys)

        loader = self._loaders[loader_key] = DataLoader[Any, Any](load_fn=run, max_batch_size=MAX_KEYS)
        return loader
