"""Batch functions, which loaders call: many keys in, a mapping out."""

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
    """Read many keys in one call for a viewer. Keys without a row that the viewer may see are left out."""

    async def __call__(self, database: Database, viewer: Viewer, keys: Sequence[UUID], /) -> Mapping[UUID, Any]: ...


class Statement(Protocol):
    """Build a select of the rows that a viewer may see, without order or limit."""

    def __call__(self, viewer: Viewer, /) -> Rows: ...


def rows_by_key(statement: Statement, key: Column, name: str = "id") -> Batch:
    """A batch of at most one row per key; `name` is the label of `key` among the selected columns."""

    async def load(database: Database, viewer: Viewer, keys: Sequence[UUID], /) -> Mapping[UUID, Row[Any]]:
        rows = await database.rows(statement(viewer).where(equals_any(key, keys)))
        return {getattr(row, name): row for row in rows}

    return load


def rows_by_parent(statement: Statement, parent: Column, name: str, *order: Column) -> Batch:
    """A batch of all rows of each parent, in order, for lists that are always short. Parents without rows get an empty list."""

    async def load(database: Database, viewer: Viewer, keys: Sequence[UUID], /) -> Mapping[UUID, list[Row[Any]]]:
        grouped: dict[UUID, list[Row[Any]]] = {key: [] for key in keys}
        for row in await database.rows(statement(viewer).where(equals_any(parent, keys)).order_by(parent, *order)):
            grouped[getattr(row, name)].append(row)
        return grouped

    return load
