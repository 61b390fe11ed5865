"""The owner of a row, derived from columns and foreign keys: an oracle independent of the declared policies."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import ColumnElement, Table, or_, select

USERS = "users"


def owner_condition(table: Table, owner: UUID) -> ColumnElement[bool] | None:
    """Return the condition that a row of `table` belongs to `owner`; None if rows of the table have no owner.

    A row belongs to the user in its `owner_id`; without such a column to the owners of the rows that its foreign keys reference, preferring
    keys that are not nullable. `set_by_id` and the like name an actor: they count only for tables without another parent.
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
