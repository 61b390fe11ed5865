"""Change the CHECK of an enum column (`db.core.base.enum_column`) in a migration."""

from __future__ import annotations

from collections.abc import Sequence

from alembic.operations import Operations


def change_enum(op: Operations, table: str, column: str, values: Sequence[str]) -> None:
    """Allow only these values. Write them out: a revision is frozen, while the enum in code changes.

    PostgreSQL scans the whole table under an exclusive lock and fails if a row has another value; change such rows before.
    """
    drop_enum(op, table, column)
    quoted = ", ".join(f"'{value}'" for value in values)
    op.create_check_constraint(op.f(f"ck_{table}_{column}_is_known"), table, f"{column} IN ({quoted})")


def drop_enum(op: Operations, table: str, column: str) -> None:
    """Drop the CHECK, so that any value is allowed."""
    op.drop_constraint(op.f(f"ck_{table}_{column}_is_known"), table, if_exists=True)
