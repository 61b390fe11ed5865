"""The guard of a table whose rows are outputs of jobs; it does what a foreign key from `job_outputs` to the table would do on a delete."""

from __future__ import annotations

from typing import Literal

from alembic.operations import Operations


def guard_outputs(op: Operations, table: str, kind: str, on_delete: Literal["cascade", "restrict"]) -> None:
    """Remove the output with its row (`cascade`), or refuse to delete a row that is one (`restrict`)."""
    op.execute(
        f"CREATE TRIGGER guard_output AFTER DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION trellis_guard_output('{kind}', '{on_delete}')"
    )


def unguard_outputs(op: Operations, table: str) -> None:
    """Remove the guard."""
    op.execute(f"DROP TRIGGER guard_output ON {table}")
