"""The audit: events, refused any change by triggers, and their seals."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from db.migrations.functions import install_function

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

NEWEST = "created_at DESC, id DESC"
REFUSED = "EXECUTE FUNCTION trellis_refuse('the audit is only ever added to')"


def upgrade() -> None:
    op.create_table(
        "audit_events",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=True),
        sa.Column("credential_id", sa.Text(), nullable=True),
        sa.Column("owner_id", sa.Uuid(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=True),
        sa.Column("before", JSONB(none_as_null=True), nullable=True),
        sa.Column("after", JSONB(none_as_null=True), nullable=True),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("ip_address", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.CheckConstraint("origin IN ('api', 'command_line')", name=op.f("ck_audit_events_origin_is_known")),
        sa.ForeignKeyConstraint(["actor_id"], ["users.id"], name=op.f("fk_audit_events_actor_id"), ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["owner_id"], ["users.id"], name=op.f("fk_audit_events_owner_id"), ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_events")),
        postgresql_partition_by="RANGE (id)",
    )
    for column in ("owner_id", "actor_id", "action", "subject_id"):
        op.execute(f"CREATE INDEX ix_audit_events_{column}_created_at ON audit_events ({column}, {NEWEST})")
    op.execute(f"CREATE INDEX ix_audit_events_created_at ON audit_events ({NEWEST})")
    # Those for rows hold for each partition, whatever table a statement names; those for TRUNCATE are made with each partition.
    op.execute(f"CREATE TRIGGER keep BEFORE UPDATE OR DELETE ON audit_events FOR EACH ROW {REFUSED}")
    op.execute(f"CREATE TRIGGER keep_all BEFORE TRUNCATE ON audit_events FOR EACH STATEMENT {REFUSED}")
    op.create_table(
        "audit_seals",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("event_ids", ARRAY(sa.Uuid()), nullable=False),
        sa.Column("newest_id", sa.Uuid(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("sealed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("cardinality(event_ids) > 0", name=op.f("ck_audit_seals_has_events")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit_seals")),
    )
    op.create_index(op.f("ix_audit_seals_newest_id"), "audit_seals", ["newest_id"])
    op.execute(f"CREATE TRIGGER keep BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_seals FOR EACH STATEMENT {REFUSED}")
    install_function(op, "trellis_make_partitions", revision)
    op.execute("SELECT trellis_make_partitions(3)")


def downgrade() -> None:
    install_function(op, "trellis_make_partitions", "0001")
    op.drop_table("audit_seals")
    op.drop_table("audit_events")
