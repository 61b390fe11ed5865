"""Events, and the notifications that tell people of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.migrations.enums import change_enum
from db.migrations.functions import drop_function, install_function

revision = "0072"
down_revision = "0071"
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
)
NEWEST_FIRST = (sa.text("created_at DESC"), sa.text("id DESC"))
BECOMES = "OLD.status <> NEW.status AND NEW.status IN ({})"
TRIGGERS = {
    "jobs": ("UPDATE OF status", BECOMES.format("'completed', 'failed', 'cancelled'") + " AND NEW.kind NOT IN ('trial', 'purge')"),
    "dataset_versions": ("UPDATE OF status", BECOMES.format("'ready', 'failed'")),
    "schema_proposals": ("INSERT", None),
    "model_versions": ("INSERT", None),
    "model_alias_events": ("INSERT", None),
    "studies": (
        "UPDATE OF status",
        BECOMES.format("'completed', 'failed', 'paused'") + " AND (NEW.status <> 'paused' OR NEW.reason <> 'user')",
    ),
    "runs": ("UPDATE OF status", "NEW.source = 'external' AND " + BECOMES.format("'completed', 'failed'")),
    "users": ("UPDATE OF credits_low_since", "OLD.credits_low_since IS NULL AND NEW.credits_low_since IS NOT NULL"),
    "credit_transactions": ("INSERT", "NEW.kind = 'purchase'"),
}
"""By table: the operations, and a condition."""


def _event() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("subject_id", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("data", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
    )


def upgrade() -> None:
    op.create_table(
        "outbox_events",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("maker_id", sa.Uuid(), nullable=True),
        sa.Column("recipient_id", sa.Uuid(), nullable=True),
        *_event(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox_events")),
    )
    change_enum(op, "outbox_events", "type", EVENT_TYPES)
    op.create_table(
        "notifications",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("recipient_id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        *_event(),
        sa.Column("read_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("sequence > 0", name=op.f("ck_notifications_sequence_positive")),
        sa.ForeignKeyConstraint(["recipient_id"], ["users.id"], name=op.f("fk_notifications_recipient_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["account_id"], ["users.id"], name=op.f("fk_notifications_account_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notifications")),
        sa.UniqueConstraint("recipient_id", "sequence", name=op.f("uq_notifications_recipient_id_sequence")),
    )
    change_enum(op, "notifications", "type", EVENT_TYPES)
    op.create_index("ix_notifications_recipient_id_created_at", "notifications", ["recipient_id", *NEWEST_FIRST])
    op.create_index("ix_notifications_recipient_id_type_created_at", "notifications", ["recipient_id", "type", *NEWEST_FIRST])
    op.create_index(
        "ix_notifications_unread", "notifications", ["recipient_id", *NEWEST_FIRST], postgresql_where=sa.text("read_at IS NULL")
    )
    op.create_index("ix_notifications_created_at", "notifications", ["created_at"])
    op.create_index(op.f("ix_notifications_account_id"), "notifications", ["account_id"])
    op.create_table(
        "inboxes",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint("last_sequence >= 0", name=op.f("ck_inboxes_last_sequence_not_negative")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_inboxes_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_inboxes")),
    )
    op.create_table(
        "notification_preferences",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("in_app", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_notification_preferences_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "event_type", name=op.f("pk_notification_preferences")),
    )
    change_enum(op, "notification_preferences", "event_type", EVENT_TYPES)
    op.add_column("users", sa.Column("quota_near_since", sa.DateTime(timezone=True), nullable=True))
    install_function(op, "trellis_add_event", revision)
    for table, (operations, condition) in TRIGGERS.items():
        when = "" if condition is None else f"WHEN ({condition})"
        op.execute(f"CREATE TRIGGER add_event AFTER {operations} ON {table} FOR EACH ROW {when} EXECUTE FUNCTION trellis_add_event()")


def downgrade() -> None:
    for table in TRIGGERS:
        op.execute(f"DROP TRIGGER add_event ON {table}")
    drop_function(op, "trellis_add_event")
    op.drop_column("users", "quota_near_since")
    for table in ("notification_preferences", "inboxes", "notifications", "outbox_events"):
        op.drop_table(table)
