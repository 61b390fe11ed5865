"""Queries that are no batch of columns and no listing: built once too, with their arguments as named parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from sqlalchemy import Row

from db.core.prepared import SELECTS, RowMaker, record_columns
from db.core.sql import Rows
from db.core.viewer import SYSTEM, Viewer
from db.core.work import Database


class PreparedRows:
    """The rows of the select that `build` makes for the rights of a viewer; `arguments` are the names of its `bindparam`s.

    Keep it: what it has prepared is found by its identity. `for_values`: its best plan depends on how frequent its values are.
    """

    def __init__(self, build: Callable[[Viewer], Rows], *arguments: str, for_values: bool = False) -> None:
        self._build = build
        self._arguments = frozenset(arguments)
        self._for_values = for_values

    async def __call__(self, database: Database, viewer: Viewer, **arguments: Any) -> list[Row[Any]]:
        select = SELECTS.get(self, viewer, self._build, self._arguments, for_values=self._for_values)
        make = self._make_row
        return [make(record) for record in await database.records(select, select.values(viewer, arguments))]

    @cached_property
    def _make_row(self) -> RowMaker:
        return RowMaker(record_columns(self._build(SYSTEM)))
