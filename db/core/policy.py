"""Which rows of a table a viewer may see. Each table declares one policy together with its columns:

    class Dataset(Table, policy=Owned()): ...
    class DatasetVersion(Table, policy=Through("dataset_id")): ...

`visible(DatasetVersion, viewer)` is the condition that every query and service adds to its statement. A mapped class without a policy
raises `TypeError` when it is defined.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, cast

from sqlalchemy import ColumnElement, FromClause, Table, false, inspect, or_, select, true

from db.core.viewer import Viewer


class Policy(Protocol):
    """The condition under which a viewer may see a row of `rows`, a table or an alias of one. Admins and the system see every row."""

    def condition(self, rows: FromClause, viewer: Viewer) -> ColumnElement[bool]: ...


@dataclass(frozen=True, slots=True)
class Owned:
    """A row belongs to the user in `column`. The only definition of ownership; accounts shared by several users will be added here."""

    column: str = "owner_id"

    def condition(self, rows: FromClause, viewer: Viewer) -> ColumnElement[bool]:
        return true() if viewer.sees_all else rows.c[self.column] == viewer.id


@dataclass(frozen=True, slots=True)
class Personal:
    """A row is the user in `column`, or usable by this user alone, such as a token. Never shared with an account."""

    column: str

    def condition(self, rows: FromClause, viewer: Viewer) -> ColumnElement[bool]:
        return true() if viewer.sees_all else rows.c[self.column] == viewer.id


@dataclass(frozen=True, slots=True)
class SharedBetween:
    """A row is visible to each of the users in two columns, such as the owner of a thing and whoever changed it."""

    column: str
    other_column: str

    def condition(self, rows: FromClause, viewer: Viewer) -> ColumnElement[bool]:
        if viewer.sees_all:
            return true()
        return or_(rows.c[self.column] == viewer.id, rows.c[self.other_column] == viewer.id)


@dataclass(frozen=True, slots=True)
class Through:
    """A row is part of the row that its foreign key `column` refers to, and is visible with it. A null key makes it visible to admins alone."""

    column: str

    def parent(self, rows: FromClause) -> tuple[Table, str]:
        """The referenced table and the name of the referenced column."""
        (key,) = table_of(rows).c[self.column].foreign_keys
        return key.column.table, key.column.name

    def condition(self, rows: FromClause, viewer: Viewer) -> ColumnElement[bool]:
        if viewer.sees_all:
            return true()
        table, key = self.parent(rows)
        parent = table.alias()
        statement = select(1).where(parent.c[key] == rows.c[self.column], POLICIES[table.name].condition(parent, viewer))
        return statement.correlate(rows).exists()


@dataclass(frozen=True, slots=True)
class Shared:
    """Every signed-in user sees every row. `reason` says why no row belongs to a user."""

    reason: str

    def condition(self, rows: FromClause, viewer: Viewer) -> ColumnElement[bool]:  # noqa: ARG002 - the protocol's signature
        return true()


@dataclass(frozen=True, slots=True)
class Internal:
    """Only services, workers and operators read the table, so no user sees a row. `reason` says what it is for."""

    reason: str

    def condition(self, rows: FromClause, viewer: Viewer) -> ColumnElement[bool]:  # noqa: ARG002 - the protocol's signature
        return true() if viewer.sees_all else false()


POLICIES: dict[str, Policy] = {}  # by the name of the table; `db.core.base.Table` registers each mapped class


def visible(entity: Any, viewer: Viewer) -> ColumnElement[bool]:
    """The condition that keeps the rows of a mapped class, or of `aliased(...)` of one, that the viewer may see."""
    rows: FromClause = inspect(entity).selectable
    return POLICIES[table_of(rows).name].condition(rows, viewer)


def table_of(rows: FromClause) -> Table:
    """The table of an alias, or the table itself."""
    table: Any = getattr(rows, "element", rows)
    assert isinstance(table, Table), rows
    return cast("Table", table)
