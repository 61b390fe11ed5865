"""Second factors: the encrypted secret of an app, backup codes, challenges between password and code, and the devices that users know."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from db.migrations.enums import change_enum

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

TEMPLATES = (
    *("password_reset", "password_changed"),
    *("verify_registration", "address_taken", "invitation"),
    *("verify_new_email", "email_change_requested", "email_changed"),
)
NEW_TEMPLATES = ("new_device", "totp_added", "totp_removed", "backup_codes_replaced")
# The networks of `db.core.networks.wide_network`: nobody is told of a device as new that has a session already.
KNOWN = """
INSERT INTO known_devices (user_id, network, browser, device, created_at, last_seen_at)
SELECT user_id, network, browser, device, min(created_at), max(last_active_at) FROM (
    SELECT user_id, coalesce(browser, '') AS browser, coalesce(device, '') AS device, created_at, last_active_at,
        CASE WHEN pg_input_is_valid(ip_address, 'inet')
             THEN host(network(set_masklen(ip_address::inet, CASE family(ip_address::inet) WHEN 4 THEN 24 ELSE 48 END)))
             ELSE 'unknown' END AS network
    FROM sessions
) AS seen GROUP BY 1, 2, 3, 4
"""


def upgrade() -> None:
    op.add_column("users", sa.Column("totp_secret", sa.LargeBinary(), nullable=True))
    op.add_column("users", sa.Column("totp_step", sa.BigInteger(), nullable=True))
    op.add_column("users", sa.Column("totp_pending_secret", sa.LargeBinary(), nullable=True))
    op.add_column("users", sa.Column("totp_pending_at", sa.DateTime(timezone=True), nullable=True))
    op.create_check_constraint(op.f("ck_users_totp_secret_has_a_step"), "users", "(totp_secret IS NULL) = (totp_step IS NULL)")
    op.create_check_constraint(
        op.f("ck_users_totp_pending_secret_has_a_time"), "users", "(totp_pending_secret IS NULL) = (totp_pending_at IS NULL)"
    )
    op.create_table(
        "backup_codes",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("code_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_backup_codes_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "code_sha256", name=op.f("pk_backup_codes")),
    )
    op.create_table(
        "login_challenges",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("token_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("password_digest", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_login_challenges_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_login_challenges")),
        sa.UniqueConstraint("token_sha256", name=op.f("uq_login_challenges_token_sha256")),
    )
    op.create_index(op.f("ix_login_challenges_user_id"), "login_challenges", ["user_id"])
    op.create_index("ix_login_challenges_expires_at", "login_challenges", ["expires_at"])
    op.create_table(
        "known_devices",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("browser", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_known_devices_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "network", "browser", "device", name=op.f("pk_known_devices")),
    )
    op.create_index("ix_known_devices_last_seen_at", "known_devices", ["last_seen_at"])
    op.execute(KNOWN)
    op.add_column("email_messages", sa.Column("session_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(op.f("fk_email_messages_session_id"), "email_messages", "sessions", ["session_id"], ["id"], ondelete="SET NULL")
    op.create_index(op.f("ix_email_messages_session_id"), "email_messages", ["session_id"])
    change_enum(op, "email_messages", "template", (*TEMPLATES, *NEW_TEMPLATES))
    change_enum(op, "login_events", "method", ("password", "totp", "backup_code"))


def downgrade() -> None:
    op.execute("DELETE FROM login_events WHERE method <> 'password'")
    change_enum(op, "login_events", "method", ("password",))
    mails = sa.table("email_messages", sa.column("template"))
    op.execute(mails.delete().where(mails.c.template.in_(NEW_TEMPLATES)))
    change_enum(op, "email_messages", "template", TEMPLATES)
    op.drop_column("email_messages", "session_id")
    op.drop_table("known_devices")
    op.drop_table("login_challenges")
    op.drop_table("backup_codes")
    for column in ("totp_pending_at", "totp_pending_secret", "totp_step", "totp_secret"):
        op.drop_column("users", column)
