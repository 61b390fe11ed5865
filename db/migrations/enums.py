"""The CHECK of a column that holds the values of an enum (`db.core.base.enum_column`), changed in one line of a revision."""

from __future__ import annotations

from collections.abc import Sequence

from alembic.operations import Operations


def change_enum(op: Operations, table: str, column: str, values: Sequence[str]) -> None:
    """Let the column hold these values alone. Write them out: a revision is frozen, and the enum in code goes on changing.

    PostgreSQL reads the whole table under an exclusive lock and refuses where a row holds another value; move such rows before.
    """
    drop_enum(op, table, column)
    quoted = ", ".join(f"'{value}'" for value in values)
    op.create_check_constraint(op.f(f"ck_{table}_{column}_is_known"), table, f"{column} IN ({quoted})")


def drop_enum(op: Operations, table: str, column: str) -> None:
    """Let the column hold any value, as before the check was first written."""
    op.drop_constraint(op.f(f"ck_{table}_{column}_is_known"), table, if_exists=True)
