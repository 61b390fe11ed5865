"""Runs tell what their neural network is made of, and how large it is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0048"
down_revision = "0047"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("architecture", postgresql.JSONB(), nullable=True))


def downgrade() -> None:
    op.drop_column("runs", "architecture")
