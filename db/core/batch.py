"""Batch functions, which loaders call: many keys in, a mapping out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeVar
from uuid import UUID

from sqlalchemy import ARRAY, Row, any_, bindparam, select

from db.core.prepared import SELECTS, Record, RecordColumn, RowMaker, pick_columns, record_columns
from db.core.row_text import RowText
from db.core.sql import Column, OuterColumn, Rows
from db.core.viewer import SYSTEM, Viewer
from db.core.work import Database

K = TypeVar("K", bound=Hashable)
_KEYS, _KEY = "batch_keys", "batch_key"


class Batch(Protocol):
    """Read many keys in one call for a viewer. Keys without a row that the viewer may see are left out."""

    async def __call__(self, database: Database, viewer: Viewer, keys: Sequence[UUID], /) -> Mapping[UUID, Any]: ...


class Statement(Protocol):
    """Build a select of the rows that a viewer may see, without order or limit. It may use `viewer.id` only as a value in SQL."""

    def __call__(self, viewer: Viewer, /) -> Rows: ...


class RecordBatch(ABC):
    """A batch of at most one row per key that can read some of the columns as records."""

    @property
    @abstractmethod
    def columns(self) -> Mapping[str, RecordColumn]:
        """The columns that `records` can select."""

    @property
    @abstractmethod
    def key_column(self) -> Column:
        """The column that has the keys."""

    @abstractmethod
    async def __call__(self, database: Database, viewer: Viewer, keys: Sequence[UUID], /) -> Mapping[UUID, Row[Any]]: ...

    @abstractmethod
    async def records(self, database: Database, viewer: Viewer, keys: Sequence[Any], names: Sequence[str]) -> Mapping[Any, Record]:
        """The same as records with the columns `names`."""

    @abstractmethod
    def nested(self, viewer: Viewer, names: Sequence[str], key: OuterColumn) -> Rows:
        """The named columns of the row for a key, as a part of another statement."""


@dataclass(frozen=True, eq=False)
class _KeyedRows:
    """Rows of a statement by a key."""

    statement: Statement
    key: Column

    @property
    def key_column(self) -> Column:
        return self.key

    @property
    def columns(self) -> Mapping[str, RecordColumn]:
        """The columns that `records` can select."""
        return self._columns

    @cached_property
    def _columns(self) -> Mapping[str, RecordColumn]:
        return record_columns(self.statement(SYSTEM))

    @cached_property
    def _make_row(self) -> RowMaker:
        return RowMaker(self.columns)

    def _records(self, names: Sequence[str], *, is_one: bool) -> Callable[[Viewer], Rows]:
        """Build the statement of records for one key or several: the named columns, and the key as the last one.

        PostgreSQL takes an array of unknown length for one of ten keys. So for one key a plan for all values seems dear to it, and it would make another for
        each execution, which takes as long as a small read.
        """

        def build(viewer: Viewer) -> Rows:
            statement = self.statement(viewer)
            columns = [*pick_columns(statement, names), self.key.label(_KEYS)]
            key = bindparam(_KEY, type_=self.key.type) if is_one else any_(bindparam(_KEYS, type_=ARRAY(self.key.type)))
            return statement.with_only_columns(*columns, maintain_column_froms=True).where(self.key == key)

        return build

    def nested(self, viewer: Viewer, names: Sequence[str], key: OuterColumn) -> Rows:
        """The named columns of the rows for a key, as a part of another statement."""
        statement = self.statement(viewer)
        return key.select(statement.with_only_columns(*pick_columns(statement, names), maintain_column_froms=True), self.key)

    async def _read(self, database: Database, viewer: Viewer, keys: Sequence[Any], names: Sequence[str]) -> list[Record]:
        is_one, arguments = len(keys) == 1, _key_arguments(keys)
        select = SELECTS.get((self, tuple(names), is_one), viewer, self._records(names, is_one=is_one), frozenset(arguments))
        return await database.records(select, select.values(viewer, arguments))


@dataclass(frozen=True, eq=False)
class RowsByKey(_KeyedRows, RecordBatch):
    """A batch of at most one row per key."""

    async def __call__(self, database: Database, viewer: Viewer, keys: Sequence[UUID], /) -> Mapping[UUID, Row[Any]]:
        make = self._make_row
        return {key: make(record) for key, record in (await self.records(database, viewer, keys, make.names)).items()}

    async def records(self, database: Database, viewer: Viewer, keys: Sequence[Any], names: Sequence[str]) -> Mapping[Any, Record]:
        return {record[-1]: record for record in await self._read(database, viewer, keys, names)}

    async def shared_records(self, database: Database, viewer: Viewer, key: Any, names: Sequence[str]) -> Mapping[Any, Record]:
        """The record of one key, read together with those that other requests of the viewer want at the same moment."""

        async def read(keys: Sequence[Any]) -> Mapping[Any, Record]:
            return await self.records(database, viewer, keys, names)

        return await database.shared_reads.rows((self, tuple(names), viewer), key, read)

    async def texts(
        self, database: Database, viewer: Viewer, keys: Sequence[Any], row_text: RowText, arguments: Mapping[str, Any]
    ) -> Mapping[Any, str] | None:
        """The JSON texts of the rows, with the values of their parameters; None if a row has none."""
        is_one = len(keys) == 1
        arguments = {**arguments, **_key_arguments(keys)}

        def build(viewer: Viewer) -> Rows:
            rows = self._records(row_text.names, is_one=is_one)(viewer).subquery("found")
            return select(row_text.sql(rows, viewer), rows.c[_KEYS])

        prepared = SELECTS.get((self, row_text, is_one), viewer, build, frozenset(arguments), for_values=row_text.for_values)
        records = await database.records(prepared, prepared.values(viewer, arguments))
        return None if any(text is None for text, _ in records) else {key: text for text, key in records}


@dataclass(frozen=True, eq=False)
class RowsByParent(_KeyedRows):
    """A batch of all rows of each parent, in order, for lists that are always short. Parents without rows get an empty list."""

    order: tuple[Column, ...] = ()

    async def __call__(self, database: Database, viewer: Viewer, keys: Sequence[UUID], /) -> Mapping[UUID, list[Row[Any]]]:
        make = self._make_row
        return {
            key: [make(record) for record in records] for key, records in (await self.records(database, viewer, keys, make.names)).items()
        }

    def _records(self, names: Sequence[str], *, is_one: bool) -> Callable[[Viewer], Rows]:
        build = super()._records(names, is_one=is_one)
        return lambda viewer: build(viewer).order_by(self.key, *self.order)

    def nested(self, viewer: Viewer, names: Sequence[str], key: OuterColumn) -> Rows:
        return super().nested(viewer, names, key).order_by(*self.order)

    async def records(self, database: Database, viewer: Viewer, keys: Sequence[Any], names: Sequence[str]) -> Mapping[Any, list[Record]]:
        """The same as records with the columns `names`."""
        grouped: dict[Any, list[Record]] = {key: [] for key in keys}
        for record in await self._read(database, viewer, keys, names):
            grouped[record[-1]].append(record)
        return grouped


def _key_arguments(keys: Sequence[Any]) -> dict[str, Any]:
    return {_KEY: keys[0]} if len(keys) == 1 else {_KEYS: keys}


def rows_by_key(statement: Statement, key: Column) -> RowsByKey:
    """A batch of at most one row per key."""
    return RowsByKey(statement, key)


def rows_by_parent(statement: Statement, parent: Column, *order: Column) -> RowsByParent:
    """A batch of all rows of each parent, in order, for lists that are always short. Parents without rows get an empty list."""
    return RowsByParent(statement, parent, order)
