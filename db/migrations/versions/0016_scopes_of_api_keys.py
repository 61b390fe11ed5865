"""API keys have scopes and points a minute of their own. Those that exist keep all that the roles of their owners allow."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

ALL_SCOPES = "ARRAY['read', 'write', 'run', 'track', 'account', 'billing', 'admin']"


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("scopes", ARRAY(sa.Text()), server_default=sa.text(ALL_SCOPES), nullable=False))
    op.add_column("api_keys", sa.Column("points_per_minute", sa.Integer(), nullable=True))
    op.create_check_constraint(op.f("ck_api_keys_scopes_are_known"), "api_keys", f"scopes <@ {ALL_SCOPES} AND cardinality(scopes) > 0")
    op.create_check_constraint(op.f("ck_api_keys_points_per_minute_positive"), "api_keys", "points_per_minute > 0")
    op.create_index("ix_api_keys_user_id_created_at", "api_keys", ["user_id", sa.text("created_at DESC"), sa.text("id DESC")])
    op.drop_index(op.f("ix_api_keys_user_id"), "api_keys")


def downgrade() -> None:
    op.create_index(op.f("ix_api_keys_user_id"), "api_keys", ["user_id"])
    op.drop_index("ix_api_keys_user_id_created_at", "api_keys")
    op.drop_column("api_keys", "points_per_minute")
    op.drop_column("api_keys", "scopes")
