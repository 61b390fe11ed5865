"""Runs that are to reproduce others."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0075"
down_revision = "0074"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("original_run_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(op.f("fk_runs_original_run_id"), "runs", "runs", ["original_run_id"], ["id"], ondelete="SET NULL")
    op.create_index("ix_runs_original_run_id_created_at", "runs", ["original_run_id", sa.text("created_at DESC"), sa.text("id DESC")])


def downgrade() -> None:
    op.drop_column("runs", "original_run_id")
