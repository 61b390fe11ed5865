"""Persons are invited to teams."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("invitations", sa.Column("owner_id", sa.Uuid(), nullable=True))
    op.execute("UPDATE invitations SET owner_id = invited_by_id")
    op.alter_column("invitations", "owner_id", nullable=False)
    op.create_foreign_key(op.f("fk_invitations_owner_id"), "invitations", "users", ["owner_id"], ["id"], ondelete="CASCADE")
    op.create_index("ix_invitations_owner_id_created_at", "invitations", ["owner_id", sa.text("created_at DESC"), sa.text("id DESC")])
    op.drop_index("ix_invitations_invited_by_id_created_at", "invitations")
    op.create_index(op.f("ix_invitations_invited_by_id"), "invitations", ["invited_by_id"])


def downgrade() -> None:
    op.execute("DELETE FROM invitations WHERE owner_id <> invited_by_id")
    op.drop_index(op.f("ix_invitations_invited_by_id"), "invitations")
    op.create_index(
        "ix_invitations_invited_by_id_created_at", "invitations", ["invited_by_id", sa.text("created_at DESC"), sa.text("id DESC")]
    )
    op.drop_column("invitations", "owner_id")
