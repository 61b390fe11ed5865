"""Whose a row is, read from the tables' columns and foreign keys: an oracle beside the policies that the product declares."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import ColumnElement, Table, or_, select

USERS = "users"


def owner_condition(table: Table, owner: UUID) -> ColumnElement[bool] | None:
    """Whether a row of `table` belongs to `owner`; None where no row of it belongs to anybody.

    A row belongs to the user in its `owner_id`; without such a column to the users that its foreign keys lead to, over keys that are
    never null where it has some. `set_by_id` and the like name who did something: a table that has other parents goes by these.
    """
    return _condition(table, owner, frozenset())


def _condition(table: Table, owner: UUID, visited: frozenset[str]) -> ColumnElement[bool] | None:
    if table.name == USERS:
        return table.c.id == owner
    if "owner_id" in table.c:
        return table.c.owner_id == owner
    keys = [key for key in table.foreign_keys if key.column.table.name not in visited | {table.name}]
    keys = [key for key in keys if not key.parent.nullable] or keys
    conditions: list[ColumnElement[bool]] = []
    for key in sorted(keys, key=lambda key: key.parent.name):
        parent = key.column.table
        condition = _condition(parent, owner, visited | {table.name})
        if condition is not None:
            conditions.append(key.parent.in_(select(key.column).where(condition)))
    return or_(*conditions) if conditions else None
