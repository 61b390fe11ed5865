"""What the job engine and the limits keep: checkpoints, chores, points on their way in, tiers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "chores",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("runs", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("failures", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("changed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint("runs >= 0 AND failures >= 0", name=op.f("ck_chores_counts_not_negative")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_chores")),
    )
    op.create_table(
        "staged_points",
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("staged_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "position", name=op.f("pk_staged_points")),
        prefixes=["UNLOGGED"],
    )
    op.create_index("ix_staged_points_staged_at", "staged_points", ["staged_at"], unique=False)
    op.create_table(
        "job_checkpoints",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("state", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("object_key", sa.Text(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("num_nonnulls(object_key, size_bytes, sha256) IN (0, 3)", name=op.f("ck_job_checkpoints_object_is_whole")),
        sa.CheckConstraint("position >= 0 AND size_bytes >= 0", name=op.f("ck_job_checkpoints_counts_not_negative")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_checkpoints_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "name", name=op.f("pk_job_checkpoints")),
        sa.UniqueConstraint("object_key", name=op.f("uq_job_checkpoints_object_key")),
    )
    op.add_column("artifacts", sa.Column("attempt", sa.Integer(), nullable=True))
    op.add_column("jobs", sa.Column("estimated_completed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("users", sa.Column("tier", sa.Text(), server_default="free", nullable=False))
    op.create_check_constraint("tier", "users", "tier IN ('free', 'pro', 'enterprise')")


def downgrade() -> None:
    op.drop_column("users", "tier")
    op.drop_column("jobs", "estimated_completed_at")
    op.drop_column("artifacts", "attempt")
    op.drop_table("job_checkpoints")
    op.drop_index("ix_staged_points_staged_at", table_name="staged_points")
    op.drop_table("staged_points")
    op.drop_table("chores")
