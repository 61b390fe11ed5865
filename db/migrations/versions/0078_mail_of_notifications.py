"""Mail of notifications: preferences, digests, what providers tell, and addresses that are sent nothing."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.migrations.enums import change_enum

revision = "0078"
down_revision = "0077"
branch_labels = None
depends_on = None

EVENT_TYPES = (
    "job_completed",
    "job_failed",
    "job_cancelled",
    "version_ready",
    "version_failed",
    "schema_proposed",
    "model_version_created",
    "alias_changed",
    "study_completed",
    "study_failed",
    "study_paused",
    "run_completed",
    "run_failed",
    "export_ready",
    "export_failed",
    "credits_low",
    "credits_purchased",
    "quota_near",
    "login_new_device",
    "password_changed",
    "team_invited",
    "webhook_disabled",
)
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
    "account_deleted",
    "account_restored",
    "passkey_added",
    "passkey_removed",
)
NEW_TEMPLATES = ("event", "daily_digest", "weekly_digest")
STATUSES = ("pending", "sending", "sent", "failed", "uncertain")
NEW_STATUSES = ("delivered", "opened", "clicked", "bounced", "suppressed")
NEWEST_FIRST = (sa.text("created_at DESC"), sa.text("id DESC"))
NOW = sa.text("now()")
IS_PENDING = sa.text("status IN ('pending', 'sending')")
LISTS = (("user_id",), ("user_id", "status"), ("user_id", "event_type"))


def _time(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=True)


def _data() -> sa.Column[object]:
    return sa.Column("data", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False)


def upgrade() -> None:
    op.add_column("notification_preferences", sa.Column("email_frequency", sa.Text(), nullable=True))
    change_enum(op, "notification_preferences", "email_frequency", ("instant", "daily", "weekly", "off"))
    op.add_column("email_messages", sa.Column("is_notification", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    for name in ("account_id", "event_id"):
        op.add_column("email_messages", sa.Column(name, sa.Uuid(), nullable=True))
    for name in ("event_type", "subject_id", "name", "provider", "message_id"):
        op.add_column("email_messages", sa.Column(name, sa.Text(), nullable=True))
    op.add_column("email_messages", _data())
    for name in ("delivered_at", "opened_at", "clicked_at"):
        op.add_column("email_messages", _time(name))
    op.execute("""
        UPDATE email_messages SET account_id = user_id,
            event_type = CASE template WHEN 'password_changed' THEN 'password_changed' WHEN 'new_device' THEN 'login_new_device' END
        WHERE user_id IS NOT NULL
    """)
    op.create_foreign_key(op.f("fk_email_messages_account_id"), "email_messages", "users", ["account_id"], ["id"], ondelete="CASCADE")
    op.create_index(op.f("ix_email_messages_account_id"), "email_messages", ["account_id"])
    op.create_unique_constraint(op.f("uq_email_messages_user_id_event_id"), "email_messages", ["user_id", "event_id"])
    op.drop_index(op.f("ix_email_messages_user_id"), "email_messages")
    for columns in LISTS:
        op.create_index(f"ix_email_messages_{'_'.join(columns)}_created_at", "email_messages", [*columns, *NEWEST_FIRST])
    op.drop_index("ix_email_messages_pending", "email_messages")
    op.create_index("ix_email_messages_pending", "email_messages", ["is_notification", "run_after", "id"], postgresql_where=IS_PENDING)
    change_enum(op, "email_messages", "event_type", EVENT_TYPES)
    change_enum(op, "email_messages", "template", (*TEMPLATES, *NEW_TEMPLATES))
    change_enum(op, "email_messages", "status", (*STATUSES, *NEW_STATUSES))
    op.create_table(
        "digest_items",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        _data(),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("frequency", sa.Text(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=True),
        *(
            sa.ForeignKeyConstraint([column], [target], name=op.f(f"fk_digest_items_{column}"), ondelete="CASCADE")
            for column, target in (("user_id", "users.id"), ("account_id", "users.id"), ("message_id", "email_messages.id"))
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_digest_items")),
        sa.UniqueConstraint("user_id", "event_id", name=op.f("uq_digest_items_user_id_event_id")),
    )
    change_enum(op, "digest_items", "event_type", EVENT_TYPES)
    change_enum(op, "digest_items", "frequency", ("instant", "daily", "weekly", "off"))
    for name in ("account_id", "message_id"):
        op.create_index(op.f(f"ix_digest_items_{name}"), "digest_items", [name])
    op.create_index("ix_digest_items_due", "digest_items", ["due_at", "user_id"], postgresql_where=sa.text("message_id IS NULL"))
    op.create_table(
        "suppressed_addresses",
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("address", name=op.f("pk_suppressed_addresses")),
    )
    change_enum(op, "suppressed_addresses", "reason", ("bounced", "complained"))


def downgrade() -> None:
    op.drop_table("suppressed_addresses")
    op.drop_table("digest_items")
    op.execute("DELETE FROM email_messages WHERE is_notification")
    op.execute("""
        UPDATE email_messages SET status = CASE status WHEN 'suppressed' THEN 'failed' WHEN 'bounced' THEN 'failed' ELSE 'sent' END
        WHERE status IN ('delivered', 'opened', 'clicked', 'bounced', 'suppressed')
    """)
    change_enum(op, "email_messages", "status", STATUSES)
    change_enum(op, "email_messages", "template", TEMPLATES)
    for columns in LISTS:
        op.drop_index(f"ix_email_messages_{'_'.join(columns)}_created_at", "email_messages")
    op.create_index(op.f("ix_email_messages_user_id"), "email_messages", ["user_id"])
    for name in ("account_id", "event_id", "event_type", "subject_id", "name", "data", "provider", "message_id"):
        op.drop_column("email_messages", name)
    for name in ("delivered_at", "opened_at", "clicked_at", "is_notification"):  # with it, the index of what is pending
        op.drop_column("email_messages", name)
    op.create_index("ix_email_messages_pending", "email_messages", ["run_after", "id"], postgresql_where=IS_PENDING)
    op.drop_column("notification_preferences", "email_frequency")
