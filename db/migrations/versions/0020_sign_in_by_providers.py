"""Sign-in by providers: the identities that open accounts, and the sign-ins under way."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from db.migrations.enums import change_enum

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

TEMPLATES = (
    *("password_reset", "password_changed"),
    *("verify_registration", "address_taken", "invitation"),
    *("verify_new_email", "email_change_requested", "email_changed"),
    *("new_device", "totp_added", "totp_removed", "backup_codes_replaced"),
)
NEW_TEMPLATES = ("identity_linked", "identity_unlinked")
METHODS = ("password", "totp", "backup_code")


def upgrade() -> None:
    op.create_table(
        "oauth_identities",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("linked_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_oauth_identities_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_oauth_identities")),
        sa.UniqueConstraint("issuer", "subject", name=op.f("uq_oauth_identities_issuer_subject")),
        sa.UniqueConstraint("user_id", "provider", name=op.f("uq_oauth_identities_user_id_provider")),
    )
    op.create_table(
        "oauth_flows",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("next_path", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=True),
        sa.Column("invitation_id", sa.Uuid(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name=op.f("fk_oauth_flows_session_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["invitation_id"], ["invitations.id"], name=op.f("fk_oauth_flows_invitation_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_oauth_flows")),
        sa.UniqueConstraint("secret_sha256", name=op.f("uq_oauth_flows_secret_sha256")),
    )
    op.create_index("ix_oauth_flows_expires_at", "oauth_flows", ["expires_at"])
    op.create_index(op.f("ix_oauth_flows_session_id"), "oauth_flows", ["session_id"])
    op.create_index(op.f("ix_oauth_flows_invitation_id"), "oauth_flows", ["invitation_id"])
    change_enum(op, "email_messages", "template", (*TEMPLATES, *NEW_TEMPLATES))
    change_enum(op, "login_events", "method", (*METHODS, "oauth"))


def downgrade() -> None:
    op.execute("DELETE FROM login_events WHERE method = 'oauth'")
    change_enum(op, "login_events", "method", METHODS)
    mails = sa.table("email_messages", sa.column("template"))
    op.execute(mails.delete().where(mails.c.template.in_(NEW_TEMPLATES)))
    change_enum(op, "email_messages", "template", TEMPLATES)
    op.drop_table("oauth_flows")
    op.drop_table("oauth_identities")
