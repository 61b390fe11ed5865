"""Models are found by the algorithm of their versions."""

from __future__ import annotations

from alembic import op

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_model_versions_algorithm", "model_versions", ["algorithm", "model_id"])


def downgrade() -> None:
    op.drop_index("ix_model_versions_algorithm", "model_versions")
