"""The runs of metric points are checked once a statement.

The foreign key asks for the run of each point alone, which took a third of the time of a batch of 1,000 points. It stays in the catalog, where
PostgreSQL no longer enforces it; two triggers do: an insert locks each of its runs once, and a deletion of runs takes their points with it.
"""

from __future__ import annotations

from alembic import op

from db.migrations.functions import drop_function, install_function

revision = "0081"
down_revision = "0080"
branch_labels = None
depends_on = None

KEY = "fk_metric_points_run_id"
TRIGGERS = {
    "trellis_check_runs_of_points": ("metric_points", "INSERT ON metric_points REFERENCING NEW TABLE AS added"),
    "trellis_delete_points_of_runs": ("runs", "DELETE ON runs REFERENCING OLD TABLE AS deleted"),
}


def upgrade() -> None:
    op.execute(f"ALTER TABLE metric_points ALTER CONSTRAINT {KEY} NOT ENFORCED")
    for function, (_, event) in TRIGGERS.items():
        install_function(op, function, revision)
        op.execute(f"CREATE TRIGGER {KEY} AFTER {event} FOR EACH STATEMENT EXECUTE FUNCTION {function}()")


def downgrade() -> None:
    for function, (table, _) in TRIGGERS.items():
        op.execute(f"DROP TRIGGER {KEY} ON {table}")
        drop_function(op, function)
    op.execute(f"ALTER TABLE metric_points ALTER CONSTRAINT {KEY} ENFORCED")
