"""Passkeys, and the challenges that they answer."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

from db.migrations.enums import change_enum

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

METHODS = ("password", "totp", "backup_code", "oauth")
TEMPLATES = (
    *("password_reset", "password_changed"),
    *("verify_registration", "address_taken", "invitation"),
    *("verify_new_email", "email_change_requested", "email_changed"),
    *("new_device", "totp_added", "totp_removed", "backup_codes_replaced"),
    *("identity_linked", "identity_unlinked", "account_deleted", "account_restored"),
)
NEW_TEMPLATES = ("passkey_added", "passkey_removed")


def upgrade() -> None:
    op.create_table(
        "passkeys",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("webauthn_id", sa.LargeBinary(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("sign_count", sa.BigInteger(), nullable=False),
        sa.Column("transports", ARRAY(sa.Text()), nullable=False),
        sa.Column("is_backup_eligible", sa.Boolean(), nullable=False),
        sa.Column("is_backed_up", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("sign_count >= 0", name=op.f("ck_passkeys_sign_count_not_negative")),
        sa.CheckConstraint("is_backup_eligible OR NOT is_backed_up", name=op.f("ck_passkeys_backed_up_is_eligible")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_passkeys_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_passkeys")),
        sa.UniqueConstraint("webauthn_id", name=op.f("uq_passkeys_webauthn_id")),
    )
    op.create_index("uq_passkeys_user_id_name", "passkeys", ["user_id", sa.text("lower(name)")], unique=True)
    op.create_table(
        "passkey_challenges",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("challenge_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("(session_id IS NULL) = (name IS NULL)", name=op.f("ck_passkey_challenges_new_passkey_has_a_name")),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name=op.f("fk_passkey_challenges_session_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_passkey_challenges")),
        sa.UniqueConstraint("challenge_sha256", name=op.f("uq_passkey_challenges_challenge_sha256")),
    )
    op.create_index(op.f("ix_passkey_challenges_session_id"), "passkey_challenges", ["session_id"])
    op.create_index("ix_passkey_challenges_expires_at", "passkey_challenges", ["expires_at"])
    change_enum(op, "email_messages", "template", (*TEMPLATES, *NEW_TEMPLATES))
    change_enum(op, "login_events", "method", (*METHODS, "passkey"))


def downgrade() -> None:
    op.execute("DELETE FROM login_events WHERE method = 'passkey'")
    change_enum(op, "login_events", "method", METHODS)
    mails = sa.table("email_messages", sa.column("template"))
    op.execute(mails.delete().where(mails.c.template.in_(NEW_TEMPLATES)))
    change_enum(op, "email_messages", "template", TEMPLATES)
    op.drop_table("passkey_challenges")
    op.drop_table("passkeys")
