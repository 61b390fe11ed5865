"""What is recorded of the API's use: requests, in partitions by month, and their sums by hour."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from db.migrations.functions import install_function

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

NEWEST = "created_at DESC, id DESC"


def upgrade() -> None:
    op.create_table(
        "api_requests",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("api_key_id", sa.Uuid(), nullable=True),
        sa.Column("session_id", sa.Uuid(), nullable=True),
        sa.Column("operation_name", sa.Text(), nullable=True),
        sa.Column("operation_kind", sa.Text(), nullable=False),
        sa.Column("cost", sa.Integer(), nullable=False),
        sa.Column("duration", sa.Double(), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("request_bytes", sa.BigInteger(), nullable=False),
        sa.Column("response_bytes", sa.BigInteger(), nullable=False),
        sa.Column("ip_address", sa.Text(), nullable=True),
        sa.Column("user_agent", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_api_requests_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_requests")),
        postgresql_partition_by="RANGE (id)",
    )
    for column in ("user_id", "api_key_id"):
        op.execute(f"CREATE INDEX ix_api_requests_{column}_created_at ON api_requests ({column}, {NEWEST})")
    op.create_table(
        "api_metrics",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("api_key_id", sa.Uuid(), nullable=True),
        sa.Column("operation_name", sa.Text(), nullable=True),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("errors", sa.BigInteger(), nullable=False),
        sa.Column("cost", sa.BigInteger(), nullable=False),
        sa.Column("duration", sa.Double(), nullable=False),
        sa.Column("sketch", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.CheckConstraint("requests > 0 AND errors BETWEEN 0 AND requests", name=op.f("ck_api_metrics_errors_are_requests")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_api_metrics_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_metrics")),
    )
    op.create_index(
        "uq_api_metrics_user_id_hour",
        "api_metrics",
        ["user_id", "hour", "api_key_id", "operation_name"],
        unique=True,
        postgresql_nulls_not_distinct=True,
    )
    op.create_index("ix_api_metrics_hour", "api_metrics", ["hour"])
    install_function(op, "trellis_make_partitions", revision)
    op.execute("SELECT trellis_make_partitions(3)")


def downgrade() -> None:
    install_function(op, "trellis_make_partitions", "0017")
    op.drop_table("api_metrics")
    op.drop_table("api_requests")
