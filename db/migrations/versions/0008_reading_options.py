"""How the file of a version is read, where its user says so."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("dataset_versions", sa.Column("reading", JSONB(none_as_null=True), nullable=True))


def downgrade() -> None:
    op.drop_column("dataset_versions", "reading")
