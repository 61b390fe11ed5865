"""Pipelines have a task: templates that ship, and copies of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("pipelines", sa.Column("task_key", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("pipelines", "task_key")
