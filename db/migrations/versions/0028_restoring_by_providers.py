"""A sign-in by a provider that restores a deleted account, and the list of all invitations to register."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("oauth_flows", sa.Column("restores", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("oauth_flows", sa.Column("username", sa.Text(), nullable=True))
    op.create_check_constraint("only_restored_get_a_name", "oauth_flows", "restores OR username IS NULL")
    columns, to_register = [sa.text("created_at DESC"), sa.text("id DESC")], sa.text("owner_id = invited_by_id")
    op.create_index("ix_invitations_to_register", "invitations", columns, postgresql_where=to_register)


def downgrade() -> None:
    op.drop_index("ix_invitations_to_register", "invitations")
    op.drop_constraint(op.f("ck_oauth_flows_only_restored_get_a_name"), "oauth_flows")
    op.drop_column("oauth_flows", "username")
    op.drop_column("oauth_flows", "restores")
