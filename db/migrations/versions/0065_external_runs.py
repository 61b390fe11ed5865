"""Runs of external code: without a job, with numbered batches of points, and several points at a step.

The primary key of `metric_points` is built anew, about a minute for each hundred million points, in which the table is locked.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.migrations.enums import change_enum

revision = "0065"
down_revision = "0064"
branch_labels = None
depends_on = None

NEWEST_FIRST = (sa.text("created_at DESC"), sa.text("id DESC"))
COLUMNS = ("last_written_at", "last_batch", "error", "parent_run_id", "source")
IS_LIVE = sa.text("source = 'external' AND status IN ('pending', 'running')")


def upgrade() -> None:
    op.add_column("runs", sa.Column("source", sa.Text(), server_default="job", nullable=False))
    change_enum(op, "runs", "source", ("job", "external"))
    op.add_column("runs", sa.Column("parent_run_id", sa.Uuid(), nullable=True))
    op.add_column("runs", sa.Column("error", postgresql.JSONB(), nullable=True))
    op.add_column("runs", sa.Column("last_batch", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("runs", sa.Column("last_written_at", sa.DateTime(timezone=True), nullable=True))
    op.create_foreign_key(op.f("fk_runs_parent_run_id"), "runs", "runs", ["parent_run_id"], ["id"], ondelete="SET NULL")
    for column in ("source", "parent_run_id"):
        op.create_index(f"ix_runs_{column}_created_at", "runs", [column, *NEWEST_FIRST])
    op.create_index("ix_runs_live_external", "runs", ["id"], postgresql_where=IS_LIVE)
    op.create_check_constraint(op.f("ck_runs_external_without_job"), "runs", "source = 'job' OR job_id IS NULL")
    op.execute("DROP TRIGGER touch ON runs")
    # A batch of points is no change of the run.
    op.execute(
        "CREATE TRIGGER touch BEFORE UPDATE ON runs FOR EACH ROW"
        " WHEN (NEW.last_batch = OLD.last_batch OR NEW.status <> OLD.status) EXECUTE FUNCTION trellis_touch()"
    )
    op.add_column("staged_points", sa.Column("recorded_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False))
    op.add_column("run_metrics", sa.Column("last_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False))
    op.execute("""
        UPDATE run_metrics m SET last_at = coalesce(
          (SELECT p.recorded_at FROM metric_points p WHERE p.run_id = m.run_id AND p.key = m.key AND p.step = m.last_step), r.updated_at)
        FROM runs r WHERE r.id = m.run_id
    """)
    op.drop_constraint(op.f("pk_metric_points"), "metric_points", type_="primary")
    op.create_primary_key(op.f("pk_metric_points"), "metric_points", ["run_id", "key", "step", "recorded_at", "value"])


def downgrade() -> None:
    op.drop_constraint(op.f("pk_metric_points"), "metric_points", type_="primary")
    op.execute("""
        DELETE FROM metric_points p USING metric_points other WHERE other.run_id = p.run_id AND other.key = p.key AND other.step = p.step
        AND (other.recorded_at, other.value) > (p.recorded_at, p.value)
    """)
    op.create_primary_key(op.f("pk_metric_points"), "metric_points", ["run_id", "key", "step"])
    op.drop_column("run_metrics", "last_at")
    op.drop_column("staged_points", "recorded_at")
    op.execute("DROP TRIGGER touch ON runs")
    op.execute("CREATE TRIGGER touch BEFORE UPDATE ON runs FOR EACH ROW EXECUTE FUNCTION trellis_touch()")
    op.drop_constraint(op.f("ck_runs_external_without_job"), "runs", type_="check")
    op.drop_index("ix_runs_live_external", "runs")
    for column in ("parent_run_id", "source"):
        op.drop_index(f"ix_runs_{column}_created_at", "runs")
    for column in COLUMNS:
        op.drop_column("runs", column)
