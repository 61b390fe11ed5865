"""Files of runs, and the best steps of trainings."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0051"
down_revision = "0050"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("best_step", sa.Integer(), nullable=True))
    op.add_column("artifacts", sa.Column("run_id", sa.Uuid(), nullable=True))
    op.add_column("artifacts", sa.Column("path", sa.Text(), nullable=True))
    op.add_column("artifacts", sa.Column("step", sa.Integer(), nullable=True))
    op.execute(
        "UPDATE artifacts a SET run_id = v.run_id, path = a.filename FROM model_versions v WHERE v.id = a.model_version_id AND v.run_id IS NOT NULL"
    )
    op.create_foreign_key(op.f("fk_artifacts_run_id"), "artifacts", "runs", ["run_id"], ["id"], ondelete="SET NULL")
    op.create_check_constraint(op.f("ck_artifacts_has_a_path_in_its_run"), "artifacts", "run_id IS NULL OR path IS NOT NULL")
    op.create_index("ix_artifacts_run_id_path", "artifacts", ["run_id", "path", "id"])


def downgrade() -> None:
    op.drop_column("artifacts", "step")
    op.drop_column("artifacts", "path")
    op.drop_column("artifacts", "run_id")
    op.drop_column("runs", "best_step")
