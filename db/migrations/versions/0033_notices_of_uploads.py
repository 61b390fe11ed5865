"""The object store tells of uploads that have arrived."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("uploads", sa.Column("noticed_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_uploads_noticed", "uploads", ["noticed_at"], postgresql_where=sa.text("state = 'open' AND noticed_at IS NOT NULL"))


def downgrade() -> None:
    op.drop_column("uploads", "noticed_at")
