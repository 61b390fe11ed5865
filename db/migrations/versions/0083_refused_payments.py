"""A payment that is not what the purchase costs is sent back, and its event tells why."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0083"
down_revision = "0082"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("payment_events", sa.Column("refused", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("payment_events", "refused")
