"""Faults that both ways of execution meet alike: batches that fail, and rows that are not there for their keys."""

from __future__ import annotations

import zlib
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from db.core.batch import RowsByKey, RowsByParent
from db.core.listing import FirstRows, Listing
from db.core.page import Slice
from db.core.sql import equals_any
from db.core.viewer import Viewer
from db.core.work import Database
from db.errors import Unavailable
from db.queries.leaderboard import Leaderboard
from graph.execution.timeout import PLANNER

NO_ROWS = -1  # a salt: no batch has a row for any key


class Faults:
    """What fails is decided by the salt, and by the batch and the key alone, so that it is the same in every execution."""

    def __init__(self) -> None:
        self.salt: int | None = None
        self._batches: dict[int, int] = {}

    def _number(self, batch: object, key: object = None) -> float:
        batch_number = self._batches.setdefault(id(batch), len(self._batches))
        return zlib.crc32(f"{self.salt} {batch_number} {key}".encode()) / 2**32

    def check(self, batch: object) -> None:
        if self.salt not in (None, NO_ROWS) and self._number(batch) < 0.04:
            raise Unavailable("database", "A fault of the test.")

    def remaining(self, batch: object, rows: Mapping[Any, Any]) -> Mapping[Any, Any]:
        if self.salt is None:
            return rows
        return {key: row for key, row in rows.items() if self.salt != NO_ROWS and self._number(batch, key) > 0.05}


async def rows_by_key(batch: RowsByKey, database: Database, viewer: Viewer, keys: Sequence[Any]) -> Mapping[Any, Any]:
    """What the batch returns, by a statement that SQLAlchemy builds and executes: the reference for prepared ones."""
    statement = batch.statement(viewer).add_columns(batch.key.label("reference"))
    return {row.reference: row for row in await database.rows(statement.where(equals_any(batch.key, keys)))}


async def rows_by_parent(batch: RowsByParent, database: Database, viewer: Viewer, keys: Sequence[Any]) -> Mapping[Any, Any]:
    statement = batch.statement(viewer).add_columns(batch.key.label("reference")).where(equals_any(batch.key, keys))
    grouped: dict[Any, list[Any]] = {key: [] for key in keys}
    for row in await database.rows(statement.order_by(batch.key, *batch.order)):
        grouped[row.reference].append(row)
    return grouped


async def first_rows(batch: FirstRows, database: Database, viewer: Viewer, keys: Sequence[Any]) -> Mapping[Any, Any]:
    pages = await batch.listing.pages(database, viewer, keys, Slice(size=1))
    return {key: page.rows[0] for key, page in pages.items() if page.rows}


@contextmanager
def injected_faults(monkeypatch: pytest.MonkeyPatch) -> Generator[Faults]:
    """Every batch and listing meets the faults while their salt is set."""
    faults = Faults()

    def wrap(owner: type[Any], name: str, *, by_key: bool, reference: Any = None) -> None:
        original = vars(owner)[name]

        async def wrapped(self: Any, *arguments: Any) -> Any:
            faults.check(self)
            rows = await (reference if reference is not None and not PLANNER.is_enabled else original)(self, *arguments)
            return faults.remaining(self, rows) if by_key else rows

        monkeypatch.setattr(owner, name, wrapped)

    wrap(RowsByKey, "__call__", by_key=True, reference=rows_by_key)
    wrap(RowsByKey, "records", by_key=True)
    wrap(RowsByParent, "__call__", by_key=False, reference=rows_by_parent)
    wrap(FirstRows, "__call__", by_key=False, reference=first_rows)
    for owner, names in (
        (FirstRows, ("records",)),
        (RowsByParent, ("records",)),
        (Listing, ("page", "pages", "record_pages", "count", "counts", "record_counts")),
    ):
        for name in names:
            wrap(owner, name, by_key=False)

    def without_texts(owner: type[Any], name: str) -> None:
        # A statement that has several batches would not meet their faults one by one. As after a failure, rows are read as records.
        read_texts = vars(owner)[name]

        async def texts_or_none(self: Any, *arguments: Any) -> Any:
            return await read_texts(self, *arguments) if faults.salt is None else None

        monkeypatch.setattr(owner, name, texts_or_none)

    for owner, name in ((Listing, "text_pages"), (Leaderboard, "text_pages"), (RowsByKey, "texts")):
        without_texts(owner, name)
    yield faults
