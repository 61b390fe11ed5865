"""Triggers on tables whose rows are outputs of jobs, in place of a foreign key from `job_outputs`."""

from __future__ import annotations

from typing import Literal

from alembic.operations import Operations


def guard_outputs(op: Operations, table: str, kind: str, on_delete: Literal["cascade", "restrict"]) -> None:
    """On delete of a row, delete its output (`cascade`), or refuse if there is one (`restrict`)."""
    op.execute(
        f"CREATE TRIGGER guard_output AFTER DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION trellis_guard_output('{kind}', '{on_delete}')"
    )


def unguard_outputs(op: Operations, table: str) -> None:
    """Drop the trigger."""
    op.execute(f"DROP TRIGGER guard_output ON {table}")
