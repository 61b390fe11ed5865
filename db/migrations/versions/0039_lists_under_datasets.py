"""Runs, models and pipelines are listed under the datasets that they used, and jobs under their snapshot."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None

NEWEST = (sa.text("created_at DESC"), sa.text("id DESC"))
BY_RUN = ("dataset_id", "dataset_version_id")


def upgrade() -> None:
    op.add_column("runs", sa.Column("dataset_id", sa.Uuid(), nullable=True))
    op.execute("UPDATE runs r SET dataset_id = v.dataset_id FROM dataset_versions v WHERE v.id = r.dataset_version_id")
    op.create_foreign_key(op.f("fk_runs_dataset_id"), "runs", "datasets", ["dataset_id"], ["id"], ondelete="RESTRICT")
    for column in BY_RUN:
        op.create_index(f"ix_runs_{column}_created_at", "runs", [column, *NEWEST])
        op.create_index(f"ix_runs_{column}_number", "runs", [column, "number", "id"])
    op.drop_index("ix_runs_dataset_version_id", "runs")
    op.create_index("ix_jobs_snapshot_id_created_at", "jobs", ["snapshot_id", *NEWEST])
    op.drop_index("ix_jobs_snapshot_id", "jobs")
    for table, column in (("model_datasets", "model_id"), ("pipeline_inputs", "pipeline_id")):
        op.create_table(
            table,
            sa.Column(column, sa.Uuid(), nullable=False),
            sa.Column("dataset_id", sa.Uuid(), nullable=False),
            sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
            sa.ForeignKeyConstraint([column], [f"{column.removesuffix('_id')}s.id"], name=op.f(f"fk_{table}_{column}"), ondelete="CASCADE"),
            sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name=op.f(f"fk_{table}_dataset_id"), ondelete="CASCADE"),
            sa.PrimaryKeyConstraint(column, "dataset_id", name=op.f(f"pk_{table}")),
        )
    op.execute("""INSERT INTO model_datasets (model_id, dataset_id, created_at)
      SELECT m.model_id, v.dataset_id, min(m.created_at) FROM model_versions m JOIN dataset_versions v ON v.id = m.dataset_version_id
      GROUP BY m.model_id, v.dataset_id""")
    op.execute("""INSERT INTO pipeline_inputs (pipeline_id, dataset_id, created_at)
      SELECT j.pipeline_id, v.dataset_id, min(j.created_at)
      FROM jobs j JOIN job_inputs i ON i.job_id = j.id JOIN dataset_versions v ON v.id = i.dataset_version_id
      WHERE j.pipeline_id IS NOT NULL GROUP BY j.pipeline_id, v.dataset_id""")
    for table, column in (("model_datasets", "model_id"), ("pipeline_inputs", "pipeline_id")):
        op.create_index(f"ix_{table}_dataset_id", table, ["dataset_id", sa.text("created_at DESC"), sa.text(f"{column} DESC")])


def downgrade() -> None:
    op.drop_table("pipeline_inputs")
    op.drop_table("model_datasets")
    op.create_index("ix_jobs_snapshot_id", "jobs", ["snapshot_id"])
    op.drop_index("ix_jobs_snapshot_id_created_at", "jobs")
    op.create_index("ix_runs_dataset_version_id", "runs", ["dataset_version_id"])
    for column in BY_RUN:
        op.drop_index(f"ix_runs_{column}_number", "runs")
        op.drop_index(f"ix_runs_{column}_created_at", "runs")
    op.drop_column("runs", "dataset_id")
