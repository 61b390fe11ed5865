"""Runs are listed by dataset, pipeline, algorithm, name and duration, and in the order of a hyperparameter.

It takes about two minutes for each million runs, whose rows are written anew.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from db.migrations.functions import drop_function, install_function

revision = "0050"
down_revision = "0049"
branch_labels = None
depends_on = None

NEWEST = "created_at DESC, id DESC"
ORDERS = {"name": "lower(name)", "started_at": "started_at", "completed_at": "completed_at", "duration": "duration"}
INDEXES = {
    "ix_runs_pipeline_id_created_at": f"runs (pipeline_id, {NEWEST})",
    "ix_runs_algorithm_created_at": f"runs (algorithm, {NEWEST})",
    "ix_runs_algorithm_experiment_id": "runs (algorithm, experiment_id)",
    "ix_runs_name_trigrams": "runs USING gin (lower(name) gin_trgm_ops)",
    **{f"ix_runs_{name}": f"runs ({expression}, id)" for name, expression in ORDERS.items()},
    **{f"ix_runs_owner_id_{name}": f"runs (owner_id, {expression}, id)" for name, expression in ORDERS.items()},
}
COLUMNS = ("pipeline_id", "algorithm", "updated_at", "duration")


def upgrade() -> None:
    op.execute(
        "ALTER TABLE runs ADD COLUMN pipeline_id uuid, ADD COLUMN algorithm text, ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now(),"
        " ADD COLUMN duration float8 GENERATED ALWAYS AS (EXTRACT(epoch FROM completed_at - started_at)::float8) STORED"
    )
    op.execute(
        "UPDATE runs r SET updated_at = coalesce(completed_at, started_at, created_at),"
        " pipeline_id = (SELECT j.pipeline_id FROM jobs j WHERE j.id = r.job_id),"
        " algorithm = (SELECT v.algorithm FROM model_versions v WHERE v.run_id = r.id ORDER BY v.id LIMIT 1)"
    )
    op.create_foreign_key(op.f("fk_runs_pipeline_id"), "runs", "pipelines", ["pipeline_id"], ["id"], ondelete="RESTRICT")
    op.execute("CREATE TRIGGER touch BEFORE UPDATE ON runs FOR EACH ROW EXECUTE FUNCTION trellis_touch()")
    op.create_table(
        "run_parameters",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("number", sa.Double(), nullable=True),
        sa.Column("text", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_run_parameters_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "key", name=op.f("pk_run_parameters")),
    )
    install_function(op, "trellis_json_leaves", revision)
    install_function(op, "trellis_run_parameters", revision)
    op.execute("INSERT INTO run_parameters SELECT r.id, l.key, l.number, l.text FROM runs r, trellis_json_leaves(r.hyperparameters) l")
    op.create_index("ix_run_parameters_key_number", "run_parameters", ["key", "number", "run_id"])
    op.execute("CREATE TRIGGER keep_parameters AFTER INSERT ON runs FOR EACH ROW EXECUTE FUNCTION trellis_run_parameters()")
    op.execute(
        "CREATE TRIGGER change_parameters AFTER UPDATE OF hyperparameters ON runs FOR EACH ROW"
        " WHEN (NEW.hyperparameters IS DISTINCT FROM OLD.hyperparameters) EXECUTE FUNCTION trellis_run_parameters()"
    )
    for name, definition in INDEXES.items():
        op.execute(f"CREATE INDEX {name} ON {definition}")
    op.execute("CREATE STATISTICS st_runs_lower_name ON (lower(name)) FROM runs")
    op.execute("ANALYZE runs, run_parameters")


def downgrade() -> None:
    op.execute("DROP STATISTICS st_runs_lower_name")
    for trigger in ("touch", "keep_parameters", "change_parameters"):
        op.execute(f"DROP TRIGGER {trigger} ON runs")
    drop_function(op, "trellis_run_parameters")
    op.drop_table("run_parameters")
    drop_function(op, "trellis_json_leaves")
    for name in INDEXES:
        op.drop_index(name, table_name="runs")
    for name in COLUMNS:
        op.drop_column("runs", name)
