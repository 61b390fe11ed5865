"""What the retention of rows has removed: months that were dropped, with their archives, and totals by table."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0068"
down_revision = "0067"
branch_labels = None
depends_on = None


def upgrade() -> None:
    counts = [sa.Column(name, sa.BigInteger(), server_default="0", nullable=False) for name in ("rows", "kept_rows", "size_bytes")]
    op.create_table(
        "dropped_partitions",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("table_name", sa.Text(), nullable=False),
        sa.Column("drops", sa.Integer(), server_default="0", nullable=False),
        *counts,
        sa.Column("archive_key", sa.Text(), nullable=True),
        sa.Column("archive_bytes", sa.BigInteger(), nullable=True),
        sa.Column("archive_sha256", sa.Text(), nullable=True),
        sa.Column("archived_rows", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("dropped_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_dropped_partitions")),
        sa.CheckConstraint(
            "drops >= 0 AND rows >= 0 AND kept_rows >= 0 AND size_bytes >= 0", name=op.f("ck_dropped_partitions_counts_not_negative")
        ),
        sa.CheckConstraint(
            "num_nonnulls(archive_key, archive_bytes, archive_sha256, archived_rows) IN (0, 4)",
            name=op.f("ck_dropped_partitions_archive_is_whole"),
        ),
        sa.CheckConstraint("(drops > 0) = (dropped_at IS NOT NULL)", name=op.f("ck_dropped_partitions_dropped_at_says_dropped")),
    )
    op.create_table(
        "retention_totals",
        sa.Column("table_name", sa.Text(), nullable=False),
        sa.Column("rows", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("partitions", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("table_name", name=op.f("pk_retention_totals")),
        sa.CheckConstraint("rows >= 0 AND partitions >= 0", name=op.f("ck_retention_totals_counts_not_negative")),
    )


def downgrade() -> None:
    op.drop_table("retention_totals")
    op.drop_table("dropped_partitions")
