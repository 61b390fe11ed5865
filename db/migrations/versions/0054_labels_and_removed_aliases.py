"""Model versions have a label and a description, and aliases can be removed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0054"
down_revision = "0053"
branch_labels = None
depends_on = None

HISTORY = "ix_model_alias_events_model_id_set_at"


def upgrade() -> None:
    op.add_column("model_versions", sa.Column("label", sa.Text(), nullable=True))
    op.add_column("model_versions", sa.Column("description", sa.Text(), nullable=True))
    op.alter_column("model_alias_events", "model_version_id", nullable=True)
    op.create_index(HISTORY, "model_alias_events", ["model_id", sa.text("set_at DESC"), sa.text("id DESC")])


def downgrade() -> None:
    op.drop_index(HISTORY, table_name="model_alias_events")
    op.execute("DELETE FROM model_alias_events WHERE model_version_id IS NULL")
    op.alter_column("model_alias_events", "model_version_id", nullable=False)
    op.drop_column("model_versions", "description")
    op.drop_column("model_versions", "label")
