"""What a team owns has a maker, and its jobs may count in the limits of another account."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

MADE = ("datasets", "pipelines", "experiments", "models", "jobs")


def upgrade() -> None:
    for table in MADE:
        op.add_column(table, sa.Column("created_by_id", sa.Uuid(), nullable=True))
    op.add_column("jobs", sa.Column("payer_id", sa.Uuid(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "payer_id")
    for table in MADE:
        op.drop_column(table, "created_by_id")
