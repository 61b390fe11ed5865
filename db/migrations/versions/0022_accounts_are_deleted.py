"""Accounts are deleted by their owners or by operators, restored for a while, and purged."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from db.migrations.enums import change_enum
from db.migrations.functions import install_function

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

TEMPLATES = (
    "password_reset",
    "password_changed",
    "verify_registration",
    "address_taken",
    "invitation",
    "verify_new_email",
    "email_change_requested",
    "email_changed",
    "new_device",
    "totp_added",
    "totp_removed",
    "backup_codes_replaced",
    "identity_linked",
    "identity_unlinked",
)
NEW_TEMPLATES = ("account_deleted", "account_restored")


def upgrade() -> None:
    op.add_column("users", sa.Column("deleted_by_owner", sa.Boolean(), server_default="false", nullable=False))
    op.add_column("users", sa.Column("purge_started_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("users", sa.Column("purged_at", sa.DateTime(timezone=True), nullable=True))
    op.create_check_constraint(op.f("ck_users_only_deleted_by_owner"), "users", "deleted_at IS NOT NULL OR NOT deleted_by_owner")
    op.create_check_constraint(op.f("ck_users_only_deleted_are_purged"), "users", "deleted_at IS NOT NULL OR purge_started_at IS NULL")
    op.create_check_constraint(op.f("ck_users_purge_ends_after_it_starts"), "users", "purge_started_at IS NOT NULL OR purged_at IS NULL")
    to_purge = sa.text("deleted_at IS NOT NULL AND purged_at IS NULL")
    op.create_index("ix_users_deleted_at", "users", ["deleted_at"], postgresql_where=to_purge)
    op.add_column("login_challenges", sa.Column("restores", sa.Boolean(), server_default="false", nullable=False))
    op.add_column("login_challenges", sa.Column("username", sa.Text(), nullable=True))
    op.create_check_constraint(op.f("ck_login_challenges_only_restored_get_a_name"), "login_challenges", "restores OR username IS NULL")
    change_enum(op, "email_messages", "template", (*TEMPLATES, *NEW_TEMPLATES))
    install_function(op, "trellis_guard_job", "0022")


def downgrade() -> None:
    install_function(op, "trellis_guard_job", "0005")
    mails = sa.table("email_messages", sa.column("template"))
    op.execute(mails.delete().where(mails.c.template.in_(NEW_TEMPLATES)))
    change_enum(op, "email_messages", "template", TEMPLATES)
    challenges = sa.table("login_challenges", sa.column("restores"))
    op.execute(challenges.delete().where(challenges.c.restores))
    op.drop_constraint(op.f("ck_login_challenges_only_restored_get_a_name"), "login_challenges")
    op.drop_column("login_challenges", "username")
    op.drop_column("login_challenges", "restores")
    op.drop_index("ix_users_deleted_at", "users")
    op.drop_column("users", "purged_at")
    op.drop_column("users", "purge_started_at")
    op.drop_column("users", "deleted_by_owner")
