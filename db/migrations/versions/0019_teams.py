"""Teams are accounts that nobody signs in to, and persons are members of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

KINDS = ("person", "team", "system")
ROLES = ("viewer", "member", "admin")


def upgrade() -> None:
    op.add_column("users", sa.Column("kind", sa.Text(), server_default="person", nullable=False))
    op.add_column("users", sa.Column("created_by_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(op.f("fk_users_created_by_id"), "users", "users", ["created_by_id"], ["id"])
    op.create_index("ix_users_created_by_id", "users", ["created_by_id"])
    op.create_check_constraint(op.f("ck_users_kind_is_known"), "users", f"kind IN {KINDS}")
    op.create_check_constraint(
        op.f("ck_users_only_persons_sign_in"),
        "users",
        "kind = 'person' OR (role = 'member' AND password_hash IS NULL AND totp_secret IS NULL AND totp_pending_secret IS NULL"
        " AND last_login_at IS NULL)",
    )
    op.create_check_constraint(op.f("ck_users_a_team_has_a_maker"), "users", "(kind = 'team') = (created_by_id IS NOT NULL)")
    op.execute("CREATE INDEX ix_users_kind_created_at ON users (kind, created_at DESC, id DESC) WHERE deleted_at IS NULL")
    op.create_table(
        "memberships",
        sa.Column("team_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(f"role IN {ROLES}", name=op.f("ck_memberships_role_is_known")),
        sa.CheckConstraint("team_id <> user_id", name=op.f("ck_memberships_a_team_is_not_in_itself")),
        sa.ForeignKeyConstraint(["team_id"], ["users.id"], name=op.f("fk_memberships_team_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_memberships_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("team_id", "user_id", name=op.f("pk_memberships")),
    )
    op.execute("CREATE INDEX ix_memberships_team_id_created_at ON memberships (team_id, created_at DESC, user_id DESC)")
    op.create_index("ix_memberships_user_id", "memberships", ["user_id"])


def downgrade() -> None:
    op.drop_table("memberships")
    op.execute("DROP INDEX ix_users_kind_created_at")
    for name in ("a_team_has_a_maker", "only_persons_sign_in", "kind_is_known"):
        op.drop_constraint(op.f(f"ck_users_{name}"), "users")
    op.drop_column("users", "created_by_id")
    op.drop_column("users", "kind")
