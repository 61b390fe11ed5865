"""Many keys in, a mapping out: the one shape of a read that the loaders know."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Protocol, TypeVar
from uuid import UUID

from sqlalchemy import Row

from db.core.sql import Column, Rows, equals_any
from db.core.viewer import Viewer
from db.core.work import Database

K = TypeVar("K", bound=Hashable)


class Batch(Protocol):
    """A read of many keys at once on behalf of a viewer. Keys that have nothing, or nothing the viewer may see, are left out."""

    async def __call__(self, database: Database, viewer: Viewer, keys: Sequence[UUID], /) -> Mapping[UUID, Any]: ...


class Statement(Protocol):
    """A select of the rows that a viewer may see, without order or limit."""

    def __call__(self, viewer: Viewer, /) -> Rows: ...


def rows_by_key(statement: Statement, key: Column, name: str = "id") -> Batch:
    """At most one row a key; `name` is the label of `key` among the selected columns."""

    async def load(database: Database, viewer: Viewer, keys: Sequence[UUID], /) -> Mapping[UUID, Row[Any]]:
        rows = await database.rows(statement(viewer).where(equals_any(key, keys)))
        return {getattr(row, name): row for row in rows}

    return load


def rows_by_parent(statement: Statement, parent: Column, name: str, *order: Column) -> Batch:
    """Every row of each parent, in order; for lists that are short by their nature. Parents without rows get an empty list."""

    async def load(database: Database, viewer: Viewer, keys: Sequence[UUID], /) -> Mapping[UUID, list[Row[Any]]]:
        grouped: dict[UUID, list[Row[Any]]] = {key: [] for key in keys}
        for row in await database.rows(statement(viewer).where(equals_any(parent, keys)).order_by(parent, *order)):
            grouped[getattr(row, name)].append(row)
        return grouped

    return load
