"""Annotations: texts by key on runs, experiments, models and their versions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0059"
down_revision = "0058"
branch_labels = None
depends_on = None

_TABLES = ("runs", "experiments", "models", "model_versions")


def upgrade() -> None:
    for table in _TABLES:
        op.add_column(table, sa.Column("annotations", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False))
    op.create_index("ix_runs_annotations", "runs", ["annotations"], postgresql_using="gin")


def downgrade() -> None:
    for table in _TABLES:
        op.drop_column(table, "annotations")
