"""What was deleted is purged; a row that lineage points to stays, emptied, and says when."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0076"
down_revision = "0075"
branch_labels = None
depends_on = None

TABLES = ("datasets", "dataset_versions", "pipelines", "models", "model_versions", "experiments", "runs", "studies")


def upgrade() -> None:
    for table in TABLES:
        op.add_column(table, sa.Column("purged_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("deletions", sa.Column("purge_started_at", sa.DateTime(timezone=True), nullable=True))
    op.drop_index("ix_deletions_restorable_until", "deletions")
    has_not_started, has_started = sa.text("purge_started_at IS NULL"), sa.text("purge_started_at IS NOT NULL")
    op.create_index("ix_deletions_restorable_until", "deletions", ["restorable_until", "id"], postgresql_where=has_not_started)
    op.create_index("ix_deletions_purging", "deletions", ["purge_started_at", "id"], postgresql_where=has_started)


def downgrade() -> None:
    op.drop_index("ix_deletions_purging", "deletions")
    op.drop_column("deletions", "purge_started_at")  # and the index on the others with it
    op.create_index("ix_deletions_restorable_until", "deletions", ["restorable_until", "id"])
    for table in TABLES:
        op.drop_column(table, "purged_at")
