"""Runs follow their jobs by a trigger of their own; the guard of jobs knows jobs alone."""

from __future__ import annotations

from alembic import op

from db.migrations.functions import drop_function, install_function

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    install_function(op, "trellis_guard_job", revision)
    install_function(op, "trellis_run_follows_job", revision)
    op.execute(
        "CREATE TRIGGER run_follows AFTER UPDATE OF status ON jobs FOR EACH ROW WHEN (OLD.status <> NEW.status)"
        " EXECUTE FUNCTION trellis_run_follows_job()"
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER run_follows ON jobs")
    drop_function(op, "trellis_run_follows_job")
    install_function(op, "trellis_guard_job", "0002")
