"""The runs of an experiment are read in the order of a metric."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0045"
down_revision = "0044"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("run_metrics", sa.Column("experiment_id", sa.Uuid(), nullable=True))
    op.execute("UPDATE run_metrics m SET experiment_id = r.experiment_id FROM runs r WHERE r.id = m.run_id")
    op.alter_column("run_metrics", "experiment_id", nullable=False)
    op.create_foreign_key(
        op.f("fk_run_metrics_experiment_id"), "run_metrics", "experiments", ["experiment_id"], ["id"], ondelete="RESTRICT"
    )
    op.create_index("ix_run_metrics_experiment_id_key_last", "run_metrics", ["experiment_id", "key", "last", "run_id"])


def downgrade() -> None:
    op.drop_index("ix_run_metrics_experiment_id_key_last", table_name="run_metrics")
    op.drop_constraint(op.f("fk_run_metrics_experiment_id"), "run_metrics", type_="foreignkey")
    op.drop_column("run_metrics", "experiment_id")
