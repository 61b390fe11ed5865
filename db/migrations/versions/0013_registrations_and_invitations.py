"""People register, with or without an invitation; addresses are verified, and changed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from db.migrations.enums import change_enum

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

TEMPLATES = ("password_reset", "password_changed")
NEW_TEMPLATES = (
    *("verify_registration", "address_taken", "invitation"),
    *("verify_new_email", "email_change_requested", "email_changed"),
)


def upgrade() -> None:
    op.add_column("users", sa.Column("email_verified_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("account_tokens", sa.Column("new_email", sa.Text(), nullable=True))
    change_enum(op, "account_tokens", "purpose", ("reset_password", "change_email"))
    op.create_check_constraint(
        op.f("ck_account_tokens_a_change_has_a_new_address"),
        "account_tokens",
        "(purpose = 'change_email') = (new_email IS NOT NULL)",
    )
    op.create_table(
        "invitations",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("invited_by_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("role IN ('viewer', 'member', 'admin')", name=op.f("ck_invitations_role_is_known")),
        sa.ForeignKeyConstraint(["invited_by_id"], ["users.id"], name=op.f("fk_invitations_invited_by_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invitations")),
    )
    newest = [sa.text("created_at DESC"), sa.text("id DESC")]
    op.create_index("ix_invitations_invited_by_id_created_at", "invitations", ["invited_by_id", *newest])
    op.create_index("ix_invitations_email", "invitations", [sa.text("lower(email)")])
    op.create_index("ix_invitations_expires_at", "invitations", ["expires_at"])
    op.create_table(
        "registrations",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("full_name", sa.Text(), nullable=True),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("invitation_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("token_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["invitation_id"], ["invitations.id"], name=op.f("fk_registrations_invitation_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_registrations")),
    )
    op.create_index("ix_registrations_email", "registrations", [sa.text("lower(email)")])
    op.create_index("ix_registrations_expires_at", "registrations", ["expires_at"])
    op.create_index(op.f("ix_registrations_invitation_id"), "registrations", ["invitation_id"])
    change_enum(op, "email_messages", "template", (*TEMPLATES, *NEW_TEMPLATES))
    op.alter_column("email_messages", "user_id", nullable=True)
    for column, table in (("registration_id", "registrations"), ("invitation_id", "invitations")):
        op.add_column("email_messages", sa.Column(column, sa.Uuid(), nullable=True))
        op.create_foreign_key(op.f(f"fk_email_messages_{column}"), "email_messages", table, [column], ["id"], ondelete="CASCADE")
        op.create_index(op.f(f"ix_email_messages_{column}"), "email_messages", [column])
    op.create_check_constraint(
        op.f("ck_email_messages_one_recipient"), "email_messages", "num_nonnulls(user_id, registration_id, invitation_id) = 1"
    )


def downgrade() -> None:
    mails = sa.table("email_messages", sa.column("user_id"), sa.column("template"))
    op.execute(mails.delete().where(mails.c.user_id.is_(None) | mails.c.template.in_(NEW_TEMPLATES)))
    op.drop_constraint(op.f("ck_email_messages_one_recipient"), "email_messages")
    op.drop_column("email_messages", "invitation_id")
    op.drop_column("email_messages", "registration_id")
    op.alter_column("email_messages", "user_id", nullable=False)
    change_enum(op, "email_messages", "template", TEMPLATES)
    op.drop_table("registrations")
    op.drop_table("invitations")
    op.execute("DELETE FROM account_tokens WHERE purpose = 'change_email'")
    op.drop_column("account_tokens", "new_email")
    change_enum(op, "account_tokens", "purpose", ("reset_password",))
    op.drop_column("users", "email_verified_at")
