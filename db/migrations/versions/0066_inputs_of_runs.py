"""What external runs read."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0066"
down_revision = "0065"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "run_inputs",
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), server_default="", nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("context", sa.Text(), nullable=True),
        sa.Column("dataset_version_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_run_inputs_run_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["dataset_version_id"], ["dataset_versions.id"], name=op.f("fk_run_inputs_dataset_version_id"), ondelete="RESTRICT"
        ),
        sa.PrimaryKeyConstraint("run_id", "source", "digest", name=op.f("pk_run_inputs")),
    )
    op.create_index(op.f("ix_run_inputs_dataset_version_id"), "run_inputs", ["dataset_version_id"])
    op.execute("""
        INSERT INTO run_inputs (run_id, source, dataset_version_id)
        SELECT id, 'version_' || replace(dataset_version_id::text, '-', ''), dataset_version_id FROM runs
        WHERE source = 'external' AND dataset_version_id IS NOT NULL
    """)


def downgrade() -> None:
    op.drop_table("run_inputs")
