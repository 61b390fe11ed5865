"""Tutorials and the progress of users."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0084"
down_revision = "0083"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tutorials",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("minutes", sa.Integer(), nullable=False),
        sa.Column("steps", postgresql.JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("minutes > 0", name=op.f("ck_tutorials_minutes_positive")),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_tutorials_owner_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tutorials")),
        sa.UniqueConstraint("slug", name=op.f("uq_tutorials_slug")),
    )
    op.create_index(op.f("ix_tutorials_owner_id"), "tutorials", ["owner_id"])
    op.create_table(
        "tutorial_progress",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("tutorial_id", sa.Uuid(), nullable=False),
        sa.Column("step_key", sa.Text(), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_tutorial_progress_user_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["tutorial_id"], ["tutorials.id"], name=op.f("fk_tutorial_progress_tutorial_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "tutorial_id", "step_key", name=op.f("pk_tutorial_progress")),
    )
    op.create_index(op.f("ix_tutorial_progress_tutorial_id"), "tutorial_progress", ["tutorial_id"])


def downgrade() -> None:
    op.drop_table("tutorial_progress")
    op.drop_table("tutorials")
