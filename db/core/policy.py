"""Which rows of a table a viewer may see. Each table declares one policy together with its columns:

    class Dataset(Table, policy=Owned()): ...
    class DatasetVersion(Table, policy=Through("dataset_id")): ...

`visible(DatasetVersion, viewer)` is the condition that every query and service adds to its statement. A mapped class without a policy
raises `TypeError` when it is defined.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Protocol, cast
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    FromClause,
    Table,
    Uuid,
    and_,
    any_,
    bindparam,
    column,
    false,
    inspect,
    literal_column,
    or_,
    select,
    table,
    true,
)
from sqlalchemy.sql import visitors

from db.core.sql import Rows
from db.core.viewer import SHIPPED_ACCOUNT, Viewer


@dataclass(frozen=True, slots=True)
class OneAccount(Viewer):
    """A viewer who is shown only what one of their accounts owns, which is an expression of the statement around.

    A list over several accounts reads the first rows of each of them.
    """

    account: ColumnElement[UUID] | None = None

    @classmethod
    def of(cls, viewer: Viewer, account: ColumnElement[UUID]) -> OneAccount:
        return cls(**{field.name: getattr(viewer, field.name) for field in fields(Viewer) if field.init}, account=account)


class Policy(Protocol):
    """The condition under which a viewer may see a row of `rows`, a table or an alias of one. Admins and the system see every row."""

    def condition(self, rows: FromClause, viewer: Viewer) -> ColumnElement[bool]: ...


@dataclass(frozen=True, slots=True)
class Owned:
    """A row belongs to the account in `column`, a person's or a team's. The only definition of ownership."""

    column: str = "owner_id"

    def condition(self, rows: FromClause, viewer: Viewer) -> ColumnElement[bool]:
        return true() if viewer.sees_all else is_one_of_accounts(rows.c[self.column], viewer)


_MEMBERSHIPS = table("memberships", column("team_id", Uuid), column("user_id", Uuid), column("role"))


@dataclass(frozen=True, slots=True)
class Administered(Owned):
    """A row belongs to the account in `column`; of a team, its ADMINs alone see it. Their role is read with the rows, not with the viewer."""

    def condition(self, rows: FromClause, viewer: Viewer) -> ColumnElement[bool]:
        if viewer.sees_all:
            return true()
        owner = rows.c[self.column]
        is_admin = (
            _MEMBERSHIPS.c.team_id == owner,
            _MEMBERSHIPS.c.user_id == viewer.id,
            _MEMBERSHIPS.c.role == literal_column("'admin'"),
        )
        administers = select(1).select_from(_MEMBERSHIPS).where(*is_admin).correlate(rows).exists()
        return and_(is_one_of_accounts(owner, viewer), or_(owner == viewer.id, administers))


@dataclass(frozen=True, slots=True)
class Personal:
    """A row is the user in `column`, or usable by this user alone, such as a token. Never shared with an account."""

    column: str

    def condition(self, rows: FromClause, viewer: Viewer) -> ColumnElement[bool]:
        return true() if viewer.sees_all else rows.c[self.column] == viewer.id


@dataclass(frozen=True, slots=True)
class Received:
    """A row is for the user in `column`, and tells of the account in `account_column`: they see it as long as they see that account's rows."""

    column: str
    account_column: str

    def condition(self, rows: FromClause, viewer: Viewer) -> ColumnElement[bool]:
        if viewer.sees_all:
            return true()
        account = rows.c[self.account_column]
        is_theirs = rows.c[self.column] == viewer.id
        if not viewer.teams:
            return and_(is_theirs, account == viewer.id)
        return and_(is_theirs, account == any_(bindparam(None, viewer.accounts, type_=ARRAY(Uuid), unique=True)))


@dataclass(frozen=True, slots=True)
class SharedBetween:
    """A row is visible to the account in `column`, the owner of a thing, and to the user in `other_column`, such as whoever changed it.

    What they did to the things of a team, they see only while they are in it.
    """

    column: str
    other_column: str

    def condition(self, rows: FromClause, viewer: Viewer) -> ColumnElement[bool]:
        if viewer.sees_all:
            return true()
        return or_(is_one_of_accounts(rows.c[self.column], viewer), self.of_other(rows, viewer))

    def of_other(self, rows: FromClause, viewer: Viewer) -> ColumnElement[bool]:
        """The condition that the viewer sees a row as the user in `other_column`."""
        (key,) = table_of(rows).c[self.column].foreign_keys
        owner = key.column.table.alias("owner")
        # Of few rows, and as a value: of an anti-join, the planner may read all users.
        kind = select(owner.c.kind).where(owner.c.id == rows.c[self.column]).correlate(rows).scalar_subquery()
        return and_(rows.c[self.other_column] == viewer.id, kind.is_distinct_from(literal_column("'team'")))


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
        return correlated(statement.correlate(rows), viewer).exists()


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


def is_one_of_accounts(column: ColumnElement[UUID], viewer: Viewer) -> ColumnElement[bool]:
    """The condition that an account is one that the viewer sees. Of a single one, an index has the rows in the order of a list."""
    if isinstance(viewer, OneAccount):
        return column == viewer.account
    if not viewer.teams:
        return column == viewer.id
    return column == any_(bindparam(None, viewer.accounts, type_=ARRAY(Uuid), unique=True))


def correlated(statement: Rows, viewer: Viewer) -> Rows:
    """The select of a subquery, with the viewer's account taken from the statement around it."""
    around: Any = getattr(viewer.account, "table", None) if isinstance(viewer, OneAccount) else None
    return statement if around is None else statement.correlate(around)


def lists_by_account(statement: Callable[[Viewer], Rows], viewer: Viewer) -> bool:
    """Whether the list of `statement` is read account by account: the viewer has several, and the rows belong to accounts."""
    if viewer.sees_all or not viewer.teams or isinstance(viewer, OneAccount):
        return False
    account: ColumnElement[UUID] = literal_column("account", Uuid())
    return any(element is account for element in visitors.iterate(statement(OneAccount.of(viewer, account))))


def visible(entity: Any, viewer: Viewer) -> ColumnElement[bool]:
    """The condition that keeps the rows of a mapped class, or of `aliased(...)` of one, that the viewer may see."""
    rows: FromClause = inspect(entity).selectable
    return POLICIES[table_of(rows).name].condition(rows, viewer)


def visible_or_shipped(entity: Any, viewer: Viewer) -> ColumnElement[bool]:
    """`visible`, and what ships with the product: for look-ups by id and edges. Lists are of `visible` rows that are not `is_shipped`."""
    return or_(visible(entity, viewer), is_shipped(entity))


def is_shipped(entity: Any) -> ColumnElement[bool]:
    """The condition that a row of an `Owned` table ships with the product."""
    rows: FromClause = inspect(entity).selectable
    policy = POLICIES[table_of(rows).name]
    assert isinstance(policy, Owned)
    return rows.c[policy.column] == literal_column(f"'{SHIPPED_ACCOUNT}'::uuid", Uuid())


def table_of(rows: FromClause) -> Table:
    """The table of an alias, or the table itself."""
    table: Any = getattr(rows, "element", rows)
    assert isinstance(table, Table), rows
    return cast("Table", table)
