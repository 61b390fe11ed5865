"""Webhooks: addresses, and deliveries to them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from db.migrations.enums import change_enum

revision = "0074"
down_revision = "0073"
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
TOLD = {"outbox_events": "type", "notifications": "type", "notification_preferences": "event_type"}
NEWEST_FIRST = (sa.text("created_at DESC"), sa.text("id DESC"))
NOW = sa.text("now()")
IS_OPEN = sa.text("status IN ('pending', 'failed')")


def _time(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=True)


def upgrade() -> None:
    for table, column in TOLD.items():
        change_enum(op, table, column, (*EVENT_TYPES, "webhook_disabled"))
    op.add_column("notification_preferences", sa.Column("webhook", sa.Boolean(), server_default=sa.text("true"), nullable=False))
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("owner_id", sa.Uuid(), nullable=False),
        sa.Column("created_by_id", sa.Uuid(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("events", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("previous_secret", sa.LargeBinary(), nullable=True),
        _time("previous_secret_until"),
        sa.Column("consecutive_failures", sa.Integer(), server_default="0", nullable=False),
        _time("failing_since"),
        sa.Column("last_error", sa.Text(), nullable=True),
        *(_time(name) for name in ("last_used_at", "disabled_at", "due_at", "claimed_until")),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.CheckConstraint("consecutive_failures >= 0", name=op.f("ck_webhook_endpoints_failures_not_negative")),
        sa.CheckConstraint(
            "(previous_secret IS NULL) = (previous_secret_until IS NULL)", name=op.f("ck_webhook_endpoints_previous_secret_has_an_end")
        ),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_webhook_endpoints_owner_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_endpoints")),
    )
    change_enum(op, "webhook_endpoints", "provider", ("generic", "slack", "discord", "teams"))
    op.create_index("ix_webhook_endpoints_owner_id_created_at", "webhook_endpoints", ["owner_id", *NEWEST_FIRST])
    op.create_index("ix_webhook_endpoints_created_at", "webhook_endpoints", [*NEWEST_FIRST])
    op.create_index(
        "ix_webhook_endpoints_due", "webhook_endpoints", ["due_at"], postgresql_where=sa.text("disabled_at IS NULL AND due_at IS NOT NULL")
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("endpoint_id", sa.Uuid(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("data", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("is_test", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("run_after", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("http_status", sa.Integer(), nullable=True),
        sa.Column("duration", sa.Double(), nullable=True),
        sa.Column("response_body", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        _time("delivered_at"),
        sa.CheckConstraint("attempts >= 0", name=op.f("ck_webhook_deliveries_attempts_not_negative")),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], ["webhook_endpoints.id"], name=op.f("fk_webhook_deliveries_endpoint_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
        sa.UniqueConstraint("endpoint_id", "event_id", name=op.f("uq_webhook_deliveries_endpoint_id_event_id")),
    )
    change_enum(op, "webhook_deliveries", "event_type", (*EVENT_TYPES, "webhook_disabled"))
    change_enum(op, "webhook_deliveries", "status", ("pending", "delivered", "failed", "abandoned"))
    op.create_index("ix_webhook_deliveries_endpoint_id_created_at", "webhook_deliveries", ["endpoint_id", *NEWEST_FIRST])
    op.create_index("ix_webhook_deliveries_endpoint_id_status_created_at", "webhook_deliveries", ["endpoint_id", "status", *NEWEST_FIRST])
    op.create_index("ix_webhook_deliveries_open", "webhook_deliveries", ["endpoint_id", "event_id"], postgresql_where=IS_OPEN)
    op.create_index(
        "ix_webhook_deliveries_open_of_subject", "webhook_deliveries", ["endpoint_id", "subject_id", "event_id"], postgresql_where=IS_OPEN
    )
    op.create_index("ix_webhook_deliveries_created_at", "webhook_deliveries", ["created_at"])


def downgrade() -> None:
    op.drop_table("webhook_deliveries")
    op.drop_table("webhook_endpoints")
    op.drop_column("notification_preferences", "webhook")
    for table, column in TOLD.items():
        op.execute(f"DELETE FROM {table} WHERE {column} = 'webhook_disabled'")  # noqa: S608 - our own names
        change_enum(op, table, column, EVENT_TYPES)
