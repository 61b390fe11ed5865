"""Integrated gradients explain neural networks."""

from __future__ import annotations

from alembic import op

from db.migrations.enums import change_enum

revision = "0049"
down_revision = "0048"
branch_labels = None
depends_on = None

BEFORE = ("tree_shap", "linear", "permutation", "partial_dependence", "occlusion")


def upgrade() -> None:
    change_enum(op, "explanations", "method", (*BEFORE, "integrated_gradients"))


def downgrade() -> None:
    op.execute("DELETE FROM explanations WHERE method = 'integrated_gradients'")  # with their artifacts
    change_enum(op, "explanations", "method", BEFORE)
