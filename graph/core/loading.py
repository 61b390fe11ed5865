"""DataLoaders made from batch functions: the keys requested in one tick become one statement, and equal keys share one row."""

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

MAX_KEYS = 10_000  # bounds the array parameter of one statement and its result

Make = Callable[[Any], Any]


def identity(row: Any) -> Any:
    """The `make` of loaders that return rows unchanged."""
    return row


class Batch(Protocol):
    """`db.core.batch.Batch` for keys of any kind."""

    async def __call__(self, database: Database, viewer: Viewer, keys: Sequence[Any], /) -> Mapping[Any, Any]: ...


class Loaders:
    """The loaders of one operation, created on first use and cached by batch and arguments, so that equal reads share one."""

    __slots__ = ("_database", "_loaders", "_viewer")

    def __init__(self, database: Database, viewer: Viewer | None) -> None:
        self._database = database
        self._viewer = viewer
        self._loaders: dict[Hashable, DataLoader[Any, Any]] = {}

    def one(self, batch: Batch, make: Make) -> DataLoader[Any, Any]:
        """Load `make(row)` for the row of a key; None if the batch omits the key."""

        async def load(database: Database, viewer: Viewer, keys: list[Any]) -> list[Any]:
            row_by_key = await batch(database, viewer, keys)
            return [make(row_by_key[key]) if key in row_by_key else None for key in keys]

        return self._loader(("one", batch, make), load)

    def many(self, batch: Batch, make: Make) -> DataLoader[Any, list[Any]]:
        """Load `make(row)` for each row of a key; an empty list if the batch omits the key."""

        async def load(database: Database, viewer: Viewer, keys: list[Any]) -> list[Any]:
            rows_by_key = await batch(database, viewer, keys)
            return [[make(row) for row in rows_by_key.get(key, ())] for key in keys]

        return self._loader(("many", batch, make), load)

    def pages(self, listing: Listing, page_slice: Slice, criteria: Criteria | None, order: Hashable) -> DataLoader[Any, Page]:
        """Load the page under each parent key. The key of a listing without parents is None."""

        async def load(database: Database, viewer: Viewer, keys: list[Any]) -> list[Any]:
            if listing.parent is None:
                return [await listing.page(database, viewer, page_slice, criteria, order)]
            pages_by_parent = await listing.pages(database, viewer, keys, page_slice, criteria, order)
            return [pages_by_parent[key] for key in keys]

        return self._loader(("page", listing, page_slice, criteria, order), load)

    def counts(self, listing: Listing, criteria: Criteria | None) -> DataLoader[Any, int]:
        """Load the number of rows under each parent key. The key of a listing without parents is None."""

        async def load(database: Database, viewer: Viewer, keys: list[Any]) -> list[Any]:
            if listing.parent is None:
                return [await listing.count(database, viewer, criteria)]
            counts_by_parent = await listing.counts(database, viewer, keys, criteria)
            return [counts_by_parent[key] for key in keys]

        return self._loader(("count", listing, criteria), load)

    def unbatched(self, name: str, load_one: Callable[[Any], Awaitable[Any]]) -> DataLoader[Any, Any]:
        """Load what cannot be read in batches, such as an S3 object: once per key, however many fields request it."""

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
